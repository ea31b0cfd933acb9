//! A member's machine loses power, and a sector of a journal is lost that was synced before. The member must not start, since the
//! sector holds acknowledged data.

use super::Stage;
use crate::checkers::Violation;
use crate::cluster::Trouble;
use crate::disk;

pub async fn strike(stage: &mut Stage) {
    let victim = stage.victim();
    if !stage.cluster.trouble(victim, Trouble::Rotten(Vec::new())) {
        return;
    }
    super::power_loss::take_power(stage, victim).await;
    if !stage.cluster.is_idle(victim) {
        stage.cluster.repair(victim).await;
        return stage.restart(victim);
    }
    let directory = stage.cluster.members[victim].directory.clone();
    let lost = disk::lose_sector(&directory, &mut stage.random).expect("scratch files can be written");
    let is_lost = lost.is_some();
    let note = lost.as_ref().map(ToString::to_string).unwrap_or_default();
    stage.cluster.event(victim, "! lost sector", &note);
    stage
        .cluster
        .change_trouble(victim, Trouble::Rotten(lost.into_iter().collect()));
    stage.wait(10, 1_000).await;
    stage.restart(victim);
    stage.wait(1_000, 3_000).await;
    if is_lost {
        stage.cluster.world.count("synced sectors lost", 1);
        if stage.cluster.has_started(victim) {
            let name = &stage.cluster.members[victim].name;
            let text = format!("{name} has started without a part of its journals that was synced: {note}");
            stage.cluster.world.violated(Violation(text));
        }
    }
    stage.cluster.repair(victim).await;
    stage.restart(victim);
}
