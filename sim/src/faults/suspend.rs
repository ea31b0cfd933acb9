//! A member's machine is suspended, as a virtual machine that is migrated: its monotonic clock does not count the time.

use super::Stage;
use crate::cluster::member_address;
use callboard::env::clock;

pub async fn strike(stage: &mut Stage) {
    let victim = stage.victim();
    if !stage.cluster.pause(victim) {
        return;
    }
    stage.cluster.event(victim, "! suspend", "");
    stage.wait(50, 20_000).await;
    // Unless its process has ended meanwhile: a new process has seen all of its own time.
    if let Some(since) = stage.cluster.resume(victim) {
        clock::hide(member_address(victim), crate::world::elapsed() - since);
    }
    stage.cluster.event(victim, "awake", "");
}
