//! A member is paused, as by `kill -STOP` or a long stall of its machine, and then continues as if nothing had happened.

use super::Stage;

pub async fn strike(stage: &mut Stage, ms_max: u64) {
    let victim = stage.victim();
    if stage.cluster.pause(victim) {
        stage.cluster.event(victim, "! pause", "");
        stage.wait(50, ms_max).await;
        stage.cluster.resume(victim);
        stage.cluster.event(victim, "resume", "");
    }
}
