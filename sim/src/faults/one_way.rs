//! Messages from one member do not reach another; the other direction still works.

use super::Stage;

pub async fn strike(stage: &mut Stage) {
    let Some((from, to)) = stage.pair() else { return };
    let name = |member: usize| stage.cluster.members[member].name.clone();
    let note = format!("{} -> {}", name(from), name(to));
    stage.cluster.cut(from, to);
    stage.cluster.world.note("! one way", &note);
    stage.wait(100, 8_000).await;
    stage.cluster.mend(from, to);
    stage.cluster.world.note("one way heals", &note);
}
