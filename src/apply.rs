//! The applier: an actor on a thread of its own that applies committed entries in order, answers the requests that wait for
//! them, and lets reads continue once their index is applied. The machine knows what an entry means.

use crate::env;
use crate::ids::{LogIndex, MemberId};
use crate::inbox::{Inbox, Wake};
use crate::logging::Sparse;
use crate::metrics::StoreMetrics;
use crate::proto::log::Member;
use crate::requests::{Deliveries, Reader, SharedStatus, Waiters, loggable, messages_of};
use crate::state::membership::Reconfiguration;
use crate::state::{CommittedEntry, Machine};
use crate::stop::StopSignal;
use crate::storage::checkpoint_work::CheckpointWork;
use crate::storage::directory::DataDirectory;
use crate::storage::state::StateDatabase;
use crate::storage::state::meta::Cluster;
use crate::version;
use actix::{Actor, AsyncContext, Context, Handler};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Work for the applier, in order.
#[derive(Debug)]
pub enum ApplyWork {
    Entries(Vec<CommittedEntry>),
    /// Reads that may continue once this index is applied.
    Reads(LogIndex, Vec<Reader>),
    /// Space was reclaimed. Where nothing is written, a newly published view releases the old tables.
    Republish,
    /// The state of a snapshot replaces the one in use.
    Replace(Arc<StateDatabase>, LogIndex),
}

/// Is told of the applier's progress.
pub trait ApplyProgress: Send + Sync {
    /// Everything up to `index` is applied. This wakes nobody: it may be noticed with other work.
    fn applied(&self, index: LogIndex);

    /// Applied entries have changed raft's configuration. Called before they count as applied.
    fn reconfigured(&self, reconfigurations: Vec<Reconfiguration>);

    /// The members in the newest view differ from those in the one before.
    fn members_changed(&self);

    /// The state of a snapshot is in use, with its members. It contains everything up to `index`.
    fn replaced(&self, index: LogIndex);
}

/// The applier.
pub struct Applier {
    pub machine: Machine,
    pub directory: Arc<DataDirectory>,
    pub inbox: Arc<Inbox<Vec<ApplyWork>>>,
    pub progress: Arc<dyn ApplyProgress>,
    pub checkpointer: Arc<Inbox<CheckpointWork>>,
    pub waiters: Arc<Waiters>,
    pub deliveries: Arc<Deliveries>,
    pub status: Arc<SharedStatus>,
    pub stop: StopSignal,
    /// Reads whose index is not yet applied.
    pub reads: Vec<(LogIndex, Vec<Reader>)>,
    pub failed: bool,
    pub slow: SlowApplies,
}

/// Lines about slow batches.
const SLOW_LINES_PER_SECOND: u32 = 10;

/// Reports batches that take too long.
#[derive(Debug)]
pub struct SlowApplies {
    metrics: Arc<StoreMetrics>,
    /// `--warning-apply-duration`.
    limit: Duration,
    lines: Sparse,
}

impl SlowApplies {
    pub fn new(metrics: Arc<StoreMetrics>, limit: Duration) -> Self {
        Self {
            metrics,
            limit,
            lines: Sparse::new(SLOW_LINES_PER_SECOND),
        }
    }

    /// etcd reports each request; here all requests of a batch are applied and written together.
    fn note(&self, entries: &[CommittedEntry], took: Duration) {
        if took <= self.limit {
            return;
        }
        self.metrics.slow_applies.inc();
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
            return;
        };
        let Some(others) = self.lines.pass(env::now()) else {
            return;
        };
        let (request, requests) = suspects(entries.iter().map(|entry| entry.payload.data()));
        tracing::warn!(
            ?took, expected_duration = ?self.limit, prefix = "", request, requests,
            entries = %format_args!("{} to {}", first.index, last.index),
            bytes = entries.iter().map(|entry| entry.payload.data().len()).sum::<usize>(), others,
            "apply request took too long"
        );
    }
}

/// The requests that most likely took the time, and the number of all: what is no put may touch many keys however short it is, and a
/// longer one writes more than a shorter one.
fn suspects<'a>(batches: impl Iterator<Item = &'a [u8]>) -> (String, usize) {
    /// Numbers of fields in callboard.log.CommandBatch and callboard.log.Command.
    const COMMANDS: u32 = 1;
    const PUT: u32 = 3;
    const NAMED_MAX: usize = 3;
    let mut commands: Vec<&[u8]> = batches.flat_map(|batch| messages_of(batch, COMMANDS)).collect();
    commands.sort_by_key(|command| {
        let is_put = messages_of(command, PUT).next().is_some();
        (is_put, std::cmp::Reverse(command.len()))
    });
    let named = commands.iter().take(NAMED_MAX);
    let named: Vec<_> = named
        .map(|command| loggable("callboard.log.Command", command))
        .collect();
    (named.join(", "), commands.len())
}

