//! Bits flip between two members, undetected by the network's own checksums.

use super::Stage;
use crate::cluster::member_address;
use callboard::env::network;

pub async fn strike(stage: &mut Stage) {
    let Some((one, other)) = stage.pair() else { return };
    let permille = stage.random.between(1, 100);
    let note = format!(
        "with {}, {permille} pieces in a thousand",
        stage.cluster.members[other].name
    );
    stage.cluster.event(one, "! corruption", &note);
    let set = |permille| {
        for (from, to) in [(one, other), (other, one)] {
            network::change_road(member_address(from), member_address(to), |road| {
                road.corrupt_permille = permille
            });
        }
    };
    set(permille);
    stage.wait(500, 10_000).await;
    set(0);
    stage.cluster.event(one, "corruption ends", "");
}
