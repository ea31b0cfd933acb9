//! The leader is cut off from all other members, but not from clients, which may still send it requests.

use super::Stage;

pub async fn strike(stage: &mut Stage) {
    let Some(leader) = stage.cluster.leader() else {
        return;
    };
    let others: Vec<_> = (0..stage.cluster.members.len())
        .filter(|member| *member != leader)
        .collect();
    stage.cluster.event(leader, "! isolated", "");
    for other in &others {
        stage.cluster.cut(leader, *other);
        stage.cluster.cut(*other, leader);
    }
    stage.wait(500, 6_000).await;
    for other in &others {
        stage.cluster.mend(leader, *other);
        stage.cluster.mend(*other, leader);
    }
    stage.cluster.event(leader, "isolation ends", "");
}
