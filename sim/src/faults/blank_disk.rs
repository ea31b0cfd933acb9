//! A member starts under its old name with an empty disk in place of its own. The others must refuse it, since it has forgotten
//! its votes. Then its own disk comes back.

use super::Stage;
use crate::cluster::Trouble;

pub async fn strike(stage: &mut Stage) {
    let victim = stage.victim();
    // A member that has not learned the right disk cannot recognize a wrong one, and a cluster of one has no other member.
    if !stage.cluster.disk_is_known(victim)
        || !stage.cluster.kill(victim).await
        || !stage.cluster.trouble(victim, Trouble::Blank)
    {
        return stage.restart(victim);
    }
    stage
        .cluster
        .replace_disk(victim)
        .expect("scratch files can be moved");
    stage.cluster.event(victim, "! blank disk", "");
    stage.wait(10, 1_000).await;
    stage.restart(victim);
    stage.wait(1_000, 10_000).await;
    let refused = !stage.cluster.is_running(victim);
    stage
        .cluster
        .world
        .count("blank disks refused", u64::from(refused));
    stage.cluster.repair(victim).await;
    stage.cluster.event(
        victim,
        "own disk is back",
        if refused { "the blank one was refused" } else { "" },
    );
    stage.restart(victim);
}
