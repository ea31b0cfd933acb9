//! Committed entries on their way to the applier. A membership change waits here, with all that follows it, until this member's
//! disk has the commit index.
//!
//! Who is removed is soon gone for good. If it alone knew of the commit, the others would still count its vote, and two of two
//! could elect nobody for ever. So whatever tells it, a message with the commit index or the answer to a request, follows the
//! write of the commit index to the disk of a member that stays. A member applies its own removal only after another member
//! that leads has told it the commit index; if it leads itself, it hands over leadership first.

use super::Core;
use crate::consensus::convert;
use crate::consensus::outputs::LogWrite;
use crate::ids::{LogIndex, MemberId, Term};
use crate::mutants::{self, Mutant};
use crate::proto::log::Command;
use crate::proto::log::command::Request;
use crate::requests::Successor;
use crate::state::entry::{EntryCommand, commands};
use crate::state::{CommittedEntry, Payload, membership};
use bytes::Bytes;
use raft::StateRole;
use raft::eraftpb::Entry;
use std::collections::VecDeque;

/// Entries that are applied together. Only the first one may be a membership change.
#[derive(Default)]
struct Batch {
    /// For a membership change, the write that has its commit index; 0 if there is nothing to wait for.
    after_write: u64,
    removes_own: bool,
    entries: Vec<CommittedEntry>,
}

impl Batch {
    fn index(&self) -> u64 {
        self.entries.first().map_or(0, |first| first.index.0)
    }
}

/// See the head of the file.
#[derive(Default)]
pub(super) struct Commits {
    waiting: VecDeque<Batch>,
    /// The last entry that the applier was given.
    given: u64,
    /// The highest commit index that a leader has told this member.
    heard: u64,
}

impl Commits {
    pub(super) fn new(applied: LogIndex) -> Self {
        Self {
            given: applied.0,
            ..Self::default()
        }
    }

    pub(super) fn hear(&mut self, commit: u64) {
        self.heard = self.heard.max(commit);
    }

    /// The state of a snapshot is newer than all that waits.
    pub(super) fn replace(&mut self, snapshot: LogIndex) {
        self.waiting.clear();
        self.given = snapshot.0;
    }

    fn add(&mut self, entry: CommittedEntry) {
        match self.waiting.back_mut() {
            Some(batch) => batch.entries.push(entry),
            None => self.waiting.push_back(Batch {
                entries: vec![entry],
                ..Batch::default()
            }),
        }
    }
}

/// Whether the command of a membership change removes this member.
fn removes_own(data: &Bytes, member: MemberId) -> bool {
    let is_removal = |command: &EntryCommand| match command {
        EntryCommand::Read(Command {
            request: Some(Request::MemberChange(change)),
            ..
        }) => membership::removes(change, member),
        _ => false,
    };
    commands(data.clone()).is_ok_and(|commands| commands.iter().any(is_removal))
}

impl Core {
    /// Takes in committed entries. Those that change the members have the commit index written.
    pub(super) fn take_committed(&mut self, entries: Vec<Entry>) {
        let own = MemberId(self.raw.raft.id);
        let mut write = 0;
        for entry in entries {
            let entry = CommittedEntry {
                index: LogIndex(entry.index),
                term: Term(entry.term),
                payload: convert::payload(entry),
            };
            if let Payload::Configuration(data) = &entry.payload {
                if write == 0 && !mutants::active(Mutant::RemovalToldFirst) {
                    write = self.write_commit();
                }
                self.commits.waiting.push_back(Batch {
                    after_write: write,
                    removes_own: removes_own(data, own),
                    entries: Vec::new(),
                });
            }
            self.commits.add(entry);
        }
    }

    fn write_commit(&mut self) -> u64 {
        self.write_number += 1;
        let hard_state = self.store().hard_state();
        self.outputs.write.push(LogWrite {
            number: self.write_number,
            entries: Vec::new(),
            replaces_suffix: false,
            hard_state: Some(hard_state),
        });
        self.write_number
    }

    /// The commit index that other members may know.
    pub(super) fn told_commit_max(&self) -> u64 {
        let raft = &self.raw.raft;
        // A leader's last entry of an earlier term may be a membership change.
        let waits = raft.state == StateRole::Leader && raft.pending_conf_index > self.commits.given;
        if waits {
            raft.pending_conf_index - 1
        } else {
            u64::MAX
        }
    }

    /// Gives the applier what need not wait any more, and tells the others the commit index that they did not hear until now.
    pub(super) fn release_commits(&mut self) {
        let told_before = self.told_commit_max();
        while let Some(batch) = self.commits.waiting.front() {
            if batch.after_write > self.persisted_write {
                break;
            }
            let is_told = batch.index() <= self.commits.heard && self.raw.raft.state != StateRole::Leader;
            if batch.removes_own && !is_told && self.voters().len() > 1 {
                if self.raw.raft.lead_transferee.is_none() {
                    self.hand_over_leadership(Successor::Furthest);
                }
                break;
            }
            let Some(batch) = self.commits.waiting.pop_front() else {
                break;
            };
            self.commits.given = batch
                .entries
                .last()
                .map_or(self.commits.given, |last| last.index.0);
            self.outputs.committed.extend(batch.entries);
        }
        if self.told_commit_max() > told_before {
            self.tell_commit();
        }
    }
}
