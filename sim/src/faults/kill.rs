//! A member's process is killed, as by `kill -9`, and restarts after a while.

use super::Stage;

pub async fn strike(stage: &mut Stage) {
    let victim = stage.victim();
    stage.cluster.event(victim, "! kill", "");
    if stage.cluster.kill(victim).await {
        stage.wait(10, 8_000).await;
        stage.restart(victim);
    }
}
