//! A member stands still, as by `kill -STOP` or a long stall of its machine, and then goes on as if nothing had happened.

use super::Stage;

pub async fn strike(stage: &mut Stage) {
    let victim = stage.victim();
    if stage.cluster.pause(victim) {
        stage.cluster.event(victim, "! pause", "");
        stage.wait(50, 6_000).await;
        stage.cluster.resume(victim);
        stage.cluster.event(victim, "resume", "");
    }
}
