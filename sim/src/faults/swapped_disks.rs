//! Two members start with each other's disks. Both must refuse to. Then the disks are swapped back.

use super::Stage;
use crate::checkers::Violation;
use crate::cluster::Trouble;

pub async fn strike(stage: &mut Stage) {
    let Some((one, other)) = stage.pair() else { return };
    // A member knows the wrong disk by the peer URL in its flags, and the disk may not know yet where the member has moved.
    if stage.cluster.has_moved(one) || stage.cluster.has_moved(other) {
        return;
    }
    stage.cluster.kill(one).await;
    stage.cluster.kill(other).await;
    // A member would make an empty disk its own.
    let is_founded = |member: usize| stage.cluster.members[member].directory.join("identity").exists();
    if stage.cluster.is_idle(one)
        && stage.cluster.is_idle(other)
        && is_founded(one)
        && is_founded(other)
        && stage.cluster.trouble(one, Trouble::Swapped(other))
    {
        if stage.cluster.trouble(other, Trouble::Swapped(one)) {
            swap(stage, one, other).await;
        } else {
            stage.cluster.change_trouble(one, Trouble::Ailing);
            stage.cluster.repair(one).await;
        }
    }
    stage.restart(one);
    stage.restart(other);
}

async fn swap(stage: &mut Stage, one: usize, other: usize) {
    stage
        .cluster
        .exchange_disks(one, other)
        .expect("scratch files can be moved");
    let name = stage.cluster.members[other].name.clone();
    stage
        .cluster
        .event(one, "! disks swapped", &format!("with {name}"));
    stage.wait(10, 1_000).await;
    stage.restart(one);
    stage.restart(other);
    stage.wait(500, 5_000).await;
    for member in [one, other] {
        let name = &stage.cluster.members[member].name;
        if !stage.cluster.is_running(member) {
            stage.cluster.world.count("swapped disks refused", 1);
        } else if stage.cluster.views(member).is_some() {
            let text = format!("{name} runs with another member's disk");
            stage.cluster.world.violated(Violation(text));
        }
    }
    stage.cluster.repair(one).await;
    stage.cluster.event(one, "own disks are back", "");
}
