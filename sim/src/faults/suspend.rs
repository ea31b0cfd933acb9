//! A member's machine is suspended, as a virtual one that is moved: its monotonic clock does not see the time that passes.

use super::Stage;
use crate::cluster::member_address;
use callboard::env::clock;

pub async fn strike(stage: &mut Stage) {
    let victim = stage.victim();
    if !stage.cluster.pause(victim) {
        return;
    }
    stage.cluster.event(victim, "! suspend", "");
    let begin = crate::world::elapsed();
    stage.wait(50, 20_000).await;
    clock::hide(member_address(victim), crate::world::elapsed() - begin);
    stage.cluster.resume(victim);
    stage.cluster.event(victim, "awake", "");
}
