//! A member's machine, or every member's at once, loses power: unsynced data is lost or torn.

use super::Stage;

pub async fn strike(stage: &mut Stage) {
    let everybody = stage.random.chance(20);
    let victims = if everybody {
        (0..stage.cluster.members.len()).collect()
    } else {
        vec![stage.victim()]
    };
    for victim in &victims {
        take_power(stage, *victim).await;
    }
    stage.wait(10, 5_000).await;
    for victim in victims {
        stage.restart(victim);
    }
}

/// Cuts the power of a member's machine, whether its process runs or not.
pub async fn take_power(stage: &mut Stage, victim: usize) {
    stage.cluster.event(victim, "! power loss", "");
    match stage.cluster.cut_power(victim, &mut stage.random).await {
        Some(lost) => stage.cluster.note_lost(victim, lost),
        None => stage.cluster.lose_power_of_dead(victim, &mut stage.random),
    }
}
