//! Leases in time: who counts down, who keeps alive, who tells the log that a lease has expired.
//!
//! What a lease is and which keys it holds is decided by the log (`state::leases`). When it ends is known to the leader
//! alone: its lessor keeps the deadlines, answers whoever keeps leases alive, and proposes what has expired. The lessors
//! of the other members know the leases, so that they can take over at once, and pass questions on to the leader.
//! Mirrors etcd's server/lease and the lease part of server/etcdserver/v3_server.go.
//!
//! Never too early: a lease is kept alive only after a quorum has confirmed the leader, in a round that began after the
//! question came, and a new leader gives each lease all of its time again (or what a checkpoint has left of it) and an
//! election timeout on top. Late by at most that much per change of leader.

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
