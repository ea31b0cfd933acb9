//! The storage engine's own thread meets an error of the disk while it makes tables: once in a sync of the journal, of which
//! nobody else is told, or in all of its writes. The member must stop and say why.

use super::Stage;
use super::engine_work;
use crate::cluster::Trouble;
use crate::disk::{self, Ailment};

pub async fn strike(stage: &mut Stage) {
    let victim = stage.victim();
    let Some((state, log)) = stage.cluster.databases(victim) else {
        return;
    };
    if !stage.cluster.trouble(victim, Trouble::Ailing) {
        return;
    }
    let directory = stage.cluster.members[victim].directory.clone();
    let ailment = *stage.random.pick(&[Ailment::EngineSync, Ailment::EngineWrites]);
    let good_calls = stage.random.below(8);
    disk::fall_ill(&directory, ailment, good_calls);
    let note = format!("{ailment:?}, after {good_calls} calls more");
    stage.cluster.event(victim, "! engine meets an error", &note);
    // Whether they say so: the member finds out in its own time.
    engine_work::work_on_log(&log);
    engine_work::work_on_state(&state);
    drop((state, log));
    if disk::failed_calls(&directory) > 0 {
        stage.cluster.world.count("engines that met an error", 1);
        super::ill_disk::must_stop(stage, victim).await;
        if stage.random.chance(50) {
            stage.cluster.lose_power_of_dead(victim, &mut stage.random);
        }
    }
    stage.cluster.repair(victim).await;
    stage.restart(victim);
}
