//! A link between two members has little bandwidth.

use super::Stage;
use crate::cluster::member_address;
use callboard::env::network;

pub async fn strike(stage: &mut Stage) {
    let Some((one, other)) = stage.pair() else { return };
    let rate = *stage.random.pick(&[500, 5_000, 50_000]);
    let note = format!("with {}, {rate} bytes/s", stage.cluster.members[other].name);
    stage.cluster.event(one, "! narrow link", &note);
    let set = |rate| {
        for (from, to) in [(one, other), (other, one)] {
            network::change_road(member_address(from), member_address(to), |road| {
                road.bytes_per_second = rate
            });
        }
    };
    set(Some(rate));
    stage.wait(500, 10_000).await;
    set(None);
    stage.cluster.event(one, "link is wide again", "");
}
