//! The machine that turns committed entries into state, replies and views. Owned by one thread.
//!
//! A call of [`Machine::apply`] writes one engine batch (more only if it grows beyond a bound), publishes one view and
//! then returns the replies: whoever gets a reply finds its effect in the newest view. Entries that were applied before
//! are skipped, so the log may be replayed from anywhere at or before the applied index.

use std::sync::Arc;

use bytes::Bytes;

use crate::ids::{LogIndex, Term};
use crate::limits::{HEADER_CACHE_BYTES_DEFAULT, sizes};
use crate::metrics::StoreMetrics;
use crate::mutants::{self, Mutant};
use crate::proto::etcdserverpb::{
    AlarmResponse, CompactionRequest, CompactionResponse, DeleteRangeResponse, LeaseGrantResponse,
    LeaseRevokeResponse, PutResponse, ResponseHeader, TxnResponse,
};
use crate::proto::log::command::Request;
use crate::proto::log::{Command, Member, MemberAttributes};
use crate::proto::peer::ConfState;
use crate::state::alarms;
use crate::state::changes::{AppliedChanges, ChangeSink, Wanted, Watched};
use crate::state::digests::Digests;
use crate::state::entry::{self, EntryCommand};
use crate::state::leases::{self, LeaseSink};
use crate::state::mvcc::view::{View, Views};
use crate::state::pending::Pending;
use crate::state::{ApplyError, Failure, MachineError, txn};
use crate::storage::state::{StateDatabase, StateKeyspace};
use crate::storage::state_alarms::{self, Alarms};
use crate::storage::state_error::StateError;
use crate::storage::state_meta::{self, Applied, Cluster, SharedCluster};

/// One entry of the replicated log.
#[derive(Clone, Debug)]
pub struct CommittedEntry {
    pub index: LogIndex,
    pub term: Term,
    /// An encoded `callboard.log.CommandBatch`; empty for entries that only raft cares about.
    pub data: Bytes,
}

/// What a command has come to.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Put(PutResponse),
    DeleteRange(DeleteRangeResponse),
    Txn(TxnResponse),
    Compaction(CompactionResponse),
    LeaseGrant(LeaseGrantResponse),
    LeaseRevoke(LeaseRevokeResponse),
    Alarm(AlarmResponse),
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

/// What an empty data directory starts from.
#[derive(Clone, Debug, Default)]
pub struct InitialState {
    pub applied_index: LogIndex,
    pub applied_term: Term,
    pub members: Vec<Member>,
    pub conf_state: ConfState,
    /// Empty if the members have yet to agree on one.
    pub cluster_version: String,
}

/// See the head of the file.
pub struct Machine {
    pending: Pending,
    views: Views,
    origin: u64,
    options: MachineOptions,
    sink: Option<Box<dyn ChangeSink>>,
    lease_sink: Option<Box<dyn LeaseSink>>,
    metrics: Option<Arc<StoreMetrics>>,
    digests: Digests,
}

impl Machine {
    /// Takes up what `state` holds. `origin` is the number under which this process proposes.
    pub fn open(
        state: Arc<StateDatabase>,
        origin: u64,
        options: MachineOptions,
    ) -> Result<(Self, Views), MachineError> {
        let pending = load(state, &options)?;
        let views = Views::new(view(&pending));
        let digests = Digests::default();
        digests.restart(LogIndex(pending.applied.index), pending.applied.digest);
        Ok((
            Self {
                pending,
                views: views.clone(),
                origin,
                options,
                sink: None,
                lease_sink: None,
                metrics: None,
                digests,
            },
            views,
        ))
    }

    /// Tells `sink` of every change from now on.
    pub fn set_sink(&mut self, sink: Box<dyn ChangeSink>) {
        self.sink = Some(sink);
    }

    /// Tells `sink` of what happens to leases from now on.
    pub fn set_lease_sink(&mut self, sink: Box<dyn LeaseSink>) {
        self.lease_sink = Some(sink);
    }

    /// Counts operations from now on.
    pub fn set_metrics(&mut self, metrics: Arc<StoreMetrics>) {
        self.pending.state.set_metrics(&metrics);
        self.metrics = Some(metrics);
    }

    /// Whether [`Self::initialize`] has been called on this data directory, or a snapshot has filled it.
    pub fn is_initialized(&self) -> bool {
        self.pending.applied.index > 0 || !self.pending.cluster.members.is_empty()
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
        self.pending.applied.index = applied_index.get();
        self.pending.applied.term = applied_term.get();
        self.pending.set_cluster(Cluster {
            members: sorted(members),
            conf_state,
            version: cluster_version,
        });
        self.commit_and_publish()?;
        self.pending.state.sync()?;
        self.restart_digests();
        Ok(())
    }

