//! The hub's actor, on the network thread. It takes all waiting work at once, so that many batches cost one pass over the
//! watchers and one wake-up of each stream.

use super::catch_up::Read;
use super::handle::{HubWork, Request, WatchHandle};
use super::hub::{Hub, HubOptions};
use crate::env;
use crate::inbox::{Inbox, Wake};
use crate::metrics::WatchMetrics;
use crate::state::Views;
use crate::state::changes::{AppliedChanges, Observer, Wanted};
use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, WrapFuture};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// After this many consecutive checks without a leader, the leader counts as lost (etcd:
/// server/etcdserver/api/v3rpc/interceptor.go, `maxNoLeaderCnt`).
const LOOKS_WITHOUT_LEADER: u32 = 3;

/// What the actor is started with.
pub struct WatchHubOptions {
    pub handle: WatchHandle,
    pub views: Views,
    pub reader: Arc<Inbox<Option<Read>>>,
    pub options: HubOptions,
    /// Whether there is a leader.
    pub has_leader: Box<dyn Fn() -> bool>,
    /// Interval between checks for a leader.
    pub election_timeout: Duration,
    pub metrics: Arc<WatchMetrics>,
}

pub struct WatchHub {
    hub: Hub,
    parts: WatchHubOptions,
    started: env::Instant,
    /// When the next timer goes off.
    timer_ms: Option<u64>,
    looks_without_leader: u32,
    looking: bool,
}

impl fmt::Debug for WatchHub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchHub")
            .field("hub", &self.hub)
            .finish_non_exhaustive()
    }
}

impl WatchHub {
    pub fn new(parts: WatchHubOptions) -> Self {
        Self {
            hub: Hub::new(parts.options, parts.views.load().revision()),
            parts,
            started: env::now(),
            timer_ms: None,
            looks_without_leader: 0,
            looking: false,
        }
    }

    fn now_ms(&self) -> u64 {
        (env::now() - self.started).as_millis() as u64
    }

    fn serve(&mut self, work: HubWork, context: &mut Context<Self>) {
        for changes in merged(work.changes) {
            self.hub.publish(changes);
        }
        let quiet = self.hub.watcher_count() == 0;
        if quiet && !work.requests.is_empty() {
            // Changes are collected from here on; those up to the current view are not needed.
            self.parts.handle.set_wanted(Wanted {
                changes: true,
                previous: false,
            });
            self.hub.set_revision(self.parts.views.load().revision());
        }
        for (stream, request, _place) in work.requests {
            match request {
                Request::Open(mut opened) => {
                    let interval_ms = self.parts.options.progress_interval_ms;
                    // Jitter, so that streams which were opened together do not send progress notifications together.
                    let jitter_ms = env::random_below(interval_ms / 10 + 1);
                    opened.progress_due_ms = self.now_ms() + interval_ms + jitter_ms;
                    let require_leader = opened.require_leader;
                    self.hub.open(stream, opened);
                    self.set_timer(context);
                    if require_leader {
                        self.look_for_leader(context);
                    }
                }
                Request::Create(create) => self.hub.create(stream, create),
                Request::Cancel(watch_id) => self.hub.cancel(stream, watch_id),
                Request::Progress => self.hub.report_progress(stream),
                Request::Drained => self.hub.drained(stream),
                Request::Close => self.hub.close(stream),
            }
        }
        if work.recheck {
            self.hub.recheck();
        }
        if work.stop {
            self.hub.stop();
        }
        if let Some(outcome) = work.read {
            self.hub.read_done(outcome);
        }
        if let Some(read) = self.hub.next_read() {
            self.parts.reader.add(|next| *next = Some(read));
        }
        self.hub.flush();
        let metrics = &self.parts.metrics;
        metrics.streams.set(self.hub.stream_count() as i64);
        metrics.watchers.set(self.hub.watcher_count() as i64);
        metrics.slow_watchers.set(self.hub.behind_count() as i64);
        let wanted = self.hub.wanted();
        if wanted != self.parts.handle.wanted() {
            self.parts.handle.set_wanted(wanted);
        }
    }

    /// Sets one timer, for the next progress notification.
    fn set_timer(&mut self, context: &mut Context<Self>) {
        let Some(due_ms) = self.hub.next_tick_ms() else {
            return;
        };
        if self.timer_ms.is_some_and(|timer_ms| timer_ms <= due_ms) {
            return;
        }
        self.timer_ms = Some(due_ms);
        let timer = env::sleep_until(self.started + Duration::from_millis(due_ms));
        context.spawn(timer.into_actor(self).map(move |(), actor, context| {
            actor.timer_ms.take_if(|timer_ms| *timer_ms == due_ms);
            actor.hub.tick(actor.now_ms());
            actor.hub.flush();
            actor.set_timer(context);
        }));
    }

    /// Checks for a leader as long as there are streams that require one.
    fn look_for_leader(&mut self, context: &mut Context<Self>) {
        if std::mem::replace(&mut self.looking, true) {
            return;
        }
        let timer = env::sleep(self.parts.election_timeout);
        context.spawn(timer.into_actor(self).map(|(), actor, context| {
            actor.looking = false;
            actor.looks_without_leader = if (actor.parts.has_leader)() {
                0
            } else {
                actor.looks_without_leader + 1
            };
            if actor.looks_without_leader >= LOOKS_WITHOUT_LEADER {
                actor.hub.leader_lost();
            }
            if actor.hub.any_requires_leader() {
                actor.look_for_leader(context);
            } else {
                actor.looks_without_leader = 0;
            }
        }));
    }
}

impl Actor for WatchHub {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        let owner = context.address().recipient();
        self.parts.handle.inbox().set_owner(owner);
    }
}

/// Processes the work after the requests that came with the changes have been answered.
#[derive(Clone, Copy, Debug, actix::Message)]
#[rtype(result = "()")]
struct Serve;

impl Handler<Wake> for WatchHub {
    type Result = ();

    /// Replies to writers become ready at the same moment. They go first, and more changes may arrive meanwhile.
    fn handle(&mut self, _: Wake, context: &mut Context<Self>) {
        let hub = context.address();
        env::spawn(async move {
            env::yield_now().await;
            hub.do_send(Serve);
        });
    }
}

impl Handler<Serve> for WatchHub {
    type Result = ();

    fn handle(&mut self, _: Serve, context: &mut Context<Self>) {
        let work = self.parts.handle.inbox().take();
        self.serve(work, context);
    }
}

/// Merges changes that were published one after the other.
fn merged(all: Vec<AppliedChanges>) -> Vec<AppliedChanges> {
    let mut merged: Vec<AppliedChanges> = Vec::with_capacity(1);
    for mut next in all {
        if let Some(last) = merged.last_mut()
            && last.revision == next.after
            && let (Some(changes), Some(more)) = (&mut last.changes, &mut next.changes)
        {
            changes.append(more);
            last.revision = next.revision;
            last.previous &= next.previous;
        } else {
            merged.push(next);
        }
    }
    merged
}
