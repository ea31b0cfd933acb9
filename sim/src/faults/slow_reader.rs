//! A member reads slowly, so that its senders have to wait.

use super::Stage;
use crate::cluster::member_address;
use callboard::env::network::{self, SlowReading};
use std::time::Duration;

pub async fn strike(stage: &mut Stage) {
    let victim = stage.victim();
    let how = SlowReading {
        bytes: stage.random.between(16, 2_048) as usize,
        pause: Duration::from_micros(stage.random.between(500, 50_000)),
    };
    stage.cluster.event(
        victim,
        "! reads slowly",
        &format!("{} bytes every {:?}", how.bytes, how.pause),
    );
    network::read_slowly(member_address(victim), Some(how));
    stage.wait(500, 8_000).await;
    network::read_slowly(member_address(victim), None);
    stage.cluster.event(victim, "reads fast again", "");
}