    /// The digests after the newest entries.
    pub fn digests(&self) -> &Digests {
        &self.digests
    }

    fn restart_digests(&self) {
        self.digests
            .restart(self.applied_index(), self.pending.applied.digest);
    }

    /// Applies entries in log order. After an error nothing more can be applied.
    pub fn apply(&mut self, entries: &[CommittedEntry]) -> Result<Vec<Reply>, MachineError> {
        let mut replies = vec![];
        let mut digests = vec![];
        self.pending.watched = Watched::new(self.wanted());
        for entry in entries {
            if entry.index.get() <= self.pending.applied.index {
                continue;
            }
            self.check_index(entry.index)?;
            if self.pending.bytes() >= sizes().apply_batch_bytes {
                self.pending.commit()?;
            }
            let commands = entry::commands(entry.data.clone()).map_err(|source| MachineError::Entry {
                index: entry.index.get(),
                source,
            })?;
            for command in commands {
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
                self.pending.end_command();
                if origin == self.origin {
                    replies.push(Reply { id, outcome });
                }
            }
            self.pending.applied.index = entry.index.get();
            self.pending.applied.term = entry.term.get();
            digests.push(self.pending.applied.digest);
        }
        if !digests.is_empty() {
            self.commit_and_publish()?;
            self.digests.extend(&digests);
        }
        Ok(replies)
    }

    /// Applies a change of raft's configuration, together with the members it makes.
    pub fn apply_conf_state(
        &mut self,
        index: LogIndex,
        term: Term,
        conf_state: ConfState,
        members: Vec<Member>,
    ) -> Result<(), MachineError> {
        if index.get() <= self.pending.applied.index {
            return Ok(());
        }
        self.check_index(index)?;
        let version = self.pending.cluster.version.clone();
        alarms::forget_all_but(&mut self.pending, &members);
        self.pending.applied.index = index.get();
        self.pending.applied.term = term.get();
        self.pending.set_cluster(Cluster {
            members: sorted(members),
            conf_state,
            version,
        });
        self.commit_and_publish()?;
        self.digests.extend(&[self.pending.applied.digest]);
        Ok(())
    }

    /// Goes on with another database, which a snapshot has filled.
    pub fn replace(&mut self, state: Arc<StateDatabase>) -> Result<(), MachineError> {
        self.pending = load(state, &self.options)?;
        if let Some(metrics) = &self.metrics {
            self.pending.state.set_metrics(metrics);
        }
        self.restart_digests();
        self.publish();
        if let Some(sink) = &self.lease_sink {
            sink.replaced(self.views.load());
        }
        Ok(())
    }

    /// Publishes the same state again. The newest view keeps the tables that it has seen: after space was reclaimed
    /// on a member where nothing is written, this lets the old ones go.
    pub fn republish(&self) {
        self.views.publish(view(&self.pending));
    }

    pub fn applied_index(&self) -> LogIndex {
        LogIndex(self.pending.applied.index)
    }

    /// -1 as long as nothing has been compacted.
    pub fn compact_revision(&self) -> i64 {
        self.pending.applied.compact_revision
    }

    pub fn state(&self) -> &Arc<StateDatabase> {
        &self.pending.state
    }

    /// Who is in the cluster; another one as soon as that changes.
    pub fn cluster(&self) -> &SharedCluster {
        &self.pending.cluster
    }

    fn check_index(&self, found: LogIndex) -> Result<(), MachineError> {
        let expected = self.pending.applied.index + 1;
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
        self.pending.commit()?;
        self.publish();
        Ok(())
    }

    /// The view first: whoever begins to watch in between finds there what is not handed over.
    fn publish(&mut self) {
        let after = self.views.load().revision();
        let revision = self.pending.applied.revision;
        let watched = std::mem::take(&mut self.pending.watched);
        let leases = std::mem::take(&mut self.pending.leases.noted);
        let done = std::mem::take(&mut self.pending.done);
        if let Some(metrics) = &self.metrics {
            metrics.add(&done);
        }
        self.views.publish(view(&self.pending));
        if !leases.is_empty()
            && let Some(sink) = &self.lease_sink
        {
            sink.publish(leases);
        }
        if revision != after
            && self.wanted().changes
            && let Some(sink) = &self.sink
        {
            sink.publish(AppliedChanges {
                after,
                revision,
                changes: watched.changes.then_some(watched.noted),
                previous: watched.previous,
            });
        }
    }

    fn wanted(&self) -> Wanted {
        self.sink
            .as_ref()
            .map_or_else(Wanted::default, |sink| sink.wanted())
    }

