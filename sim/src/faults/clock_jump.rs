//! A member's wall clock jumps, forwards or back, and is corrected after a while.

use super::Stage;
use crate::cluster::member_address;
use callboard::env::clock;

pub async fn strike(stage: &mut Stage) {
    let victim = stage.victim();
    let range_ms = *stage.random.pick(&[2_000, 600_000, 100_000_000]);
    let offset_ms = stage.random.between(0, 2 * range_ms) as i64 - range_ms as i64;
    stage
        .cluster
        .event(victim, "! clock jumps", &format!("by {offset_ms} ms"));
    clock::set_wall_offset_ms(member_address(victim), offset_ms);
    stage.wait(500, 10_000).await;
    clock::set_wall_offset_ms(member_address(victim), 0);
    stage.cluster.event(victim, "clock is set right", "");
}
