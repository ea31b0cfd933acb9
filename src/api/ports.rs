//! The paths of each port, in one list: no port serves a path that is not in it.
//!
//! | port | serves |
//! |---|---|
//! | clients | etcd's gRPC services, their JSON form, health, version and metrics |
//! | peers | our own service between members, the plain paths of etcd's peer port, and of gRPC `MemberList` |
//! | metrics | health and metrics |
//!
//! The peer port often accepts connections without a client certificate and does not know users, so it must not offer what the
//! client port protects. etcd 3.6 and later serve no gRPC there at all. Up to 3.5 they served the whole API, of which tools use
//! the list of members.

/// The ports of a member, by their clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    Clients,
    Peers,
    Metrics,
}

use Port::{Clients, Metrics, Peers};

/// etcd's gRPC methods that the peer port serves.
pub const PEER_METHODS: [&str; 1] = ["/etcdserverpb.Cluster/MemberList"];

/// The services of these methods.
pub const PEER_SERVICES: [&str; 1] = ["etcdserverpb.Cluster"];

/// The prefix of the paths of our own service.
pub const MEMBERS_PACKAGE: &str = "/callboard.peer.";

/// Plain paths, and the ports that serve them. A path that ends with `/` covers all paths that begin with it.
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

/// Whether a port serves a plain path.
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
