//! Which messages of peers reach raft. raft-rs trusts its peers: a number that no correct peer sends makes it panic or, worse,
//! is believed. A link's handshake and checksums keep out strangers and flipped bits. The checks here keep a member that runs
//! other software, or whose memory is faulty, from crashing the others.
//!
//! Correct peers never break these rules. A refused message is dropped, as if the network had lost it.

use raft::eraftpb::{Message, MessageType, SnapshotMetadata};
use raft::{Raft, StateRole, Storage};
use std::collections::BTreeSet;

/// Terms and indexes count up by one, so a number beyond this is invalid; raft's arithmetic with it would overflow.
const NUMBER_MAX: u64 = u64::MAX / 4;

/// Facts about this member that raft does not know.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    /// Term, vote and all entries are on disk. Raft assumes this when it wins an election.
    pub all_on_disk: bool,
    /// A snapshot was accepted, and its state is not yet in use.
    pub restoring: bool,
}

/// Why a message was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("it is not for this member")]
    Address,
    #[error("members do not send this kind")]
    Kind,
    #[error("a number is out of range")]
    Number,
    #[error("its term does not fit its kind")]
    Term,
    #[error("its entries do not follow each other")]
    Entries,
    #[error(
        "it speaks of entries that this member does not have; if it repeats, this member has lost a part of its log"
    )]
    Index,
    #[error("its snapshot makes no sense")]
    Snapshot,
    #[error("a snapshot is being put in place")]
    Restoring,
    #[error("no vote has been asked for")]
    Vote,
}

/// Whether raft may see this message.
pub fn check<S: Storage>(message: &Message, raft: &Raft<S>, standing: Standing) -> Result<(), Refusal> {
    ensure(
        message.to == raft.id && message.from != raft.id && message.from != 0,
        Refusal::Address,
    )?;
    ensure(is_sent_by_members(message.msg_type), Refusal::Kind)?;
    ensure(
        numbers(message).all(|number| number <= NUMBER_MAX),
        Refusal::Number,
    )?;
    // For raft, term 0 marks a local message, whose sender it trusts. Peers send only forwarded ReadIndex requests with term
    // 0, and raft panics when it has to forward one with another term.
    let is_question = message.msg_type == MessageType::MsgReadIndex;
    ensure((message.term == 0) == is_question, Refusal::Term)?;
    // raft-rs lets a follower request a snapshot; ours never do.
    ensure(message.request_snapshot == 0, Refusal::Kind)?;
    let is_current = message.term >= raft.term;
    match message.msg_type {
        MessageType::MsgAppend => check_entries(message),
        // Raft panics at a commit index beyond the log.
        MessageType::MsgHeartbeat => ensure(
            !is_current || message.commit <= raft.raft_log.last_index(),
            Refusal::Index,
        ),
        // Raft would count entries as replicated that do not exist yet.
        MessageType::MsgAppendResponse => ensure(
            raft.state != StateRole::Leader
                || message.term != raft.term
                || message.index <= raft.raft_log.last_index(),
            Refusal::Index,
        ),
        MessageType::MsgReadIndex => ensure(message.entries.len() == 1, Refusal::Entries),
        MessageType::MsgSnapshot => {
            ensure(!standing.restoring, Refusal::Restoring)?;
            let metadata = message.get_snapshot().get_metadata();
            ensure(
                is_sound(metadata) && metadata.term <= message.term,
                Refusal::Snapshot,
            )
        }
        MessageType::MsgTimeoutNow => {
            // To start an election, raft looks through the entries that are not applied, which a snapshot has removed.
            ensure(!standing.restoring, Refusal::Restoring)?;
            // No other member can have led. This one would win at once, and raft asserts that its log was on disk before that.
            ensure(!is_sole_voter(raft), Refusal::Kind)
        }
        // Raft asserts that the candidate's vote and log were on disk before it won.
        MessageType::MsgRequestVoteResponse => ensure(
            raft.state != StateRole::Candidate || standing.all_on_disk,
            Refusal::Vote,
        ),
        _ => Ok(()),
    }
}

/// Whether this member is the only voter.
pub fn is_sole_voter<S: Storage>(raft: &Raft<S>) -> bool {
    let voters = raft.prs().conf().voters();
    voters.ids().iter().count() == 1 && voters.contains(raft.id)
}

fn ensure(holds: bool, refusal: Refusal) -> Result<(), Refusal> {
    if holds { Ok(()) } else { Err(refusal) }
}

/// `MsgTransferLeader` is not sent: the leader itself starts a transfer, and a follower would panic at a request for one.
fn is_sent_by_members(kind: MessageType) -> bool {
    matches!(
        kind,
        MessageType::MsgAppend
            | MessageType::MsgAppendResponse
            | MessageType::MsgRequestVote
            | MessageType::MsgRequestVoteResponse
            | MessageType::MsgSnapshot
            | MessageType::MsgHeartbeat
            | MessageType::MsgHeartbeatResponse
            | MessageType::MsgTimeoutNow
            | MessageType::MsgReadIndex
            | MessageType::MsgReadIndexResp
            | MessageType::MsgRequestPreVote
            | MessageType::MsgRequestPreVoteResponse
    )
}

fn numbers(message: &Message) -> impl Iterator<Item = u64> + '_ {
    let metadata = message.get_snapshot().get_metadata();
    let own = [
        message.term,
        message.log_term,
        message.index,
        message.commit,
        message.commit_term,
        message.reject_hint,
        metadata.index,
        metadata.term,
    ];
    let entries = message.entries.iter().flat_map(|entry| [entry.index, entry.term]);
    own.into_iter().chain(entries)
}

/// Indexes have no gaps and terms never fall. No term is 0: raft takes 0 as the term of an index beyond the log's end, so an
/// entry that claims term 0 would count as present.
fn check_entries(message: &Message) -> Result<(), Refusal> {
    ensure((message.log_term == 0) == (message.index == 0), Refusal::Entries)?;
    let (mut index, mut term) = (message.index, message.log_term);
    for entry in message.get_entries() {
        index += 1;
        ensure(
            entry.index == index && entry.term >= term.max(1),
            Refusal::Entries,
        )?;
        term = entry.term;
    }
    ensure(term <= message.term, Refusal::Entries)
}

/// Whether raft can adopt this configuration. Members change one at a time, so no sender is in a joint configuration.
fn is_sound(metadata: &SnapshotMetadata) -> bool {
    let state = metadata.get_conf_state();
    let all: BTreeSet<u64> = state.voters.iter().chain(&state.learners).copied().collect();
    metadata.index > 0
        && metadata.term > 0
        && !state.voters.is_empty()
        && all.len() == state.voters.len() + state.learners.len()
        && !all.contains(&0)
        && state.voters_outgoing.is_empty()
        && state.learners_next.is_empty()
        && !state.auto_leave
}
