//! Communication of members: one link actor per remote member, gRPC streams on the peer URL, and the service that accepts
//! them. Both ends run on the consensus thread, so that no scan delays a heartbeat.

pub mod answers;
pub mod caller;
pub mod envelope;
pub mod identity;
pub mod link;
pub mod links;
mod progress;
pub mod service;
pub mod sessions;
pub mod snapshot_receive;
mod snapshot_send;
