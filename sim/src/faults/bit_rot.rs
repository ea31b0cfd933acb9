//! Bits flip in the files of a member that does not run. It must detect this, at its start or when it reads them, and stop; or
//! get the data from elsewhere; or raise the alarm CORRUPT when it scrubs its disk. It never serves a wrong value.

use super::Stage;
use crate::cluster::Trouble;
use crate::disk;
use crate::workloads::corrupt_alarm;
use std::time::Duration;

/// How long an operator tries to disarm the alarm while other faults strike; the recovery phase tries again.
const DISARM_MAX: Duration = Duration::from_secs(10);

pub async fn strike(stage: &mut Stage) {
    let victim = stage.victim();
    if !stage.cluster.kill(victim).await || !stage.cluster.trouble(victim, Trouble::Rotten(Vec::new())) {
        return stage.restart(victim);
    }
    let directory = stage.cluster.members[victim].directory.clone();
    let bits = stage.random.between(1, 3);
    let flips = disk::rot(&directory, bits, &mut stage.random).expect("scratch files can be written");
    let note: Vec<_> = flips.iter().map(ToString::to_string).collect();
    stage.cluster.event(victim, "! bit rot", &note.join(", "));
    stage.cluster.world.count("bits rotten", flips.len() as u64);
    stage.cluster.change_trouble(victim, Trouble::Rotten(flips));
    stage.wait(10, 1_000).await;
    stage.restart(victim);
    stage.wait(1_000, 8_000).await;
    let noticed = !stage.cluster.is_running(victim);
    stage.cluster.world.count("bit rot noticed", u64::from(noticed));
    stage.cluster.repair(victim).await;
    stage.cluster.event(
        victim,
        "bit rot ends",
        if noticed { "it was noticed" } else { "" },
    );
    stage.restart(victim);
    let everybody: Vec<_> = (0..stage.cluster.members.len()).collect();
    corrupt_alarm::disarm(&stage.cluster, &everybody, DISARM_MAX).await;
}
