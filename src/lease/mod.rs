//! The time of leases: counting down, keep-alives, and reporting expiries to the log.
//!
//! The log decides which leases exist and which keys they hold (`state::leases`). Only the leader knows when a lease expires:
//! its lessor keeps the deadlines, answers keep-alives, and proposes expiries. The lessors of the other members know the
//! leases, so that they can take over at once, and forward questions to the leader. Mirrors etcd's server/lease and the lease
//! part of server/etcdserver/v3_server.go.
//!
//! A lease never expires too early: it is kept alive only after a quorum has confirmed the leader, in a round that began after
//! the request arrived. A new leader gives each lease its full time again (or what a checkpoint has recorded) plus an election
//! timeout. Expiry is late by at most that much per change of leader.

pub mod actor;
mod forward;
pub mod handle;
pub mod lessor;
mod questions;
mod queue;
#[cfg(test)]
mod tests;

pub use handle::{Answer, AskError, LeaseHandle, Question};

/// The longest time to live (etcd: server/lease/lessor.go, `MaxLeaseTTL`), in seconds.
pub const TTL_MAX: i64 = 9_000_000_000;

/// The shortest time to live: leases must outlive an election (etcd: server/etcdserver/server.go, `minTTL`). In seconds.
pub fn ttl_min(heartbeat_ms: u64, election_ms: u64) -> i64 {
    let election_ticks = election_ms / heartbeat_ms.max(1);
    (3 * election_ticks / 2 * heartbeat_ms).div_ceil(1000) as i64
}
