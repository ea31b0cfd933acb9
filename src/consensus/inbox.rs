//! The consensus actor's inbox: everything that reaches the actor is gathered here and taken all at once.

use super::commands::CommandQueue;
use super::log_fetches::Stretch;
use super::start_check::Word;
use crate::apply::ApplyProgress;
use crate::ids::{LogIndex, MemberId};
use crate::inbox::Inbox;
use crate::limits::{DETAILS_WAITING_MAX, PEER_MESSAGES_BYTES_MAX, PEER_MESSAGES_MAX};
use crate::proto::peer::{self, Recollection};
use crate::requests::{NewRequest, RaftDetails, Reader, RequestSink, Successor};
use crate::state::entry::ReadableCommands;
use crate::state::membership::Reconfiguration;
use crate::storage::log::LogError;
use crate::storage::state::StateDatabase;
use raft::eraftpb::Entry;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// Everything that has arrived since the actor last took it.
#[derive(Debug, Default)]
pub struct Incoming {
    pub commands: CommandQueue,
    /// Command batches that followers forwarded to this member for it to propose as leader.
    pub forwarded: Vec<(MemberId, ReadableCommands)>,
    /// Membership changes, each a batch of one command: those of this member, then those that other members forwarded.
    pub member_changes: Vec<ReadableCommands>,
    pub forwarded_member_changes: Vec<ReadableCommands>,
    pub reads: Vec<Reader>,
    messages: Vec<peer::Message>,
    message_bytes: usize,
    pub snapshots: Vec<ArrivedSnapshot>,
    pub snapshot_reports: Vec<(MemberId, bool)>,
    pub unreachable: Vec<MemberId>,
    /// Members that have connected to this one and wait to be told what it remembers of them, each with its newest connection.
    pub greetings: BTreeMap<MemberId, oneshot::Sender<Recollection>>,
    /// The last answer of each member that this one has connected to.
    pub words: BTreeMap<MemberId, Word>,
    /// This start is counted on disk.
    pub start_counted: bool,
    /// The newest write that is on the log's disk.
    pub persisted_write: u64,
    /// The newest index that is applied to the state.
    pub applied: LogIndex,
    /// The newest index that the state has on disk.
    pub state_synced: LogIndex,
    /// Applied entries that have changed raft's configuration.
    pub reconfigured: Vec<Reconfiguration>,
    /// Peer URLs that members gave when they connected to this one.
    pub heard_urls: BTreeMap<MemberId, Vec<String>>,
    /// The members or their URLs have changed.
    pub members_changed: bool,
    /// The state of an accepted snapshot is in use.
    pub state_replaced: bool,
    pub hand_over_leadership: Option<Successor>,
    /// Ranges of entries that were read from the log's disk.
    pub fetched: Vec<(Stretch, Result<Vec<Entry>, LogError>)>,
    /// Callers that want raft's details.
    pub details_asked: Vec<oneshot::Sender<RaftDetails>>,
    /// The delay before the commit index is sent on its own is over.
    pub commit_news_due: bool,
    /// Time passed. However long the actor was busy, at most one tick counts: it could not see messages during that time.
    pub ticked: bool,
}

impl Incoming {
    /// Adds messages of a peer, as far as there is room. Raft sends the rest again.
    pub fn add_messages(&mut self, messages: impl Iterator<Item = peer::Message>) {
        for message in messages {
            let bytes: usize = message.entries.iter().map(|entry| entry.data.len()).sum();
            // A single message may exceed the bound: it holds one large request.
            let fits = self.message_bytes == 0 || self.message_bytes + bytes <= PEER_MESSAGES_BYTES_MAX;
            if self.messages.len() < PEER_MESSAGES_MAX && fits {
                self.message_bytes += bytes;
                self.messages.push(message);
            }
        }
    }

    pub fn take_messages(&mut self) -> Vec<peer::Message> {
        self.message_bytes = 0;
        std::mem::take(&mut self.messages)
    }
}

/// A snapshot whose state was received, and written and synced next to the state in use.
#[derive(Debug)]
pub struct ArrivedSnapshot {
    pub announcement: peer::Message,
    pub state: Arc<StateDatabase>,
    /// Held until the state is in use or refused: the next snapshot is written to the same place.
    pub place: OwnedSemaphorePermit,
}

impl RequestSink for Inbox<Incoming> {
    fn add(&self, request: NewRequest<'_>) -> bool {
        let ((), wake_due) = self.add_quietly(|incoming| match request {
            NewRequest::Commands(commands) => incoming.commands.push(commands),
            NewRequest::MemberChange(change) => incoming.member_changes.push(change.clone()),
            NewRequest::Read(reader) => incoming.reads.push(reader),
            NewRequest::Details(asked) => {
                if incoming.details_asked.len() < DETAILS_WAITING_MAX {
                    incoming.details_asked.push(asked);
                }
            }
            NewRequest::HandOverLeadership(to) => incoming.hand_over_leadership = Some(to),
        });
        wake_due
    }

    fn wake(&self) {
        Inbox::wake(self);
    }
}

impl ApplyProgress for Inbox<Incoming> {
    fn applied(&self, index: LogIndex) {
        self.note(|incoming| incoming.applied = index);
    }

    fn reconfigured(&self, reconfigurations: Vec<Reconfiguration>) {
        Inbox::add(self, |incoming| incoming.reconfigured.extend(reconfigurations));
    }

    fn members_changed(&self) {
        Inbox::add(self, |incoming| incoming.members_changed = true);
    }

    fn replaced(&self, index: LogIndex) {
        Inbox::add(self, |incoming| {
            incoming.applied = index;
            incoming.members_changed = true;
            incoming.state_replaced = true;
        });
    }
}
