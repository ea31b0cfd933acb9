//! A connection that a member opened and has given up since comes to another one late, behind the one that they use: what
//! was on its way over a bad road arrives when that is mended.

use super::Stage;
use crate::cluster::Cluster;
use callboard::peer::link;

pub fn strike(stage: &mut Stage) {
    if let Some((from, to)) = stage.pair() {
        open(&stage.cluster, from, to);
    }
}

/// Has such a connection come from one member to another, if they run. It is given up as soon as it is answered.
pub fn open(cluster: &Cluster, from: usize, to: usize) {
    let Some(remote) = cluster.remote(from, to) else {
        return;
    };
    let name = &cluster.members[to].name;
    cluster.event(from, "! late connection", &format!("to {name}"));
    cluster.on_machine(from, async move { drop(link::open(&remote, 0).await) });
}
