//! The raft state machine of one member behind plain inputs and outputs: no mailbox, no clock, no disk writes.
//!
//! Inputs are method calls (tick, step, propose, read, persisted, applied). [`Core::take_outputs`] then says what to send,
//! write and apply. Appends are asynchronous (raft-rs `advance_append_async`): a leader sends entries while its disk syncs.
//! Messages that may be sent only after a write are held here until [`Core::persisted`] reports the write.
//!
//! The caller draws election timeouts: raft-rs draws them from a generator that cannot be seeded. So each reset of raft is
//! followed by a draw of our own.

mod collect;
mod commits;
mod elections;
mod members;

pub use super::outputs::{Leadership, LogWrite, Outputs, ReadContext, Restore};

use super::admission::{self, Standing};
use super::convert;
use super::log_fetches::Stretch;
use super::log_store::LogStore;
use super::promises::{self, OlderCopy, Persisted, Promises, is_of_leader};
use super::read_questions::ReadQuestions;
use super::start_check::{StartCheck, Word};
use crate::ids::{LogIndex, MemberId, Term};
use crate::limits::sizes;
use crate::mutants::{self, Mutant};
use crate::proto::peer;
use crate::requests::{MemberProgress, RaftDetails, Successor};
use crate::state::entry::FORMAT;
use crate::storage::log::LogError;
use commits::Commits;
use raft::eraftpb::{Message, MessageType};
use raft::{Config, ProgressState, RawNode, SnapshotStatus, StateRole};
use std::collections::VecDeque;

/// Ticks of raft per heartbeat interval. Election timeouts are drawn in ticks, so more ticks make it less likely that two
/// members start an election at the same moment.
pub const TICKS_PER_HEARTBEAT: u32 = 5;
/// Append messages in flight to one follower.
const MESSAGES_IN_FLIGHT_MAX: usize = 256;

/// Heartbeats and elections of a member.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    pub heartbeat_ms: u64,
    pub election_ms: u64,
    /// The member asks whether it could win before it starts an election (section 9.6 of Ongaro's dissertation).
    pub pre_vote: bool,
}

impl Timing {
    fn election_ticks(self) -> usize {
        (self.election_ms * u64::from(TICKS_PER_HEARTBEAT) / self.heartbeat_ms) as usize
    }
}

/// Messages that may be sent only after a write.
struct Held {
    ready: u64,
    after_write: u64,
    messages: Vec<Message>,
}

/// One member's raft.
pub struct Core {
    raw: RawNode<LogStore>,
    timing: Timing,
    draw: Box<dyn FnMut(u64) -> u64>,
    drawn: (Leadership, StateRole, usize),
    /// The ticks until this member stands for election because another one has come into reach.
    stands_in: Option<u64>,
    write_number: u64,
    persisted_write: u64,
    /// The write that has the present term and vote.
    term_write: u64,
    applied: LogIndex,
    held: VecDeque<Held>,
    commits: Commits,
    outputs: Outputs,
    read_questions: ReadQuestions,
    promises: Promises,
    start_check: StartCheck,
    /// This member's disk lacks something that it has promised, so it takes no part any more.
    is_older_copy: bool,
}

impl Core {
    /// `draw(n)` returns a random number below n.
    pub fn new(
        member: MemberId,
        timing: Timing,
        applied: LogIndex,
        store: LogStore,
        draw: Box<dyn FnMut(u64) -> u64>,
    ) -> raft::Result<Self> {
        let config = Config {
            id: member.0,
            election_tick: timing.election_ticks(),
            heartbeat_tick: TICKS_PER_HEARTBEAT as usize,
            applied: applied.0,
            max_size_per_msg: sizes().raft_message_bytes_max,
            max_inflight_msgs: MESSAGES_IN_FLIGHT_MAX,
            check_quorum: !mutants::active(Mutant::CheckQuorumOff),
            pre_vote: timing.pre_vote && !mutants::active(Mutant::PreVoteOff),
            batch_append: true,
            // The caller decides when to send it, see `tell_commit`.
            skip_bcast_commit: true,
            max_committed_size_per_ready: sizes().committed_bytes_max,
            ..Config::default()
        };
        let raw = RawNode::new(&config, store, &super::raft_log::logger())?;
        let mut core = Self {
            raw,
            timing,
            draw,
            drawn: (Leadership::default(), StateRole::Follower, 0),
            stands_in: None,
            write_number: 0,
            persisted_write: 0,
            term_write: 0,
            applied,
            held: VecDeque::new(),
            commits: Commits::new(applied),
            outputs: Outputs::default(),
            read_questions: ReadQuestions::default(),
            promises: Promises::default(),
            start_check: StartCheck::new(member, [], applied, 0),
            is_older_copy: false,
        };
        let voters = core.voters();
        core.start_check = StartCheck::new(member, voters, applied, timing.election_ticks() as u64);
        if mutants::active(Mutant::TakesPartAtOnce) {
            core.start_check.take_part();
        }
        core.draw_election_timeout();
        Ok(core)
    }