    fn apply_command(
        &mut self,
        command: Command,
        entry: &CommittedEntry,
    ) -> Result<Result<Outcome, ApplyError>, StateError> {
        let pending = &mut self.pending;
        if let Some(request) = &command.request
            && let Err(refused) = alarms::admit(pending, request)
        {
            return Ok(Err(refused));
        }
        let outcome = match command.request {
            Some(Request::Put(request)) => txn::put(pending, &request).map(Outcome::Put),
            Some(Request::DeleteRange(request)) => txn::delete_range(pending, &request)
                .map(Outcome::DeleteRange)
                .map_err(Failure::from),
            Some(Request::Txn(request)) => {
                txn::txn(pending, &request, command.origin == self.origin).map(Outcome::Txn)
            }
            Some(Request::Compaction(request)) => compact(pending, &request).map(Outcome::Compaction),
            Some(Request::LeaseGrant(request)) => {
                leases::grant(pending, &request, entry.index.get()).map(Outcome::LeaseGrant)
            }
            Some(Request::LeaseRevoke(request)) => leases::revoke(pending, request).map(Outcome::LeaseRevoke),
            Some(Request::LeaseExpiry(expiry)) => {
                leases::expire(pending, &expiry, entry.term).map(|()| Outcome::Done)
            }
            Some(Request::LeaseCheckpoints(checkpoints)) => {
                leases::checkpoint(pending, &checkpoints, entry.term).map(|()| Outcome::Done)
            }
            Some(Request::MemberAttributes(attributes)) => set_attributes(pending, attributes)
                .map(|()| Outcome::Done)
                .map_err(Failure::from),
            Some(Request::ClusterVersion(version)) => {
                let cluster = Cluster {
                    version: version.version,
                    ..(*pending.cluster).clone()
                };
                pending.set_cluster(cluster);
                Ok(Outcome::Done)
            }
            Some(Request::Alarm(command)) => Ok(Outcome::Alarm(alarms::change(pending, command))),
            None => Ok(Outcome::Done),
        };
        match outcome {
            Ok(outcome) => Ok(Ok(outcome)),
            Err(Failure::Refused(error)) => Ok(Err(error)),
            Err(Failure::Fatal(error)) => Err(error),
        }
    }
}

fn load(state: Arc<StateDatabase>, options: &MachineOptions) -> Result<Pending, StateError> {
    let applied = match state.get(StateKeyspace::Meta, state_meta::APPLIED_KEY)? {
        Some(stored) => state_meta::decode(state_meta::APPLIED_KEY, &stored)?,
        None => Applied::empty(),
    };
    let cluster = match state.get(StateKeyspace::Meta, state_meta::CLUSTER_KEY)? {
        Some(stored) => state_meta::decode(state_meta::CLUSTER_KEY, &stored)?,
        None => Cluster::default(),
    };
    let alarms = match state.get(StateKeyspace::Meta, state_alarms::ALARMS_KEY)? {
        Some(stored) => state_meta::decode(state_alarms::ALARMS_KEY, &stored)?,
        None => Alarms::default(),
    };
    Ok(Pending::new(
        state,
        options.header_cache_bytes,
        applied,
        Arc::new(cluster),
        Arc::new(alarms),
    ))
}

fn view(pending: &Pending) -> View {
    View::new(
        Arc::clone(&pending.state),
        pending.applied.clone(),
        Arc::clone(&pending.cluster),
        Arc::clone(&pending.alarms),
    )
}

fn sorted(mut members: Vec<Member>) -> Vec<Member> {
    members.sort_by_key(|member| member.id);
    members
}

/// Raises the watermark below which the past is gone; the space comes back later.
fn compact(pending: &mut Pending, request: &CompactionRequest) -> Result<CompactionResponse, Failure> {
    if request.revision <= pending.applied.compact_revision {
        return Err(ApplyError::Compacted.into());
    }
    if request.revision > pending.applied.revision {
        return Err(ApplyError::FutureRevision.into());
    }
    let replaced = pending.replaced_up_to(request.revision)?;
    pending.applied.compact(request.revision, replaced);
    let header = Some(ResponseHeader {
        revision: pending.applied.revision,
        ..Default::default()
    });
    Ok(CompactionResponse { header })
}

fn set_attributes(pending: &mut Pending, attributes: MemberAttributes) -> Result<(), ApplyError> {
    let mut cluster = (*pending.cluster).clone();
    let found = cluster
        .members
        .iter_mut()
        .find(|member| member.id == attributes.member_id);
    let member = found.ok_or(ApplyError::MemberNotFound)?;
    let is_other_disk = member.incarnation != 0 && member.incarnation != attributes.incarnation;
    if is_other_disk && !mutants::active(Mutant::BlankDiskAdmitted) {
        return Err(ApplyError::IncarnationConflict);
    }
    member.incarnation = attributes.incarnation;
    member.name = attributes.name;
    member.client_urls = attributes.client_urls;
    pending.set_cluster(cluster);
    Ok(())
}
