//! A member's machine loses power, or its process is killed, at one of its disk calls: in the middle of a commit or of a start,
//! where no simulated time passes.

use super::Stage;
use crate::cluster::{self, Trouble};
use crate::disk::{self, Ailment};
use callboard::env::network;
use std::path::Path;

/// The number of calls that a member makes in some seconds, or in a start.
const CALLS_MAX: u64 = 120;

pub async fn strike(stage: &mut Stage) {
    let victim = stage.victim();
    // The remains of its process may stop because they cannot write.
    if !stage.cluster.trouble(victim, Trouble::Ailing) {
        return;
    }
    let directory = stage.cluster.members[victim].directory.clone();
    let calls = stage.random.below(CALLS_MAX);
    let starts = stage.random.chance(40);
    if starts {
        stage.cluster.kill(victim).await;
    }
    disk::fall_ill_and(&directory, Ailment::Crash, calls, Some(darken));
    let note = format!(
        "after {calls} calls more{}",
        if starts { ", from its start on" } else { "" }
    );
    stage.cluster.event(victim, "! crash point", &note);
    if starts {
        stage.restart(victim);
    }
    for _ in 0..1_000 {
        stage.wait(1, 3).await;
        if disk::failed_calls(&directory) > 0 {
            break;
        }
    }
    if disk::failed_calls(&directory) > 0 {
        let counter = if starts {
            "crashes within a start"
        } else {
            "crashes within work"
        };
        stage.cluster.world.count(counter, 1);
        stage.cluster.kill(victim).await;
        while !stage.cluster.is_idle(victim) {
            stage.wait(1, 3).await;
        }
        if stage.random.chance(70) {
            stage.cluster.lose_power_of_dead(victim, &mut stage.random);
        }
    }
    stage.cluster.repair(victim).await;
    stage.wait(10, 2_000).await;
    stage.restart(victim);
}

/// The machine becomes silent at the call.
fn darken(directory: &Path) {
    if let Some(number) = cluster::member_of(directory) {
        network::darken(cluster::member_address(number));
    }
}
