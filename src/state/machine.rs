//! The machine that turns committed entries into state, replies and views. One thread owns it.
//!
//! A call of [`Machine::apply`] writes one engine batch (more only if it grows beyond a bound), publishes one view and then
//! returns the replies, so a client that gets a reply finds its effect in the newest view. Entries that were applied before
//! are skipped, so the log may be replayed from any point at or before the applied index.

use std::sync::Arc;

use crate::ids::{LogIndex, Term};
use crate::limits::{HEADER_CACHE_BYTES_DEFAULT, sizes};
use crate::metrics::StoreMetrics;
use crate::proto::etcdserverpb::{
    AlarmResponse, CompactionRequest, CompactionResponse, DeleteRangeResponse, LeaseGrantResponse,
    LeaseRevokeResponse, MemberUpdateResponse, PutResponse, TxnResponse,
};
use crate::proto::log::command::Request;
use crate::proto::log::{Command, Member, MemberChange};
use crate::proto::peer::ConfState;
use crate::state::alarms;
use crate::state::changes::{AppliedChanges, Observer, Publication, Wanted, Watched};
use crate::state::components::State;
use crate::state::digests::Digests;
use crate::state::entry::{self, EntryCommand, Payload};
use crate::state::leases;
use crate::state::membership::Reconfiguration;
use crate::state::view::Views;
use crate::state::{ApplyError, ApplyFailure, MachineError, txn};
use crate::storage::state::StateDatabase;
use crate::storage::state::error::StateError;
use crate::storage::state::meta::{Cluster, SharedCluster};

/// One entry of the replicated log.
#[derive(Clone, Debug)]
pub struct CommittedEntry {
    pub index: LogIndex,
    pub term: Term,
    pub payload: Payload,
}

/// The result of a command.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Put(PutResponse),
    DeleteRange(DeleteRangeResponse),
    Txn(TxnResponse),
    Compaction(CompactionResponse),
    LeaseGrant(LeaseGrantResponse),
    LeaseRevoke(LeaseRevokeResponse),
    Alarm(AlarmResponse),
    MemberUpdate(MemberUpdateResponse),
    /// All members, after a membership change.
    Members(Vec<Member>),
    Done,
}

/// The outcome of a command that this process has proposed.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    pub id: u64,
    pub outcome: Result<Outcome, ApplyError>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineOptions {
    pub header_cache_bytes: u64,
}

impl Default for MachineOptions {
    fn default() -> Self {
        Self {
            header_cache_bytes: HEADER_CACHE_BYTES_DEFAULT,
        }
    }
}

/// The initial state of an empty data directory.
#[derive(Clone, Debug, Default)]
pub struct InitialState {
    pub applied_index: LogIndex,
    pub applied_term: Term,
    pub members: Vec<Member>,
    pub conf_state: ConfState,
    /// Empty if the members have not yet agreed on one.
    pub cluster_version: String,
}

/// See the head of the file.
pub struct Machine {
    state: State,
    views: Views,
    origin: u64,
    options: MachineOptions,
    observers: Vec<Box<dyn Observer>>,
    metrics: Option<Arc<StoreMetrics>>,
    digests: Digests,
}

impl Machine {
    /// Loads the state from `database`. `origin` marks the commands that this process proposes.
    pub fn open(
        database: Arc<StateDatabase>,
        origin: u64,
        options: MachineOptions,
    ) -> Result<(Self, Views), MachineError> {
        let state = State::load(database, options.header_cache_bytes)?;
        let views = Views::new(state.view());
        let digests = Digests::default();
        digests.restart(LogIndex(state.applied.index), state.applied.digest);
        Ok((
            Self {
                state,
                views: views.clone(),
                origin,
                options,
                observers: Vec::new(),
                metrics: None,
                digests,
            },
            views,
        ))
    }

    /// Tells `observer` of every change from now on.
    pub fn observe(&mut self, observer: Box<dyn Observer>) {
        self.observers.push(observer);
    }

    /// Counts operations from now on.
    pub fn set_metrics(&mut self, metrics: Arc<StoreMetrics>) {
        self.state.database.set_metrics(&metrics);
        self.metrics = Some(metrics);
    }

    /// Whether [`Self::initialize`] has been called on this data directory, or a snapshot has filled it.
    pub fn is_initialized(&self) -> bool {
        self.state.applied.index > 0 || !self.state.membership.cluster().members.is_empty()
    }

    /// Writes and syncs the first state of an empty data directory.
    pub fn initialize(&mut self, initial: InitialState) -> Result<(), MachineError> {
        if self.is_initialized() {
            return Err(MachineError::AlreadyInitialized);
        }
        let InitialState {
            applied_index,
            applied_term,
            members,
            conf_state,
            cluster_version,
        } = initial;
        self.state.applied.index = applied_index.get();
        self.state.applied.term = applied_term.get();
        let cluster = Cluster {
            members,
            conf_state,
            version: cluster_version,
            ..Cluster::default()
        };
        self.state.membership.set(&mut self.state.applied, cluster);
        self.commit_and_publish()?;
        self.state.database.sync()?;
        self.restart_digests();
        Ok(())
    }

