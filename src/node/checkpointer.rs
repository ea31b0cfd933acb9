//! Slow work on the state's disk, on a thread of its own: syncing the state so that the log can be cut, and reclaiming
//! what a compaction left behind. Applying and reading go on meanwhile.

use crate::apply::actor::ApplyWork;
use crate::consensus::inbox::Incoming;
use crate::env;
use crate::inbox::{Inbox, Wake};
use crate::metrics::StoreMetrics;
use crate::mvcc::Views;
use crate::stop::StopSignal;
use actix::{Actor, AsyncContext, Context, Handler, WrapFuture};
use std::sync::Arc;
use tokio::sync::oneshot;

/// What the checkpointer has to do.
#[derive(Debug, Default)]
pub struct CheckpointWork {
    /// Sync the state and tell consensus up to where.
    pub checkpoint: bool,
    /// Reclaim the space of compacted revisions, then tell whoever asked.
    pub reclaim: Vec<oneshot::Sender<()>>,
}

/// The actor.
#[derive(Debug)]
pub struct Checkpointer {
    pub views: Views,
    pub inbox: Arc<Inbox<CheckpointWork>>,
    pub consensus: Arc<Inbox<Incoming>>,
    pub applier: Arc<Inbox<Vec<ApplyWork>>>,
    pub stop: StopSignal,
    pub metrics: Arc<StoreMetrics>,
}

impl Actor for Checkpointer {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        self.inbox.set_owner(context.address().recipient());
    }
}

impl Handler<Wake> for Checkpointer {
    type Result = ();

    fn handle(&mut self, _: Wake, context: &mut Context<Self>) {
        let work = self.inbox.take();
        let (views, consensus, stop) = (self.views.clone(), Arc::clone(&self.consensus), self.stop.clone());
        let (applier, metrics) = (Arc::clone(&self.applier), Arc::clone(&self.metrics));
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
                    current_db_size_bytes = view.state.disk_bytes(),
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
