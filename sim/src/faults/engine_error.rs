//! The storage engine's own thread meets a disk error: in a sync of the journal or in a write while it writes tables, or in a
//! sync whose error it has not reported yet. The member must stop and give the reason, and acknowledge nothing.

use super::Stage;
use super::engine_work;
use crate::cluster::Trouble;
use crate::disk::{self, Ailment};
use crate::world::elapsed;
use std::time::Duration;

/// A member with something to sync syncs within this time.
const SYNCS_WITHIN: Duration = Duration::from_secs(5);

pub async fn strike(stage: &mut Stage) {
    let victim = stage.victim();
    if stage.cluster.databases(victim).is_none() || !stage.cluster.trouble(victim, Trouble::Ailing) {
        return;
    }
    let life = stage.cluster.life(victim);
    let has_failed = if stage.random.chance(50) {
        fail_in_secret(stage, victim, life).await
    } else {
        fail_at_work(stage, victim)
    };
    if has_failed {
        super::ill_disk::must_stop(stage, victim, life).await;
        if stage.random.chance(50) {
            stage.cluster.lose_power_of_dead(victim, &mut stage.random);
        }
    }
    // A member that has met no error yet would meet it later.
    stage.cluster.kill(victim).await;
    stage.cluster.repair(victim).await;
    stage.restart(victim);
}

/// Work that meets an error. Whether it is reported is not checked: the member finds out in its own time.
fn fail_at_work(stage: &mut Stage, victim: usize) -> bool {
    let Some((state, log)) = stage.cluster.databases_in_trouble(victim) else {
        return false;
    };
    let directory = stage.cluster.members[victim].directory.clone();
    let ailment = *stage.random.pick(&[Ailment::EngineSync, Ailment::EngineWrites]);
    let good_calls = stage.random.below(8);
    disk::fall_ill(&directory, ailment, good_calls);
    let note = format!("{ailment:?}, after {good_calls} calls more");
    stage.cluster.event(victim, "! engine meets an error", &note);
    engine_work::work_on_log(&log);
    engine_work::work_on_state(&state);
    let has_failed = disk::failed_calls(&directory) > 0;
    stage
        .cluster
        .world
        .count("engines that met an error", u64::from(has_failed));
    has_failed
}

/// A sync error of the log that the engine has not recorded yet: entries that wait to be synced must not be acknowledged.
async fn fail_in_secret(stage: &mut Stage, victim: usize, life: Option<u64>) -> bool {
    let log = stage.cluster.members[victim].directory.join("log");
    let deadline = elapsed() + SYNCS_WITHIN;
    for _ in 0..500 {
        if stage.cluster.life(victim) != life {
            return false;
        }
        if disk::hide_error(&log) {
            stage
                .cluster
                .event(victim, "! engine meets an error", "and has not said so");
            // A member with nothing to sync cannot know. Nor can a process that is started later: the descriptor that would
            // report the error is closed, and a start reads what is on disk.
            while stage.cluster.life(victim) == life && disk::syncs_since_error(&log) == 0 {
                stage.cluster.resume(victim);
                if elapsed() > deadline {
                    return false;
                }
                stage.wait(1, 3).await;
            }
            stage.cluster.world.count("errors that only an engine knew", 1);
            return true;
        }
        stage.wait(1, 3).await;
    }
    false
}
