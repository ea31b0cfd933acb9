//! Connections are forgotten by a middlebox, such as a firewall that restarts: data from both ends is lost, and neither end is
//! told.

use super::Stage;
use crate::cluster::member_address;
use callboard::env::network;

pub async fn strike(stage: &mut Stage) {
    let victim = stage.victim();
    let mut others = stage.cluster.all_addresses();
    others.retain(|other| *other != member_address(victim));
    stage.random.shuffle(&mut others);
    let count = stage.random.between(1, others.len() as u64) as usize;
    stage.cluster.event(
        victim,
        "! half-open",
        &format!("connections with {count} machines"),
    );
    for other in &others[..count] {
        network::forget_connections(member_address(victim), *other);
    }
}
