//! A member's machine is cut off from all members and clients: inbound, outbound, or both.

use super::Stage;

pub async fn strike(stage: &mut Stage) {
    let victim = stage.victim();
    let (inwards, outwards) = *stage.random.pick(&[(true, false), (false, true), (true, true)]);
    let note = match (inwards, outwards) {
        (true, true) => "both ways",
        (true, false) => "hears nobody",
        _ => "is not heard",
    };
    stage.cluster.event(victim, "! clog", note);
    for other in stage.cluster.all_addresses() {
        stage.cluster.clog(victim, other, inwards, outwards, true);
    }
    stage.wait(100, 10_000).await;
    for other in stage.cluster.all_addresses() {
        stage.cluster.clog(victim, other, inwards, outwards, false);
    }
    stage.cluster.event(victim, "clog ends", "");
}
