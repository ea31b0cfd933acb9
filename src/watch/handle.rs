//! The interface to the hub, usable from any thread: changes from the applier, requests from streams, results of reads.

use super::catch_up::ReadOutcome;
use super::hub::{Create, OpenedStream, StreamId};
use crate::inbox::Inbox;
use crate::limits::{WATCH_REQUESTS_MAX, sizes};
use crate::state::changes::{AppliedChange, AppliedChanges, Observer, Publication, Wanted};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A stream's request to the hub.
#[derive(Debug)]
pub enum Request {
    Open(OpenedStream),
    Create(Create),
    Cancel(i64),
    Progress,
    /// There is room in the outbox again.
    Drained,
    /// The client has disconnected.
    Close,
}

/// A slot among the requests that wait for the hub; released once the hub has processed the request.
pub type RequestPlace = OwnedSemaphorePermit;

/// Work that waits for the hub. Changes come before requests: a watcher that is created after a write was acknowledged starts
/// behind that write.
#[derive(Debug, Default)]
pub struct HubWork {
    pub changes: Vec<AppliedChanges>,
    changes_bytes: usize,
    /// Each stream has at most one open, close and drain waiting. Requests that a client may send without limit need a slot among
    /// [`WATCH_REQUESTS_MAX`].
    pub requests: Vec<(StreamId, Request, Option<RequestPlace>)>,
    pub read: Option<ReadOutcome>,
    /// Permissions have changed.
    pub recheck: bool,
    /// The member stops.
    pub stop: bool,
}

impl HubWork {
    /// Keeps at most `WATCH_INBOX_BYTES` of changes. Beyond that the hub gets only the revision, and watchers read from the disk.
    fn add_changes(&mut self, mut applied: AppliedChanges) {
        let changes = applied.changes.iter().flatten().map(bytes).sum::<usize>();
        self.changes_bytes += size_of::<AppliedChanges>() + changes;
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

#[derive(Debug)]
struct Shared {
    inbox: Inbox<HubWork>,
    /// Whether there are watchers: if so, the applier collects changes.
    changes_wanted: AtomicBool,
    /// Whether any of them wants the records before the changes.
    previous_wanted: AtomicBool,
    streams: AtomicU64,
    places: Arc<Semaphore>,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            inbox: Inbox::default(),
            changes_wanted: AtomicBool::new(false),
            previous_wanted: AtomicBool::new(false),
            streams: AtomicU64::new(0),
            places: Arc::new(Semaphore::new(WATCH_REQUESTS_MAX)),
        }
    }
}

impl WatchHandle {
    pub fn next_stream(&self) -> StreamId {
        StreamId(self.shared.streams.fetch_add(1, Ordering::Relaxed))
    }

    /// For requests of which a stream has at most one waiting: open, close, drain, and the creation of its only watcher.
    pub fn request(&self, stream: StreamId, request: Request) {
        self.shared
            .inbox
            .add(|work| work.requests.push((stream, request, None)));
    }

    /// For requests that a client may send without limit: waits while too many of them wait for the hub.
    pub async fn request_in_turn(&self, stream: StreamId, request: Request) {
        let places = Arc::clone(&self.shared.places);
        let place = if let Ok(place) = Arc::clone(&places).try_acquire_owned() {
            place
        } else {
            // Boxed, so that idle streams need no memory for it.
            let place = Box::pin(places.acquire_owned()).await;
            place.expect("the semaphore is never closed")
        };
        self.shared
            .inbox
            .add(|work| work.requests.push((stream, request, Some(place))));
    }

    /// Checks the permission of every watcher again, after permissions have changed.
    pub fn recheck(&self) {
        self.shared.inbox.add(|work| work.recheck = true);
    }

    /// Ends every stream, future ones too, when the member stops.
    pub fn stop(&self) {
        self.shared.inbox.add(|work| work.stop = true);
    }

    pub(super) fn read_done(&self, outcome: ReadOutcome) {
        self.shared.inbox.add(|work| work.read = Some(outcome));
    }

    pub(super) fn inbox(&self) -> &Inbox<HubWork> {
        &self.shared.inbox
    }

    /// Tells the applier whether to collect changes. A view that is loaded after this call contains every change that will not be
    /// handed over.
    pub(super) fn set_wanted(&self, wanted: Wanted) {
        self.shared.changes_wanted.store(wanted.changes, Ordering::SeqCst);
        self.shared
            .previous_wanted
            .store(wanted.previous, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }
}

impl Observer for WatchHandle {
    fn wanted(&self) -> Wanted {
        fence(Ordering::SeqCst);
        Wanted {
            changes: self.shared.changes_wanted.load(Ordering::SeqCst),
            previous: self.shared.previous_wanted.load(Ordering::SeqCst),
        }
    }

    fn published(&self, publication: &mut Publication) {
        if let Some(changes) = publication.keys.take() {
            self.shared.inbox.add(|work| work.add_changes(changes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env;
    use std::future::poll_fn;
    use std::pin::pin;
    use std::task::Poll;

    #[test]
    fn requests_beyond_the_bound_wait_in_their_streams_until_the_hub_has_dealt_with_others() {
        env::block_on(async {
            let handle = WatchHandle::default();
            let (greedy, other) = (handle.next_stream(), handle.next_stream());
            for _ in 0..WATCH_REQUESTS_MAX {
                handle.request_in_turn(greedy, Request::Progress).await;
            }
            let mut one_more = pin!(handle.request_in_turn(other, Request::Cancel(1)));
            let mut poll = async || poll_fn(|context| Poll::Ready(one_more.as_mut().poll(context))).await;
            assert!(poll().await.is_pending());
            // Streams still open and close.
            handle.request(greedy, Request::Close);
            let taken = handle.inbox().take();
            assert_eq!(taken.requests.len(), WATCH_REQUESTS_MAX + 1);
            assert!(poll().await.is_pending(), "taken is not dealt with");
            drop(taken);
            assert!(poll().await.is_ready());
            assert!(
                matches!(handle.inbox().take().requests[..], [(stream, Request::Cancel(1), _)] if stream == other)
            );
        });
    }

    #[test]
    fn changes_that_nobody_wants_to_see_take_a_bounded_number_of_places_too() {
        let mut work = HubWork::default();
        for revision in 1..1_000_000 {
            work.add_changes(AppliedChanges {
                after: revision - 1,
                revision,
                changes: None,
                previous: false,
            });
        }
        assert!(work.changes.len() * size_of::<AppliedChanges>() <= sizes().watch_inbox_bytes);
        let (first, last) = (&work.changes[0], &work.changes[work.changes.len() - 1]);
        assert_eq!((first.after, last.revision), (0, 999_999));
    }
}
