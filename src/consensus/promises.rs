//! What other members have promised to this one: terms, votes and entries on their disks. Raft relies on a promise while its
//! term lasts, so a disk that holds less than its member has promised is an older copy.
//!
//! Promises are kept in memory: only this member relies on them, and after its own restart it relies on none.

use crate::ids::{LogIndex, MemberId, Term};
use crate::proto::peer::Recollection;
use raft::eraftpb::{Message, MessageType};
use raft::{Raft, StateRole, Storage};
use std::collections::BTreeMap;

/// What one member has promised in the newest term in which this member has heard it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Promise {
    term: u64,
    /// It has voted for this member.
    voted: bool,
    /// The newest entry that it has on disk according to its own messages, with the entry's term: what a follower has
    /// acknowledged to this member, or what a leader says of itself. In that term the entry stays.
    acknowledged: Option<(u64, u64)>,
}

impl Promise {
    fn acknowledge(&mut self, index: u64, term: u64) {
        if self.acknowledged.is_none_or(|(newest, _)| newest < index) {
            self.acknowledged = Some((index, term));
        }
    }
}

/// The newest entry that a leader has on its own disk, with its term. The index is 0 in messages that do not state it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Persisted {
    pub index: u64,
    pub term: u64,
}

/// Whether a message states what its sender has on disk. Only a leader's log never loses an entry in its term.
pub fn is_of_leader(kind: MessageType) -> bool {
    matches!(kind, MessageType::MsgAppend | MessageType::MsgHeartbeat)
}

/// What the others have promised.
#[derive(Debug, Default)]
pub struct Promises(BTreeMap<u64, Promise>);

impl Promises {
    /// Records a message that raft is about to see.
    pub fn heard<S: Storage>(&mut self, message: &Message, persisted: Persisted, raft: &Raft<S>) {
        if !shows_term(message.msg_type) {
            return;
        }
        let promise = self.0.entry(message.from).or_default();
        if message.term > promise.term {
            *promise = Promise {
                term: message.term,
                ..Promise::default()
            };
        }
        if message.term < promise.term || message.reject {
            return;
        }
        match message.msg_type {
            MessageType::MsgRequestVoteResponse => promise.voted = true,
            MessageType::MsgAppendResponse
                if raft.state == StateRole::Leader && raft.term == message.term =>
            {
                promise.acknowledge(message.index, raft.raft_log.term(message.index).unwrap_or(0));
            }
            kind if is_of_leader(kind) => promise.acknowledge(persisted.index, persisted.term),
            _ => {}
        }
    }

    /// What a member is told when it connects to this one. The end of this member's own log is added by the caller.
    pub fn of(&self, member: MemberId) -> Recollection {
        let promise = self.0.get(&member.0).copied().unwrap_or_default();
        let (acknowledged_index, acknowledged_term) = promise.acknowledged.unwrap_or_default();
        Recollection {
            term: promise.term,
            voted: promise.voted,
            acknowledged_index,
            acknowledged_term,
            ..Recollection::default()
        }
    }
}

/// Whether a member sends such a message only once its term is on disk. Pre-vote messages carry a future term, and ReadIndex
/// messages none.
fn shows_term(kind: MessageType) -> bool {
    !matches!(
        kind,
        MessageType::MsgRequestPreVote
            | MessageType::MsgRequestPreVoteResponse
            | MessageType::MsgReadIndex
            | MessageType::MsgReadIndexResp
    )
}

/// This member's disk holds less than the member has promised.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this member's data directory is an older copy of itself: member {to} has been told of {what}. Votes and acknowledged \
     writes may be missing from it, so this member must not take part any more: remove it from the cluster, clear its data \
     directory and add it again"
)]
pub struct OlderCopy {
    to: MemberId,
    what: String,
}

/// Compares what another member remembers of this one with this member's raft state.
pub fn compare<S: Storage>(raft: &Raft<S>, to: MemberId, promised: &Recollection) -> Result<(), OlderCopy> {
    let broken = |what: String| Err(OlderCopy { to, what });
    if promised.term > raft.term {
        return broken(format!(
            "term {}, and term {} is the newest here",
            promised.term, raft.term
        ));
    }
    if promised.term < raft.term {
        // Promises of an earlier term no longer matter, and a disk that knows a newer term is newer than they are.
        return Ok(());
    }
    if promised.voted && raft.vote != to.0 {
        return broken(format!("a vote in term {}, which is not here", promised.term));
    }
    let (index, term) = (promised.acknowledged_index, promised.acknowledged_term);
    let is_behind_cut = index < raft.raft_log.first_index();
    let is_here = || match raft.raft_log.term(index) {
        Ok(found) => index <= raft.raft_log.last_index() && (found == term || term == 0),
        Err(_) => false,
    };
    if !is_behind_cut && !is_here() {
        let (index, term) = (LogIndex(index), Term(term));
        let last = raft.raft_log.last_index();
        return broken(format!(
            "entry {index} of term {term}, which is not in the log here; that ends at entry {last}"
        ));
    }
    Ok(())
}
