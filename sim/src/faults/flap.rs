//! The link between two members goes down and comes back repeatedly.

use super::Stage;

pub async fn strike(stage: &mut Stage) {
    let Some((one, other)) = stage.pair() else { return };
    let rounds = stage.random.between(3, 20);
    let name = |member: usize| stage.cluster.members[member].name.clone();
    let note = format!("{} - {}, {rounds} times", name(one), name(other));
    stage.cluster.world.note("! flap", &note);
    for _ in 0..rounds {
        stage.cluster.cut(one, other);
        stage.cluster.cut(other, one);
        stage.wait(10, 600).await;
        stage.cluster.mend(one, other);
        stage.cluster.mend(other, one);
        stage.wait(10, 600).await;
    }
    stage.cluster.world.note("flap ends", "");
}
