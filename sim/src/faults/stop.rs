//! A member is asked to stop, as by SIGTERM, transfers its leadership and exits; it restarts after a while.

use super::Stage;
use std::time::Duration;

/// The limit of an orderly stop.
const STOP_MAX: Duration = Duration::from_secs(10);

pub async fn strike(stage: &mut Stage) {
    let victim = stage.victim();
    stop(stage, victim).await;
    stage.wait(10, 5_000).await;
    stage.restart(victim);
}

/// Asks a member to stop, and waits until it has.
pub async fn stop(stage: &mut Stage, member: usize) {
    stage.cluster.event(member, "! asked to stop", "");
    let life = stage.cluster.life(member);
    if stage.cluster.ask_to_stop(member) && stage.wait_for_end(member, life, STOP_MAX).await {
        stage.cluster.event(member, "stopped", "");
        stage.cluster.world.count("members stopped in order", 1);
    }
}