/// Logs the changes of the members, and the beginning of a downgrade, in etcd's words (server/etcdserver/api/membership/cluster.go).
fn announce(before: &Cluster, after: &Cluster) {
    let known: BTreeMap<u64, &Member> = before.members.iter().map(|member| (member.id, member)).collect();
    for member in &after.members {
        let (id, urls) = (MemberId(member.id), &member.peer_urls);
        match known.get(&member.id) {
            None => tracing::info!(
                added_peer_id = %id, added_peer_peer_urls = ?urls, added_peer_is_learner = member.is_learner, "added member"
            ),
            Some(before) if before.is_learner && !member.is_learner => {
                tracing::info!(promoted_member_id = %id, "promote member");
            }
            Some(before) if before.peer_urls != *urls => tracing::info!(
                updated_remote_peer_id = %id, updated_remote_peer_urls = ?urls, "updated member"
            ),
            Some(_) => {}
        }
    }
    if after.is_downgrading() && before.downgrade_target != after.downgrade_target {
        tracing::info!(
            target_version = after.downgrade_target,
            server_version = version::SERVER,
            "The server is ready to downgrade"
        );
    }
    let is_left = |id: &&u64| !after.members.iter().any(|member| member.id == **id);
    for (id, member) in known.iter().filter(|(id, _)| is_left(id)) {
        tracing::info!(
            removed_remote_peer_id = %MemberId(*id), removed_remote_peer_urls = ?member.peer_urls, "removed member"
        );
    }
}

impl Actor for Applier {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        self.inbox.set_owner(context.address().recipient());
    }
}

impl Handler<Wake> for Applier {
    type Result = ();

    fn handle(&mut self, _: Wake, _: &mut Context<Self>) {
        let work = self.inbox.take();
        if self.failed {
            return;
        }
        for item in work {
            let done = match item {
                ApplyWork::Entries(entries) => self.apply(&entries),
                ApplyWork::Replace(state, index) => self.replace(&state, index),
                ApplyWork::Republish => {
                    self.machine.republish();
                    Ok(())
                }
                ApplyWork::Reads(index, readers) => {
                    self.reads.push((index, readers));
                    Ok(())
                }
            };
            if let Err(reason) = done {
                self.failed = true;
                return self.stop.fail(&reason);
            }
            self.let_reads_go();
        }
    }
}

impl Applier {
    fn apply(&mut self, entries: &[CommittedEntry]) -> Result<(), String> {
        let Some(last) = entries.last() else { return Ok(()) };
        let cluster = Arc::clone(self.machine.cluster());
        let compacted = self.machine.compact_revision();
        let begin = env::now();
        let replies = self.machine.apply(entries).map_err(|error| error.to_string())?;
        let took = env::now() - begin;
        self.slow.note(entries, took);
        let compact_revision = self.machine.compact_revision();
        if compact_revision != compacted {
            // The space is reclaimed later and blocks nothing.
            tracing::info!(
                scheduled_compact_revision = compact_revision,
                ?took,
                "finished scheduled compaction"
            );
        }
        if !Arc::ptr_eq(&cluster, self.machine.cluster()) {
            // A power loss must not undo which disk belongs to a member: a blank disk would be admitted until the log has been
            // replayed.
            self.machine.state().sync().map_err(|error| error.to_string())?;
            announce(&cluster, self.machine.cluster());
            let reconfigurations = self.machine.take_reconfigurations();
            if !reconfigurations.is_empty() {
                self.progress.reconfigured(reconfigurations);
            }
            self.progress.members_changed();
        }
        self.status.applied_index.store(last.index.0, Ordering::Release);
        self.deliveries.extend(self.waiters.complete(replies));
        // Consensus learns it with its next work, at the latest with a tick: nothing there waits for it.
        self.progress.applied(last.index);
        Ok(())
    }

    fn replace(&mut self, state: &Arc<StateDatabase>, index: LogIndex) -> Result<(), String> {
        // The name on disk comes first: from here on a restart finds the new state and discards the older log.
        self.directory
            .activate_state(state.path(), index)
            .map_err(|error| error.to_string())?;
        let replaced = Arc::clone(self.machine.state());
        self.machine
            .replace(Arc::clone(state))
            .map_err(|error| error.to_string())?;
        self.checkpointer.add(|work| work.replaced.push(replaced));
        tracing::info!(path = %state.path().display(), "applySnapshot: opened snapshot backend");
        let applied = self.machine.applied_index();
        if applied != index {
            return Err(format!(
                "a snapshot announced at entry {index} holds the state at entry {applied}"
            ));
        }
        self.status.applied_index.store(applied.0, Ordering::Release);
        self.progress.replaced(applied);
        Ok(())
    }

    fn let_reads_go(&mut self) {
        let applied = self.machine.applied_index();
        for (_, readers) in self.reads.extract_if(.., |(index, _)| *index <= applied) {
            self.deliveries.answer_reads(readers, Ok(()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::etcdserverpb::{DeleteRangeRequest, PutRequest};
    use crate::proto::log::{Command, CommandBatch, command::Request};
    use prost::Message;

    #[test]
    fn a_slow_batch_is_named_by_its_heaviest_requests() {
        let command = |request| Command {
            id: 5,
            request: Some(request),
            ..Command::default()
        };
        let put = |key: &str, bytes: usize| {
            command(Request::Put(PutRequest {
                key: key.to_owned().into(),
                value: "v".repeat(bytes).into(),
                ..PutRequest::default()
            }))
        };
        let delete = command(Request::DeleteRange(DeleteRangeRequest {
            key: "a".into(),
            range_end: "z".into(),
            ..DeleteRangeRequest::default()
        }));
        let batches = [vec![put("a", 1), put("b", 500)], vec![delete, put("c", 50)]];
        let batches = batches.map(|commands| CommandBatch { commands }.encode_to_vec());
        let (request, requests) = suspects(batches.iter().map(Vec::as_slice));
        assert_eq!(requests, 4);
        assert_eq!(
            request,
            "id:5 delete_range:{key:\"a\" range_end:\"z\"}, id:5 put:{key:\"b\" value_size:500}, \
             id:5 put:{key:\"c\" value_size:50}"
        );
    }
}
