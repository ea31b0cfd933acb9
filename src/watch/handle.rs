//! The way to the hub, from any thread: changes from the applier, requests from the streams, what was read from the disk.

use super::catch_up::ReadOutcome;
use super::hub::{Create, Opened, StreamId};
use crate::apply::changes::{AppliedChange, AppliedChanges, ChangeSink, Wanted};
use crate::inbox::Inbox;
use crate::limits::sizes;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

/// What a stream asks of the hub.
#[derive(Debug)]
pub enum Request {
    Open(Opened),
    Create(Create),
    Cancel(i64),
    Progress,
    /// There is room in the outbox again.
    Drained,
    /// The client has gone.
    Close,
}

/// What waits for the hub. Changes come before requests: who creates a watcher after a write was acknowledged finds the
/// write behind it.
#[derive(Debug, Default)]
pub struct HubWork {
    pub changes: Vec<AppliedChanges>,
    changes_bytes: usize,
    pub requests: Vec<(StreamId, Request)>,
    pub read: Option<ReadOutcome>,
    /// Permissions have changed.
    pub recheck: bool,
    /// The member stops.
    pub stop: bool,
}

impl HubWork {
    /// Keeps at most `WATCH_INBOX_BYTES` of changes; beyond that the hub learns the revision alone, and watchers read.
    fn add_changes(&mut self, mut applied: AppliedChanges) {
        self.changes_bytes += applied.changes.iter().flatten().map(bytes).sum::<usize>();
        if self.changes_bytes > sizes().watch_inbox_bytes {
            applied.changes = None;
            if let Some(first) = self.changes.first() {
                applied.after = first.after;
            }
            self.changes.clear();
            self.changes_bytes = 0;
        }
        self.changes.push(applied);
    }
}

fn bytes(change: &AppliedChange) -> usize {
    let records = [&change.record, &change.previous];
    let stored = records.into_iter().flatten().map(|record| record.stored().len());
    128 + change.key.len() + stored.sum::<usize>()
}

/// Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct WatchHandle {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    inbox: Inbox<HubWork>,
    /// Whether there are watchers: then the applier collects changes.
    changes_wanted: AtomicBool,
    /// Whether any of them wants to know what was there before.
    previous_wanted: AtomicBool,
    streams: AtomicU64,
}

impl WatchHandle {
    /// A number for a new stream.
    pub fn next_stream(&self) -> StreamId {
        StreamId(self.shared.streams.fetch_add(1, Ordering::Relaxed))
    }

    pub fn request(&self, stream: StreamId, request: Request) {
        self.shared
            .inbox
            .add(|work| work.requests.push((stream, request)));
    }

    /// Permissions have changed: has every watcher looked at again.
    pub fn recheck(&self) {
        self.shared.inbox.add(|work| work.recheck = true);
    }

    /// The member stops: ends every stream, those to come too.
    pub fn stop(&self) {
        self.shared.inbox.add(|work| work.stop = true);
    }

    pub(super) fn read_done(&self, outcome: ReadOutcome) {
        self.shared.inbox.add(|work| work.read = Some(outcome));
    }

    pub(super) fn inbox(&self) -> &Inbox<HubWork> {
        &self.shared.inbox
    }

    /// Has the applier collect changes, or not. A view that is loaded after this has everything that will not be handed
    /// over.
    pub(super) fn set_wanted(&self, wanted: Wanted) {
        self.shared.changes_wanted.store(wanted.changes, Ordering::SeqCst);
        self.shared
            .previous_wanted
            .store(wanted.previous, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }
}

impl ChangeSink for WatchHandle {
    fn wanted(&self) -> Wanted {
        fence(Ordering::SeqCst);
        Wanted {
            changes: self.shared.changes_wanted.load(Ordering::SeqCst),
            previous: self.shared.previous_wanted.load(Ordering::SeqCst),
        }
    }

    fn publish(&self, changes: AppliedChanges) {
        self.shared.inbox.add(|work| work.add_changes(changes));
    }
}
