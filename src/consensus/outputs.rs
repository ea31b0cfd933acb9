//! What the core tells its caller to do, and what it reports of its leadership.

use super::log_fetches::Stretch;
use crate::ids::{LogIndex, MemberId, Term};
use crate::proto::peer;
use crate::requests::SharedStatus;
use crate::state::CommittedEntry;
use crate::storage::log::Cut;
use std::sync::atomic::Ordering;

/// A write to the log's disk. Writes are made in order.
#[derive(Debug)]
pub struct LogWrite {
    /// Counts writes. To be passed to [`Core::persisted`](super::core::Core::persisted) once the write is on disk.
    pub number: u64,
    pub entries: Vec<peer::Entry>,
    pub replaces_suffix: bool,
    pub hard_state: Option<peer::HardState>,
}

/// A snapshot that raft accepted: the state is replaced, and the log starts again after it.
#[derive(Debug)]
pub struct Restore {
    pub number: u64,
    pub cut: Cut,
    pub hard_state: peer::HardState,
}

/// The leader, as far as this member knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    pub term: Term,
    /// 0 if no leader is known.
    pub leader: MemberId,
    pub is_leader: bool,
}

impl Leadership {
    pub(super) fn publish(self, status: &SharedStatus) {
        status.term.store(self.term.0, Ordering::Release);
        status.leader.store(self.leader.0, Ordering::Release);
        status.is_leader.store(self.is_leader, Ordering::Release);
        let leading_term = if self.is_leader { self.term.0 } else { 0 };
        status.leading_term.store(leading_term, Ordering::Release);
    }

    /// Logs in the words of etcd's raft/node.go, which tools look for.
    pub(super) fn announce(self, member: MemberId, before: MemberId) {
        let Self { term, leader, .. } = self;
        let nobody = MemberId(0);
        tracing::info!(%member, term = term.0, %leader, "raft leadership");
        if leader == before {
            return;
        }
        if leader == nobody {
            tracing::info!(target: "raft", "raft.node: {member} lost leader {before} at term {term}");
        } else if before == nobody {
            tracing::info!(target: "raft", "raft.node: {member} elected leader {leader} at term {term}");
        } else {
            tracing::info!(
                target: "raft", "raft.node: {member} changed leader from {before} to {leader} at term {term}"
            );
        }
    }
}

#[derive(Debug, Default)]
pub struct Outputs {
    pub send: Vec<peer::Message>,
    pub write: Vec<LogWrite>,
    /// To be carried out after the writes with lower numbers and before those with higher ones.
    pub restore: Option<Restore>,
    pub committed: Vec<CommittedEntry>,
    /// Reads asked for with this context may be answered once the index is applied.
    pub reads: Vec<(ReadContext, LogIndex)>,
    /// To be read from the log's disk, for [`Core::fetched`](super::core::Core::fetched).
    pub fetch: Vec<Stretch>,
    /// Enough members were heard. The start is to be counted on disk, then
    /// [`Core::start_counted`](super::core::Core::start_counted) called.
    pub count_start: bool,
}

/// Identifies a ReadIndex request. Unique in the cluster, since raft ignores a repeated one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadContext {
    /// Random, one per process.
    pub nonce: u64,
    /// Counts the process's requests.
    pub count: u64,
}

impl ReadContext {
    pub(super) fn to_bytes(self) -> Vec<u8> {
        [self.nonce.to_be_bytes(), self.count.to_be_bytes()].concat()
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (nonce, count) = bytes.split_first_chunk::<8>()?;
        Some(Self {
            nonce: u64::from_be_bytes(*nonce),
            count: u64::from_be_bytes(count.try_into().ok()?),
        })
    }
}