    /// The state digests after the newest entries.
    pub fn digests(&self) -> &Digests {
        &self.digests
    }

    fn restart_digests(&self) {
        self.digests
            .restart(self.applied_index(), self.state.applied.digest);
    }

    /// Applies entries in log order. After an error nothing more can be applied.
    pub fn apply(&mut self, entries: &[CommittedEntry]) -> Result<Vec<Reply>, MachineError> {
        let mut replies = vec![];
        let mut digests = vec![];
        self.state.keys.watched = Watched::new(self.wanted());
        for entry in entries {
            if entry.index.get() <= self.state.applied.index {
                continue;
            }
            self.check_index(entry.index)?;
            if self.state.keys.bytes() >= sizes().apply_batch_bytes {
                self.state.commit()?;
            }
            for command in commands(entry)? {
                let (origin, id, outcome) = match command {
                    EntryCommand::Read(command) => {
                        let (origin, id) = (command.origin, command.id);
                        (origin, id, self.apply_command(command, entry)?)
                    }
                    EntryCommand::Unreadable(head, error) => {
                        let index = entry.index.get();
                        tracing::error!(index, %error, "refused a command that cannot be read; it has changed nothing on any member");
                        (head.origin, head.id, Err(ApplyError::Unreadable))
                    }
                };
                self.state.end_command();
                if origin == self.origin {
                    replies.push(Reply { id, outcome });
                }
            }
            self.state.applied.index = entry.index.get();
            self.state.applied.term = entry.term.get();
            digests.push(self.state.applied.digest);
        }
        if !digests.is_empty() {
            self.commit_and_publish()?;
            self.digests.extend(&digests);
        }
        Ok(replies)
    }

    /// Takes the changes of raft's configuration since the last call.
    pub fn take_reconfigurations(&mut self) -> Vec<Reconfiguration> {
        std::mem::take(&mut self.state.membership.reconfigurations)
    }

    /// Continues with another database, which came in a snapshot.
    pub fn replace(&mut self, database: Arc<StateDatabase>) -> Result<(), MachineError> {
        self.state = State::load(database, self.options.header_cache_bytes)?;
        if let Some(metrics) = &self.metrics {
            self.state.database.set_metrics(metrics);
        }
        self.restart_digests();
        self.publish(true);
        Ok(())
    }

    /// Publishes the same state again. The newest view keeps the tables that it has seen: where nothing is written, this
    /// releases the old tables after space was reclaimed.
    pub fn republish(&self) {
        self.views.publish(self.state.view());
    }

    pub fn applied_index(&self) -> LogIndex {
        LogIndex(self.state.applied.index)
    }

    /// -1 as long as nothing has been compacted.
    pub fn compact_revision(&self) -> i64 {
        self.state.applied.compact_revision
    }

    pub fn state(&self) -> &Arc<StateDatabase> {
        &self.state.database
    }

    /// The cluster; a new `Arc` after each change.
    pub fn cluster(&self) -> &SharedCluster {
        self.state.membership.cluster()
    }

    fn check_index(&self, found: LogIndex) -> Result<(), MachineError> {
        let expected = self.state.applied.index + 1;
        if found.get() == expected {
            Ok(())
        } else {
            Err(MachineError::Hole {
                expected,
                found: found.get(),
            })
        }
    }

    fn commit_and_publish(&mut self) -> Result<(), MachineError> {
        self.state.commit()?;
        self.publish(false);
        Ok(())
    }

    /// Publishes the view first: a watcher that registers in between finds in it the changes that it is not handed.
    fn publish(&mut self, is_replaced: bool) {
        let after = self.views.load().revision();
        let revision = self.state.applied.revision;
        let watched = std::mem::take(&mut self.state.keys.watched);
        let leases = std::mem::take(&mut self.state.leases.noted);
        let done = std::mem::take(&mut self.state.keys.done);
        if let Some(metrics) = &self.metrics {
            metrics.add(&done);
        }
        self.views.publish(self.state.view());
        let keys = (revision != after && self.wanted().changes).then(|| AppliedChanges {
            after,
            revision,
            changes: watched.changes.then_some(watched.noted),
            previous: watched.previous,
        });
        if keys.is_none() && leases.is_empty() && !is_replaced {
            return;
        }
        let mut publication = Publication {
            view: self.views.load(),
            is_replaced,
            keys,
            leases,
        };
        for observer in &self.observers {
            observer.published(&mut publication);
        }
    }

    fn wanted(&self) -> Wanted {
        let wanted = self.observers.iter().map(|observer| observer.wanted());
        wanted.fold(Wanted::default(), Wanted::or)
    }

