//! Some machines are cut off one after another, and restored one after another in another order, so that their knowledge of each
//! other is from different times (FoundationDB's swizzle-clogging).

use super::Stage;

pub async fn strike(stage: &mut Stage) {
    let mut victims: Vec<_> = (0..stage.cluster.members.len()).collect();
    stage.random.shuffle(&mut victims);
    let count = stage.random.between(1, victims.len() as u64) as usize;
    victims.truncate(count);
    for victim in &victims {
        stage.cluster.event(*victim, "! swizzle clogs", "");
        set(stage, *victim, true);
        stage.wait(10, 2_000).await;
    }
    stage.random.shuffle(&mut victims);
    for victim in &victims {
        set(stage, *victim, false);
        stage.cluster.event(*victim, "swizzle frees", "");
        stage.wait(10, 2_000).await;
    }
}

fn set(stage: &Stage, victim: usize, is_cut: bool) {
    for other in stage.cluster.all_addresses() {
        stage.cluster.clog(victim, other, true, true, is_cut);
    }
}