    pub fn leadership(&self) -> Leadership {
        let raft = &self.raw.raft;
        Leadership {
            term: Term(raft.term),
            leader: MemberId(raft.leader_id),
            is_leader: raft.state == StateRole::Leader,
        }
    }

    pub fn details(&self) -> RaftDetails {
        let raft = &self.raw.raft;
        let is_leader = raft.state == StateRole::Leader;
        let tracker = raft.prs().iter().filter(|_| is_leader);
        RaftDetails {
            vote: MemberId(raft.vote),
            role: match raft.state {
                StateRole::Follower => "StateFollower",
                StateRole::Candidate => "StateCandidate",
                StateRole::Leader => "StateLeader",
                StateRole::PreCandidate => "StatePreCandidate",
            },
            transferee: MemberId(raft.lead_transferee.unwrap_or(0)),
            progress: tracker
                .map(|(id, progress)| MemberProgress {
                    id: MemberId(*id),
                    matched: LogIndex(progress.matched),
                    next: LogIndex(progress.next_idx),
                    state: match progress.state {
                        ProgressState::Probe => "StateProbe",
                        ProgressState::Replicate => "StateReplicate",
                        ProgressState::Snapshot => "StateSnapshot",
                    },
                })
                .collect(),
        }
    }

    pub fn committed(&self) -> LogIndex {
        LogIndex(self.raw.raft.raft_log.committed)
    }

    pub fn last_index(&self) -> LogIndex {
        LogIndex(self.raw.raft.raft_log.last_index())
    }

    pub fn store(&mut self) -> &mut LogStore {
        self.raw.mut_store()
    }

    /// Whether this member is the only voter.
    pub fn is_single_voter(&self) -> bool {
        admission::is_sole_voter(&self.raw.raft)
    }

    /// Advances raft's clock by one tick. The clock stands still while the state of a snapshot is put in place. It also does
    /// while a single voter that does not lead has a write under way: raft asserts that its log is on disk when it wins.
    pub fn tick(&mut self) {
        self.start_check.tick();
        if !self.takes_part() || self.is_held_back() {
            return;
        }
        let wins_alone = self.is_single_voter() && self.raw.raft.state != StateRole::Leader;
        if self.is_restoring() || (wins_alone && self.persisted_write != self.write_number) {
            return;
        }
        if self.stands_now() {
            self.campaign();
        }
        self.raw.tick();
        self.confirm_questions();
        self.draw_election_timeout();
    }

    /// Whether this member sends and answers raft messages. After a start it does so only once enough other members have said
    /// what they remember of it and the start is counted on disk.
    pub fn takes_part(&self) -> bool {
        self.start_check.takes_part() && !self.is_older_copy
    }

    /// Takes part without hearing from other members.
    #[cfg(test)]
    pub fn take_part(&mut self) {
        self.start_check.take_part();
    }

    /// This start is counted on disk. A single voter starts an election at once, as it has no other member to wait for.
    pub fn start_counted(&mut self) {
        self.start_check.counted();
        if self.takes_part() && self.is_single_voter() {
            self.campaign();
        }
    }

