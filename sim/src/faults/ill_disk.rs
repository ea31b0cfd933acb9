//! A member's disk returns errors: the member must stop and give the reason, never continue. It starts again once the disk works.

use super::Stage;
use crate::checkers::Violation;
use crate::cluster::Trouble;
use crate::disk::{self, Ailment};
use std::time::Duration;

/// A member that was told of an error stops within this time.
const STOP_MAX: Duration = Duration::from_secs(5);
/// Interval between checks whether another fault has paused it.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

pub async fn strike(stage: &mut Stage, ailment: Ailment) {
    let victim = stage.victim();
    if !stage.cluster.trouble(victim, Trouble::Ailing) {
        return;
    }
    let directory = stage.cluster.members[victim].directory.clone();
    let good_calls = stage.random.below(20);
    disk::fall_ill(&directory, ailment, good_calls);
    stage.cluster.event(
        victim,
        "! disk falls ill",
        &format!("{ailment:?}, after {good_calls} calls more"),
    );
    if ailment == Ailment::Reads || stage.random.chance(20) {
        // A member reads most during its start.
        stage.cluster.kill(victim).await;
        stage.wait(10, 500).await;
        stage.restart(victim);
    }
    for _ in 0..stage.random.between(10, 200) {
        stage.wait(10, 50).await;
        if disk::failed_calls(&directory) > 0 {
            break;
        }
    }
    let failed = disk::failed_calls(&directory);
    if failed > 0 {
        stage.cluster.world.count(counter(ailment), 1);
        let life = stage.cluster.life(victim);
        must_stop(stage, victim, life).await;
        if ailment == Ailment::Syncs && stage.random.chance(50) {
            stage.cluster.lose_power_of_dead(victim, &mut stage.random);
        }
        // A restart before the disk works only makes it stop again.
        stage.wait(10, 1_000).await;
        stage.restart(victim);
        stage.wait(10, 2_000).await;
    }
    stage.cluster.repair(victim).await;
    stage
        .cluster
        .event(victim, "disk is well", &format!("{failed} calls had failed"));
    stage.restart(victim);
}

/// The process of a member that was told of an error, if it still exists, must end. A paused process cannot stop, so it is
/// resumed whenever another fault pauses it. A process that another fault ended counts as stopped.
pub(super) async fn must_stop(stage: &mut Stage, victim: usize, life: Option<u64>) {
    let deadline = crate::world::elapsed() + STOP_MAX;
    while crate::world::elapsed() < deadline {
        stage.cluster.resume(victim);
        if stage.wait_for_end(victim, life, LOOK_AGAIN).await {
            return;
        }
    }
    let name = &stage.cluster.members[victim].name;
    let file = disk::first_failed(&stage.cluster.members[victim].directory);
    let text = format!("{name} goes on {STOP_MAX:?} after its disk returned an error for {file:?}");
    stage.cluster.world.violated(Violation(text));
}

const fn counter(ailment: Ailment) -> &'static str {
    match ailment {
        Ailment::Syncs => "disks that failed to sync",
        Ailment::Writes => "disks that failed to write",
        Ailment::Reads => "disks that failed to read",
        Ailment::Full => "disks that were full",
        Ailment::EngineSync | Ailment::EngineWrites | Ailment::Crash => "disks that failed otherwise",
    }
}
