//! A connection that a member opened and has given up since comes to another one late, behind the one that they use: what
//! was on its way over a bad road arrives when that is mended.

use super::Stage;
use crate::cluster::{Cluster, peer_url};
use callboard::cluster::MemberUrl;
use callboard::ids::MemberId;
use callboard::peer::link::{self, Remote};

pub fn strike(stage: &mut Stage) {
    if let Some((from, to)) = stage.pair() {
        open(&stage.cluster, from, to);
    }
}

/// Has such a connection come from one member to another, if they run. It is given up as soon as it is answered.
pub fn open(cluster: &Cluster, from: usize, to: usize) {
    let (Some(own), Some(member)) = (cluster.identity(from), cluster.member_id(to)) else {
        return;
    };
    let name = &cluster.members[to].name;
    cluster.event(from, "! late connection", &format!("to {name}"));
    let remote = Remote {
        own,
        member: MemberId(member),
        urls: vec![MemberUrl::parse(&peer_url(to)).expect("a URL")],
        dialler: None,
    };
    cluster.on_machine(from, async move { drop(link::open(&remote, 0).await) });
}
