//! Which port answers what, in one list: a path that is not in it is answered nowhere.
//!
//! | port | answers |
//! |---|---|
//! | clients | etcd's gRPC services, their JSON form, health, version and metrics |
//! | peers | our own service between members, the plain paths of etcd's peer port, and of gRPC `MemberList` |
//! | metrics | health and metrics |
//!
//! The peer port often takes connections without a client certificate and knows no users, so that it must not offer what the
//! client port guards. etcd 3.6 and later speak no gRPC there at all; up to 3.5 the whole API was there, and of it the list
//! of members is what people use.

/// The ports of a member, by whom they are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    Clients,
    Peers,
    Metrics,
}

use Port::{Clients, Metrics, Peers};

/// gRPC methods of etcd's that the peer port answers.
pub const PEER_METHODS: [&str; 1] = ["/etcdserverpb.Cluster/MemberList"];

/// The services that these belong to.
pub const PEER_SERVICES: [&str; 1] = ["etcdserverpb.Cluster"];

/// With what the paths of our own service begin.
pub const MEMBERS_PACKAGE: &str = "/callboard.peer.";

/// Plain paths, and the ports that answer them. One that ends with `/` stands for all that begin with it.
pub const PLAIN_PATHS: [(&str, &[Port]); 17] = [
    ("/version", &[Clients, Peers]),
    ("/health", &[Clients, Metrics]),
    ("/livez", &[Clients, Metrics]),
    ("/livez/", &[Clients, Metrics]),
    ("/readyz", &[Clients, Metrics]),
    ("/readyz/", &[Clients, Metrics]),
    ("/metrics", &[Clients, Metrics]),
    ("/debug/vars", &[Clients]),
    ("/config/local/log", &[Clients]),
    ("/members", &[Peers]),
    ("/members/hashkv", &[Peers]),
    ("/members/promote/", &[Peers]),
    ("/raft", &[Peers]),
    ("/raft/", &[Peers]),
    ("/leases", &[Peers]),
    ("/leases/internal", &[Peers]),
    ("/downgrade/enabled", &[Peers]),
];

/// Whether a port answers a plain path.
pub fn answers(port: Port, path: &str) -> bool {
    PLAIN_PATHS.iter().any(|(known, ports)| {
        let fits = if known.ends_with('/') {
            path.starts_with(known)
        } else {
            path == *known
        };
        fits && ports.contains(&port)
    })
}
