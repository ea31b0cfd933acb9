//! Everything that reaches the consensus actor, in one place, taken all at once.

use super::commands::CommandQueue;
use super::handle::{RaftDetails, Reader};
use crate::apply::entry::ReadableCommands;
use crate::ids::{LogIndex, MemberId};
use crate::proto::peer;
use crate::storage::state::StateDatabase;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// What came in since the actor last looked.
#[derive(Debug, Default)]
pub struct Incoming {
    pub commands: CommandQueue,
    /// Command batches that followers forwarded, for the leader to propose.
    pub forwarded: Vec<ReadableCommands>,
    pub reads: Vec<Reader>,
    pub messages: Vec<peer::Message>,
    pub snapshots: Vec<ArrivedSnapshot>,
    pub snapshot_reports: Vec<(MemberId, bool)>,
    pub unreachable: Vec<MemberId>,
    /// The newest write that the log's disk has.
    pub persisted_write: u64,
    /// The newest index that the state has.
    pub applied: LogIndex,
    /// The newest index that the state's disk has.
    pub state_synced: LogIndex,
    /// The state of an accepted snapshot is in use.
    pub state_replaced: bool,
    pub hand_over_leadership: bool,
    /// Who wants to know what raft says of itself.
    pub details_asked: Vec<oneshot::Sender<RaftDetails>>,
    /// News of a commit have waited long enough.
    pub commit_news_due: bool,
    /// Time passed: at most one tick counts, however long the actor was busy, as time that it could not see.
    pub ticked: bool,
}

/// A snapshot whose state has been written and synced beside the one in use.
#[derive(Debug)]
pub struct ArrivedSnapshot {
    pub announcement: peer::Message,
    pub state: Arc<StateDatabase>,
    /// Held until the state is in use or refused: the next snapshot is written to the same place.
    pub place: OwnedSemaphorePermit,
}
