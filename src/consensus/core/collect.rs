//! Turns raft's `Ready` into outputs: what to send, write and apply, and which messages wait for a write.

use super::{Core, Held};
use crate::consensus::convert;
use crate::consensus::outputs::{LogWrite, ReadContext, Restore};
use crate::consensus::promises::is_of_leader;
use crate::consensus::read_questions::without_superseded;
use crate::ids::{LogIndex, Term};
use crate::mutants::{self, Mutant};
use crate::proto::peer;
use crate::storage::log::Cut;
use raft::eraftpb::{ConfState, Message};

impl Core {
    /// Turns raft's readies into outputs until none is left.
    pub(super) fn collect(&mut self) {
        if !self.read_questions.is_empty() && !self.is_confirming() {
            self.confirm_questions();
        }
        self.draw_election_timeout();
        self.release_commits();
        while !self.has_failed() && self.raw.has_ready() {
            let mut ready = self.raw.ready();
            let mut messages = ready.take_messages();
            for state in ready.take_read_states() {
                if let Some(context) = ReadContext::from_bytes(&state.request_ctx) {
                    self.outputs.reads.push((context, LogIndex(state.index)));
                }
            }
            self.take_snapshot(&ready);
            self.take_entries(&mut ready);
            self.take_committed(ready.take_committed_entries());
            self.release_commits();
            // Who wins alone leads before its term is on disk. If others heard from it and it lost the term with its power, it would
            // lead the same term again, with other entries.
            let leads_unsaved = self.persisted_write < self.term_write;
            let mut after_write = Vec::new();
            if leads_unsaved && !mutants::active(Mutant::TermToldFirst) {
                after_write.append(&mut messages);
            }
            self.send(messages);
            after_write.append(&mut ready.take_persisted_messages());
            self.held.push_back(Held {
                ready: ready.number(),
                after_write: self.write_number,
                messages: after_write,
            });
            self.raw.advance_append_async(ready);
            self.release();
            self.draw_election_timeout();
        }
        self.outputs.send = without_superseded(std::mem::take(&mut self.outputs.send));
        self.outputs.fetch = self.raw.store().take_fetches();
        self.outputs.count_start |= !self.is_older_copy && self.start_check.take_count_request();
    }

    fn take_snapshot(&mut self, ready: &raft::Ready) {
        let metadata = ready.snapshot().get_metadata();
        if metadata.index == 0 {
            return;
        }
        self.write_number += 1;
        let cut = Cut {
            index: LogIndex(metadata.index),
            term: Term(metadata.term),
        };
        let conf_state: ConfState = metadata.get_conf_state().clone();
        let raft = &self.raw.raft;
        let hard_state = peer::HardState {
            term: raft.term,
            vote: raft.vote,
            commit: raft.raft_log.committed.max(cut.index.0),
        };
        self.store().reset(cut, conf_state);
        self.commits.replace(cut.index);
        assert!(self.outputs.restore.is_none(), "one snapshot at a time");
        self.outputs.restore = Some(Restore {
            number: self.write_number,
            cut,
            hard_state,
        });
    }

    fn take_entries(&mut self, ready: &mut raft::Ready) {
        let entries = ready.take_entries();
        let replaces_suffix = self.store().append(&entries);
        let mut is_other_term = false;
        if let Some(hard_state) = ready.hs() {
            let hard_state = hard_state.clone();
            is_other_term = hard_state.term != self.store().hard_state().term;
            self.store().set_hard_state(hard_state);
        }
        let is_restore = ready.snapshot().get_metadata().index > 0;
        if !ready.must_sync() || (entries.is_empty() && (ready.hs().is_none() || is_restore)) {
            // A commit index alone is not worth a write: it goes with the next one, and is learned again after a restart.
            // After a snapshot, `Restore` carries the hard state.
            return;
        }
        self.write_number += 1;
        if is_other_term {
            self.term_write = self.write_number;
        }
        let mut hard_state = self.store().hard_state();
        if mutants::active(Mutant::VoteNotPersisted) {
            hard_state.vote = 0;
        }
        if mutants::active(Mutant::ApplyUncommitted) {
            self.take_committed(entries.clone());
        }
        self.outputs.write.push(LogWrite {
            number: self.write_number,
            entries: entries.into_iter().map(convert::entry_to_wire).collect(),
            replaces_suffix,
            hard_state: Some(hard_state),
        });
    }

    /// A leader's messages say up to which entry its log is on its own disk. No message says more of the commit index than
    /// others may know.
    fn send(&mut self, messages: Vec<Message>) {
        let log = &self.raw.raft.raft_log;
        let index = log.persisted;
        let term = log.term(index).unwrap_or(0);
        let commit_max = self.told_commit_max();
        self.outputs.send.extend(messages.into_iter().map(|message| {
            let says = is_of_leader(message.msg_type) && message.term == self.raw.raft.term;
            let mut message = convert::message_to_wire(message);
            message.commit = message.commit.min(commit_max);
            if says {
                (message.persisted_index, message.persisted_term) = (index, term);
            }
            message
        }));
    }

    /// Releases the messages whose writes are on disk.
    pub(super) fn release(&mut self) {
        while self
            .held
            .front()
            .is_some_and(|held| held.after_write <= self.persisted_write)
        {
            let Some(held) = self.held.pop_front() else { break };
            self.send(held.messages);
            self.raw.on_persist_ready(held.ready);
        }
        self.pass_on_applied();
    }
}