    /// Takes in another member's answer in a link's handshake. After an error this member must stop.
    pub fn hear(&mut self, member: MemberId, word: Word) -> Result<(), OlderCopy> {
        if let Word::Remembers(promised) = &word
            && !mutants::active(Mutant::OlderCopyAdmitted)
            && !mutants::active(Mutant::BlankDiskAdmitted)
        {
            let compared = promises::compare(&self.raw.raft, member, promised);
            self.is_older_copy |= compared.is_err();
            compared?;
        }
        if matches!(word, Word::Remembers(_)) {
            self.come_into_reach();
        }
        self.start_check.hear(member, word);
        Ok(())
    }

    /// Takes a message from a peer. It is dropped if raft refuses it or must not see it: the sender repeats what matters.
    pub fn step(&mut self, message: peer::Message) {
        let persisted = Persisted {
            index: message.persisted_index,
            term: message.persisted_term,
        };
        let mut message = match convert::message_from_wire(message) {
            Ok(message) => message,
            Err(error) => {
                tracing::warn!(%error, "dropped a raft message");
                return;
            }
        };
        if !self.takes_part() {
            tracing::debug!(from = %MemberId(message.from), "dropped a raft message: this member takes no part yet");
            return;
        }
        let sent_term = message.term;
        if mutants::active(Mutant::StaleTermAccepted) && message.term > 0 {
            message.term = message.term.max(self.raw.raft.term);
        }
        if let Err(reason) = admission::check(&message, &self.raw.raft, self.standing()) {
            tracing::warn!(
                from = %MemberId(message.from), kind = ?message.msg_type, index = message.index, %reason,
                "dropped a raft message"
            );
            return;
        }
        if sent_term == message.term {
            self.promises.heard(&message, persisted, &self.raw.raft);
        }
        if is_asking_for_a_vote(&message) && !self.start_check.may_vote_for((message.log_term, message.index))
        {
            return;
        }
        if message.msg_type == MessageType::MsgReadIndex {
            return self.take_question(message);
        }
        let (says, term, commit) = (is_of_leader(message.msg_type), message.term, message.commit);
        match self.raw.step(message) {
            Ok(()) | Err(raft::Error::StepPeerNotFound | raft::Error::ProposalDropped) => {}
            Err(error) => tracing::warn!(%error, "raft refused a message"),
        }
        if says && term == self.raw.raft.term {
            self.commits.hear(commit);
        }
        self.draw_election_timeout();
    }

    fn standing(&self) -> Standing {
        let raft = &self.raw.raft;
        let saved = self.raw.store().hard_state();
        Standing {
            all_on_disk: self.persisted_write == self.write_number
                && (saved.term, saved.vote) == (raft.term, raft.vote),
            restoring: self.is_restoring(),
        }
    }

    /// Whether a snapshot was accepted and its state is not yet in use. Meanwhile this member cannot start an election: raft
    /// would look through the entries that are not applied, which the snapshot has removed.
    fn is_restoring(&self) -> bool {
        let log = &self.raw.raft.raft_log;
        log.unstable_snapshot().is_some() || log.applied < self.raw.store().cut_index().0
    }

    /// Appends commands as one entry. Returns false if raft did not take them, for example because this member does not lead.
    pub fn propose(&mut self, commands: Vec<u8>) -> bool {
        if self.raw.raft.state != StateRole::Leader {
            return false;
        }
        self.raw.propose(vec![FORMAT], commands).is_ok()
    }

    /// Sends the commit index to all followers if this member leads. Entries and heartbeats carry it as well.
    pub fn tell_commit(&mut self) {
        if self.raw.raft.state == StateRole::Leader {
            self.raw.raft.bcast_append();
        }
    }

    /// Sends it to one member.
    pub fn tell_commit_to(&mut self, member: MemberId) {
        let raft = &mut self.raw.raft;
        if raft.state == StateRole::Leader && raft.prs().get(member.0).is_some() {
            raft.send_append(member.0);
        }
    }

    /// Asks for a read index: everything acknowledged so far is committed up to it. The answer is in [`Outputs::reads`], or
    /// never comes: raft drops the request if no leader is known or the leader has not committed an entry of its term.
    pub fn read_index(&mut self, context: ReadContext) {
        self.take_question(ReadQuestions::own(context.to_bytes()));
    }

    fn take_question(&mut self, question: Message) {
        let is_confirming = self.is_confirming();
        if let Some(question) = self.read_questions.hold(question, is_confirming) {
            self.ask(question);
        }
    }

