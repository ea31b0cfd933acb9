//! A connection that one member opened and has given up reaches another member late, after the one that they use: it was in
//! flight on a bad route, and arrives when the route is restored.

use super::Stage;
use crate::cluster::Cluster;
use callboard::peer::link;

pub fn strike(stage: &mut Stage) {
    if let Some((from, to)) = stage.pair() {
        open(&stage.cluster, from, to);
    }
}

/// Opens such a connection from one member to another, if they run. It is given up as soon as it is accepted.
pub fn open(cluster: &Cluster, from: usize, to: usize) {
    let Some(remote) = cluster.remote(from, to) else {
        return;
    };
    let name = &cluster.members[to].name;
    cluster.event(from, "! late connection", &format!("to {name}"));
    cluster.on_machine(from, async move { drop(link::open(&remote, 0).await) });
}
