//! Slow work on the disk, on a thread of its own: syncing the state so that the log can be cut, reclaiming what a compaction,
//! a cut, deletions and overwritten values left behind, and removing a state that a snapshot has replaced. Writing, applying and reading go on meanwhile.

use crate::apply::ApplyWork;
use crate::consensus::inbox::Incoming;
use crate::env;
use crate::ids::LogIndex;
use crate::inbox::{Inbox, Wake};
use crate::metrics::StoreMetrics;
use crate::state::Views;
use crate::stop::StopSignal;
use crate::storage::checkpoint_work::CheckpointWork;
use crate::storage::log::LogDatabase;
use crate::storage::state::StateDatabase;
use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, WrapFuture};
use std::sync::Arc;
use std::time::Duration;

/// Interval between looks whether the last reader of a replaced state has gone.
const REPLACED_INTERVAL: Duration = Duration::from_secs(1);

/// Interval between looks which tables are in use, of the log and of the state: shorter than most of them live.
const TABLES_INTERVAL: Duration = Duration::from_secs(1);

/// On a member where nothing is applied, garbage is collected within so many looks, a minute: then there is no need to
/// publish its view anew.
const IDLE_LOOKS_MAX: u32 = 60;

/// The actor.
#[derive(Debug)]
pub struct Checkpointer {
    pub log: LogDatabase,
    pub views: Views,
    pub inbox: Arc<Inbox<CheckpointWork>>,
    pub consensus: Arc<Inbox<Incoming>>,
    pub applier: Arc<Inbox<Vec<ApplyWork>>>,
    pub stop: StopSignal,
    pub metrics: Arc<StoreMetrics>,
    pub idle: Idle,
}

/// How long nothing has been applied. The view that was published last reads tables that are not in use any more: where
/// nothing is applied, it has to be published anew for their space to come back.
#[derive(Debug, Default)]
pub struct Idle {
    index: LogIndex,
    looks: u32,
}

impl Idle {
    /// Whether the view is to be published anew.
    fn look(&mut self, applied: LogIndex) -> bool {
        if applied != self.index {
            *self = Self {
                index: applied,
                looks: 0,
            };
            return false;
        }
        self.looks = self.looks.saturating_add(1);
        self.looks <= IDLE_LOOKS_MAX
    }
}

impl Actor for Checkpointer {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        self.inbox.set_owner(context.address().recipient());
        self.look_later(context);
    }
}

impl Checkpointer {
    fn look_later(&self, context: &mut Context<Self>) {
        let pause = env::sleep(TABLES_INTERVAL).into_actor(self);
        context.spawn(pause.map(|(), checkpointer, context| {
            let view = checkpointer.views.load();
            let state = Arc::clone(&view.state);
            let live_bytes = view.applied.usage.live_bytes();
            let is_idle = checkpointer.idle.look(view.applied_index());
            // It would keep what it reads on the disk.
            drop(view);
            // The engines' own threads may have met an error of the disk while nobody writes, or while who does waits
            // for them.
            let collected = state.check().and_then(|()| state.collect_garbage(live_bytes));
            let failed = collected.err().map(|error| error.to_string());
            if is_idle {
                checkpointer.applier.add(|work| work.push(ApplyWork::Republish));
            }
            let log = &checkpointer.log;
            let failed = failed.or_else(|| {
                let dropped = log.check().and_then(|()| log.drop_cut());
                dropped.err().map(|error| error.to_string())
            });
            match failed {
                None => checkpointer.look_later(context),
                Some(error) => checkpointer.stop.fail(&error),
            }
        }));
    }
}

impl Handler<Wake> for Checkpointer {
    type Result = ();

    fn handle(&mut self, _: Wake, context: &mut Context<Self>) {
        let work = self.inbox.take();
        let (views, consensus, stop) = (self.views.clone(), Arc::clone(&self.consensus), self.stop.clone());
        let (applier, metrics) = (Arc::clone(&self.applier), Arc::clone(&self.metrics));
        let inbox = Arc::clone(&self.inbox);
        let run = async move {
            // What this view holds was written before the sync begins.
            let view = views.load();
            if work.checkpoint {
                let sync = || view.state.sync().and_then(|()| view.state.drop_compacted());
                match env::disk_sync(sync).await {
                    Ok(()) => {
                        let synced = view.applied_index();
                        tracing::info!(snapshot_index = synced.get(), "saved snapshot to disk");
                        consensus.add(|incoming| incoming.state_synced = incoming.state_synced.max(synced));
                    }
                    Err(error) => stop.fail(&error),
                }
            }
            remove_replaced(work.replaced, &inbox);
            if !work.reclaim.is_empty() {
                let begin = env::now();
                if let Err(error) = env::disk_sync(|| view.state.reclaim()).await {
                    return stop.fail(&error);
                }
                let took = env::now() - begin;
                metrics.compaction_milliseconds.observe(took.as_millis() as f64);
                metrics.last_compaction.set(env::unix_time().as_secs() as i64);
                tracing::info!(
                    compact_revision = view.compact_revision(),
                    ?took,
                    live_bytes = view.applied.usage.live_bytes(),
                    "reclaimed the space of compacted revisions"
                );
                applier.add(|work| work.push(ApplyWork::Republish));
                for waiting in work.reclaim {
                    // Whoever asked may have gone.
                    let _ = waiting.send(());
                }
            }
        };
        context.wait(run.into_actor(self));
    }
}

/// Removes those that nobody else has, and comes back for the others.
fn remove_replaced(replaced: Vec<Arc<StateDatabase>>, inbox: &Arc<Inbox<CheckpointWork>>) {
    let mut read = Vec::new();
    for state in replaced {
        match Arc::try_unwrap(state) {
            Ok(state) => remove(state),
            Err(state) => read.push(state),
        }
    }
    if read.is_empty() {
        return;
    }
    let inbox = Arc::clone(inbox);
    env::spawn_local(async move {
        env::sleep(REPLACED_INTERVAL).await;
        inbox.add(|work| work.replaced.append(&mut read));
    });
}

fn remove(state: StateDatabase) {
    let path = state.path().to_owned();
    drop(state);
    match env::remove_directory(&path) {
        Ok(()) => tracing::info!(path = %path.display(), "removed the state that a snapshot has replaced"),
        // The next start does.
        Err(error) => tracing::warn!(%error, "cannot remove the state that a snapshot has replaced"),
    }
}
