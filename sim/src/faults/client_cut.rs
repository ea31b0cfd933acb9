//! Clients and a member cannot reach each other, in one direction or both, while the members still reach each other.

use super::Stage;

pub async fn strike(stage: &mut Stage) {
    let victim = stage.victim();
    let (inwards, outwards) = *stage.random.pick(&[(true, false), (false, true), (true, true)]);
    let clients: Vec<_> = stage.cluster.clients.clone();
    let everybody = stage.random.chance(50);
    let clients = if everybody {
        clients
    } else {
        vec![*stage.random.pick(&clients)]
    };
    let note = format!("{} of the clients", clients.len());
    stage.cluster.event(victim, "! clients cut off", &note);
    for client in &clients {
        stage.cluster.clog(victim, *client, inwards, outwards, true);
    }
    stage.wait(100, 10_000).await;
    for client in &clients {
        stage.cluster.clog(victim, *client, inwards, outwards, false);
    }
    stage.cluster.event(victim, "clients are back", "");
}
