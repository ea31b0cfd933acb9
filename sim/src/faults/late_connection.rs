//! A connection that a member opened and has given up since comes to another one late, behind the one that they use: what
//! was on its way over a bad road arrives when that is mended.

use super::Stage;
use crate::cluster::member_address;
use callboard::cluster::MemberUrl;
use callboard::peer::link::{self, Remote};

pub fn strike(stage: &mut Stage) {
    let Some((from, to)) = stage.pair() else { return };
    let cluster = &stage.cluster;
    let (Some(own), Some(member)) = (cluster.identity(from), cluster.member_id(to)) else {
        return;
    };
    cluster.event(
        from,
        "! late connection",
        &format!("to {}", cluster.members[to].name),
    );
    let url = format!("http://{}:2380", member_address(to));
    let remote = Remote {
        own,
        member: callboard::ids::MemberId(member),
        urls: vec![MemberUrl::parse(&url).expect("a URL")],
        dialler: None,
    };
    // Given up as soon as it is answered.
    cluster.on_machine(from, async move { drop(link::open(&remote, 0).await) });
}
