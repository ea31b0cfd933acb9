//! A member starts with an older copy of its own disk (a stale replica), as when a virtual machine is rolled back: it has
//! forgotten votes and entries that it promised to keep. It must stop before it takes part again, however often it is started and
//! killed before that. Then its own disk comes back.

use super::Stage;
use crate::checkers::Violation;
use crate::cluster::Trouble;

pub async fn strike(stage: &mut Stage) {
    let victim = stage.victim();
    // A start that does not count yet leaves its name to the next one, so the copy would make the same start.
    let counts = stage.cluster.takes_part(victim);
    let copied = stage.cluster.start_of(victim);
    // The only voter has nobody to ask. A copy of its disk from that time cannot know that there are others now.
    let views = stage.cluster.views(victim);
    let is_alone = views.is_none_or(|views| views.load().cluster.conf_state.voters.len() < 2);
    if !stage.cluster.kill(victim).await {
        return;
    }
    if !counts || is_alone || !stage.cluster.is_idle(victim) || !stage.cluster.copy_disk(victim) {
        return stage.restart(victim);
    }
    stage.wait(10, 200).await;
    stage.restart(victim);
    stage.wait(3_000, 10_000).await;
    // On a full disk a start has the name of the one before. A member that has not recorded this start cannot tell that the copy
    // is older. A cluster of one has no other member.
    if stage.cluster.start_of(victim) == copied
        || !stage.cluster.start_is_known(victim)
        || !stage.cluster.kill(victim).await
        || !stage.cluster.trouble(victim, Trouble::Older)
    {
        return stage.restart(victim);
    }
    stage
        .cluster
        .put_copy_in_place(victim)
        .expect("scratch files can be moved");
    stage.cluster.event(victim, "! older disk", "");
    if stage.random.chance(50) {
        restart_others(stage, victim).await;
    }
    stage.wait(10, 1_000).await;
    for _ in 0..stage.random.below(6) {
        stage.restart(victim);
        stage.wait(1, 800).await;
        check_takes_no_part(stage, victim);
        stage.cluster.kill(victim).await;
        stage.wait(1, 100).await;
    }
    stage.restart(victim);
    stage.wait(1_000, 10_000).await;
    check_takes_no_part(stage, victim);
    let refused = !stage.cluster.is_running(victim);
    let world = &stage.cluster.world;
    world.count("older disks refused", u64::from(refused));
    stage.cluster.repair(victim).await;
    stage.cluster.event(
        victim,
        "own disk is back",
        if refused { "the older one was refused" } else { "" },
    );
    stage.restart(victim);
}

/// Restarts the others, so that they know only what they have on disk.
async fn restart_others(stage: &Stage, victim: usize) {
    for other in (0..stage.cluster.members.len()).filter(|other| *other != victim) {
        if stage.cluster.kill(other).await {
            stage.restart(other);
        }
    }
}

fn check_takes_no_part(stage: &Stage, victim: usize) {
    if stage.cluster.takes_part(victim) {
        let name = &stage.cluster.members[victim].name;
        let text = format!("{name} takes part with an older copy of its disk");
        stage.cluster.world.violated(Violation(text));
    }
}