    fn apply_command(
        &mut self,
        command: Command,
        entry: &CommittedEntry,
    ) -> Result<Result<Outcome, ApplyError>, StateError> {
        let state = &mut self.state;
        if let Some(request) = &command.request
            && let Err(refused) = alarms::admit(state, request)
        {
            return Ok(Err(refused));
        }
        let outcome = match command.request {
            Some(Request::Put(request)) => txn::put(state, &request).map(Outcome::Put),
            Some(Request::DeleteRange(request)) => txn::delete_range(state, &request)
                .map(Outcome::DeleteRange)
                .map_err(ApplyFailure::from),
            Some(Request::Txn(request)) => {
                txn::txn(state, &request, command.origin == self.origin).map(Outcome::Txn)
            }
            Some(Request::Compaction(request)) => compact(state, &request).map(Outcome::Compaction),
            Some(Request::LeaseGrant(request)) => {
                leases::grant(state, &request, entry.index.get()).map(Outcome::LeaseGrant)
            }
            Some(Request::LeaseRevoke(request)) => leases::revoke(state, request).map(Outcome::LeaseRevoke),
            Some(Request::LeaseExpiry(expiry)) => {
                leases::expire(state, &expiry, entry.term).map(|()| Outcome::Done)
            }
            Some(Request::LeaseCheckpoints(checkpoints)) => {
                leases::checkpoint(state, &checkpoints, entry.term).map(|()| Outcome::Done)
            }
            Some(Request::MemberAttributes(attributes)) => state
                .membership
                .set_attributes(&mut state.applied, attributes)
                .map(|()| Outcome::Done)
                .map_err(ApplyFailure::from),
            Some(Request::PeerUrls(moved)) => state
                .membership
                .set_peer_urls(&mut state.applied, moved)
                .map(Outcome::MemberUpdate)
                .map_err(ApplyFailure::from),
            Some(Request::MemberChange(change)) => {
                change_members(state, entry, &change).map_err(ApplyFailure::from)
            }
            Some(Request::ClusterVersion(version)) => {
                state.membership.set_version(&mut state.applied, version.version);
                Ok(Outcome::Done)
            }
            Some(Request::Downgrade(downgrade)) => state
                .membership
                .set_downgrade(&mut state.applied, downgrade)
                .map(|()| Outcome::Done)
                .map_err(ApplyFailure::from),
            Some(Request::Alarm(command)) => Ok(Outcome::Alarm(alarms::change(state, command))),
            // Refused when entries are decoded.
            None => Ok(Outcome::Done),
        };
        match outcome {
            Ok(outcome) => Ok(Ok(outcome)),
            Err(ApplyFailure::Refused(error)) => Ok(Err(error)),
            Err(ApplyFailure::Fatal(error)) => Err(error),
        }
    }
}

/// The commands of an entry.
fn commands(entry: &CommittedEntry) -> Result<Vec<EntryCommand>, MachineError> {
    let index = entry.index.get();
    match &entry.payload {
        Payload::Empty => Ok(vec![]),
        Payload::Commands(data) => {
            entry::commands(data.clone()).map_err(|source| MachineError::Entry { index, source })
        }
        Payload::Configuration(data) => match entry::commands(data.clone()) {
            Ok(commands) if is_member_change(&commands) => Ok(commands),
            _ => Err(MachineError::Configuration { index }),
        },
        Payload::Unknown { context, .. } => Err(MachineError::Format {
            index,
            context: context.clone(),
        }),
    }
}

/// Whether an entry that changes raft's configuration holds exactly one membership change.
fn is_member_change(commands: &[EntryCommand]) -> bool {
    let [EntryCommand::Read(command)] = commands else {
        return false;
    };
    matches!(command.request, Some(Request::MemberChange(_)))
}

/// Accepts a change only in an entry that raft knows as one. Among other commands, where no leader puts it, it could take
/// effect while another change is pending.
fn change_members(
    state: &mut State,
    entry: &CommittedEntry,
    change: &MemberChange,
) -> Result<Outcome, ApplyError> {
    if !matches!(entry.payload, Payload::Configuration(_)) {
        return Err(ApplyError::Unreadable);
    }
    let members = state.membership.change(&mut state.applied, entry.index, change)?;
    alarms::forget_all_but(state, &members);
    Ok(Outcome::Members(members))
}

/// Raises the compact revision. The space is reclaimed later.
fn compact(state: &mut State, request: &CompactionRequest) -> Result<CompactionResponse, ApplyFailure> {
    if request.revision <= state.applied.compact_revision {
        return Err(ApplyError::Compacted.into());
    }
    if request.revision > state.applied.revision {
        return Err(ApplyError::FutureRevision.into());
    }
    let replaced = state.keys.replaced_up_to(&state.applied, request.revision)?;
    state.applied.compact(request.revision, replaced);
    Ok(CompactionResponse {
        header: Some(state.header()),
    })
}
