//! The status that consensus and the applier publish for all threads to read.

use crate::ids::{LogIndex, MemberId, Term};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Raft's state as an observer sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RaftStatus {
    /// False after a start until enough other members have said what they remember of this one.
    pub takes_part: bool,
    /// 0 if no leader is known.
    pub leader: MemberId,
    pub term: Term,
    pub commit_index: LogIndex,
    pub last_index: LogIndex,
    pub applied_index: LogIndex,
}

/// Raft's details beyond its status, for operators.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RaftDetails {
    /// 0 if this member has not voted in its term.
    pub vote: MemberId,
    /// In the words of etcd's raft, for example `StateLeader`.
    pub role: &'static str,
    /// The member that leadership is being transferred to; 0 if none.
    pub transferee: MemberId,
    /// The progress of all members; empty if this member does not lead.
    pub progress: Vec<MemberProgress>,
}

/// The progress of a member's log as its leader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberProgress {
    pub id: MemberId,
    pub matched: LogIndex,
    pub next: LogIndex,
    /// In the words of etcd's raft, for example `StateReplicate`.
    pub state: &'static str,
}

/// The status that consensus and the applier write and all threads read.
#[derive(Debug, Default)]
pub struct SharedStatus {
    /// Enough other members have said what they remember of this one.
    pub takes_part: AtomicBool,
    pub leader: AtomicU64,
    pub is_leader: AtomicBool,
    pub term: AtomicU64,
    /// The term in which this member leads; 0 while it does not.
    pub leading_term: AtomicU64,
    pub commit_index: AtomicU64,
    pub last_index: AtomicU64,
    pub applied_index: AtomicU64,
}

impl SharedStatus {
    /// The term in which this member leads, as far as it knows.
    pub fn leading_term(&self) -> Option<Term> {
        let term = self.leading_term.load(Ordering::Acquire);
        (term != 0).then_some(Term(term))
    }

    pub fn load(&self) -> RaftStatus {
        RaftStatus {
            takes_part: self.takes_part.load(Ordering::Acquire),
            leader: MemberId(self.leader.load(Ordering::Acquire)),
            term: Term(self.term.load(Ordering::Acquire)),
            commit_index: LogIndex(self.commit_index.load(Ordering::Acquire)),
            last_index: LogIndex(self.last_index.load(Ordering::Acquire)),
            applied_index: LogIndex(self.applied_index.load(Ordering::Acquire)),
        }
    }
}