    /// Passes all waiting ReadIndex requests to raft.
    fn confirm_questions(&mut self) {
        for question in self.read_questions.take() {
            self.ask(question);
        }
    }

    fn ask(&mut self, question: Message) {
        match self.raw.raft.step(question) {
            Ok(()) | Err(raft::Error::ProposalDropped) => {}
            Err(error) => tracing::warn!(%error, "raft refused a question for a read index"),
        }
    }

    /// Whether this member leads and waits for a quorum to confirm that for a read.
    fn is_confirming(&self) -> bool {
        self.raw.raft.read_only.pending_read_count() > 0
    }

    /// Whether a ReadIndex request can be answered: raft drops it silently if no leader is known, or if the leader has not
    /// committed an entry of its term.
    pub fn can_read(&self) -> bool {
        let raft = &self.raw.raft;
        raft.leader_id != 0 && (raft.state != StateRole::Leader || raft.commit_to_current_term())
    }

    /// The log has all writes up to this number on disk.
    pub fn persisted(&mut self, write: u64) {
        assert!(
            write <= self.write_number,
            "a write that was never made cannot be persisted"
        );
        self.persisted_write = self.persisted_write.max(write);
        self.release();
    }

    /// All entries up to this index are applied to the state.
    pub fn applied(&mut self, index: LogIndex) {
        self.applied = self.applied.max(index);
        self.pass_on_applied();
        self.store().shrink_tail(index);
    }

    /// Tells raft what is applied, bounded by what is on disk: a snapshot's state is in use before the log starts again after
    /// it.
    fn pass_on_applied(&mut self) {
        let log = &self.raw.raft.raft_log;
        let index = self.applied.0.min(log.persisted).min(log.committed);
        if index > log.applied {
            self.raw.advance_apply_to(index);
        }
    }

    pub fn report_unreachable(&mut self, member: MemberId) {
        self.raw.report_unreachable(member.0);
        self.draw_election_timeout();
    }

    pub fn report_snapshot(&mut self, member: MemberId, arrived: bool) {
        let status = if arrived {
            SnapshotStatus::Finish
        } else {
            SnapshotStatus::Failure
        };
        self.raw.report_snapshot(member.0, status);
        self.draw_election_timeout();
    }

    /// Transfers leadership to another voter.
    pub fn hand_over_leadership(&mut self, to: Successor) {
        if self.raw.raft.state == StateRole::Leader
            && let Some(successor) = self.successor(to)
        {
            self.raw.transfer_leader(successor);
        }
    }

    fn successor(&self, to: Successor) -> Option<u64> {
        let raft = &self.raw.raft;
        let voters = raft.prs().conf().voters();
        let all = raft.prs().iter();
        let mut others = all.filter(|(id, _)| **id != raft.id && voters.contains(**id));
        let found = match to {
            Successor::Member(member) => others.find(|(id, _)| **id == member.0),
            Successor::Furthest => others.max_by_key(|(id, of)| (of.recent_active, of.matched, **id)),
        };
        found.map(|(id, _)| *id)
    }

    /// Returns everything that follows from the inputs since the last call.
    pub fn take_outputs(&mut self) -> Outputs {
        self.collect();
        let outputs = std::mem::take(&mut self.outputs);
        if self.has_failed() {
            Outputs::default()
        } else {
            outputs
        }
    }

    /// Whether the log's disk failed while raft read from it. The core gives no more outputs then.
    pub fn has_failed(&self) -> bool {
        self.raw.store().has_failed()
    }

    /// Entries that raft wants to send were read from the log's disk.
    pub fn fetched(&mut self, stretch: Stretch, entries: Result<Vec<raft::eraftpb::Entry>, LogError>) {
        for question in self.raw.store().begin_fetched(stretch, entries) {
            self.raw.on_entries_fetched(question);
        }
        self.raw.store().end_fetched();
        self.draw_election_timeout();
    }
}

fn is_asking_for_a_vote(message: &Message) -> bool {
    matches!(
        message.msg_type,
        MessageType::MsgRequestVote | MessageType::MsgRequestPreVote
    )
}
