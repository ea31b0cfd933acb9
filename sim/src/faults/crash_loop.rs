//! A member's process is killed several times, mostly before it has finished starting.

use super::Stage;

pub async fn strike(stage: &mut Stage) {
    let victim = stage.victim();
    let rounds = stage.random.between(2, 6);
    stage
        .cluster
        .event(victim, "! crash loop", &format!("{rounds} times"));
    for _ in 0..rounds {
        stage.cluster.kill(victim).await;
        stage.wait(1, 50).await;
        stage.cluster.restart(victim);
        stage.wait(1, 400).await;
    }
    stage.cluster.event(victim, "crash loop ends", "");
}
