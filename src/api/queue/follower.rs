//! The queues in which callers of this member wait. Each queue is followed once for all its callers: one walk over its keys, then
//! one watcher on all of them. A waiting caller costs an entry in [`Order`] and a channel, and is woken once, when its turn has
//! come.

use super::leaving::Leaving;
use super::order::{Order, QueueEnd, Ticket, Turn};
use super::{create, end};
use crate::api::backend::Backend;
use crate::api::status::CallError;
use crate::env;
use crate::limits::{SCAN_SLICE_KEYS, sizes};
use crate::proto::mvccpb::event::EventType;
use crate::state::View;
use crate::storage::state::error::StateError;
use crate::storage::state::keys::KeyRange;
use crate::watch::{Create, Ending, FollowError, Followed, Following, Wants, WatchedKeys};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, oneshot};

/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct Queues(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// By the common prefix of their keys.
    followed: Mutex<BTreeMap<Bytes, Arc<FollowedQueue>>>,
    /// The number of keys in all queues.
    keys: AtomicUsize,
    keys_max: usize,
    leaving: Arc<Leaving>,
}

/// One queue. Code that needs the lock of [`Shared::followed`] too takes that one first.
#[derive(Debug, Default)]
struct FollowedQueue {
    order: Mutex<Order>,
    /// The last caller has left.
    abandoned: Notify,
}

impl Default for Queues {
    fn default() -> Self {
        Self::with_keys_max(sizes().queue_keys_max)
    }
}

impl Queues {
    pub fn with_keys_max(keys_max: usize) -> Self {
        Self(Arc::new(Shared {
            followed: Mutex::default(),
            keys: AtomicUsize::new(0),
            keys_max,
            leaving: Arc::default(),
        }))
    }

    pub(super) fn leaving(&self) -> &Arc<Leaving> {
        &self.0.leaving
    }

    /// Waits until there is no key under this prefix older than the one created at this revision.
    pub(super) fn turn<B: Backend>(&self, backend: &B, prefix: &Bytes, create_revision: i64) -> Waiting {
        let mut followed = self.followed();
        let mut is_new = false;
        let queue = followed.entry(prefix.clone()).or_insert_with(|| {
            is_new = true;
            Arc::default()
        });
        let mut order = queue.order();
        let (ticket, turn) = order.wait(create_revision);
        wake_ready(&mut order);
        drop(order);
        let queue = Arc::clone(queue);
        drop(followed);
        if is_new {
            let follower = Follower {
                backend: backend.clone(),
                queues: self.clone(),
                prefix: prefix.clone(),
                queue: Arc::clone(&queue),
                keys: 0,
            };
            env::spawn(follower.run());
        }
        Waiting { queue, ticket, turn }
    }

    /// The oldest known key under this prefix, with its create revision. If a view that is loaded afterwards still holds this
    /// key, there is no older one: all older keys were known.
    pub(super) fn front(&self, prefix: &[u8]) -> Option<(Bytes, i64)> {
        let followed = self.followed();
        let order = followed.get(prefix)?.order();
        let (key, created) = order.front()?;
        Some((Bytes::copy_from_slice(key), created))
    }

    fn followed(&self) -> MutexGuard<'_, BTreeMap<Bytes, Arc<FollowedQueue>>> {
        self.0.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(crate) fn sizes(&self) -> (usize, usize) {
        (self.followed().len(), self.0.keys.load(Ordering::Relaxed))
    }

    #[cfg(test)]
    pub(crate) fn places(&self) -> usize {
        self.0.leaving.places()
    }
}

impl FollowedQueue {
    fn order(&self) -> MutexGuard<'_, Order> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A caller that waits in a queue.
#[derive(Debug)]
pub(super) struct Waiting {
    queue: Arc<FollowedQueue>,
    ticket: Ticket,
    turn: oneshot::Receiver<Turn>,
}

impl Waiting {
    pub async fn turn(mut self) -> Turn {
        (&mut self.turn).await.unwrap_or(Err(QueueEnd::Stopped))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut order = self.queue.order();
        order.forget(self.ticket);
        if !order.is_awaited() {
            self.queue.abandoned.notify_one();
        }
    }
}

fn wake_ready(order: &mut Order) {
    while let Some(turn) = order.next_ready() {
        // The caller may have left.
        let _ = turn.send(Ok(()));
    }
}

/// The task that keeps one queue up to date while callers wait in it.
struct Follower<B> {
    backend: B,
    queues: Queues,
    prefix: Bytes,
    queue: Arc<FollowedQueue>,
    /// The number of keys that it has added to the count of all queues.
    keys: usize,
}

impl<B: Backend> Follower<B> {
    async fn run(mut self) {
        let end = loop {
            match self.follow().await {
                ControlFlow::Continue(()) => {}
                ControlFlow::Break(end) => break end,
            }
        };
        let Some(end) = end else { return };
        let mut followed = self.queues.followed();
        followed.remove(&self.prefix);
        let waiting = self.queue.order().take_waiting();
        drop(followed);
        for turn in waiting {
            let _ = turn.send(Err(end.clone()));
        }
    }

    /// Follows the queue until it has to be loaded again, or ends: for a reason that callers must get, or because there are no
    /// callers.
    async fn follow(&mut self) -> ControlFlow<Option<QueueEnd>> {
        let view = self.backend.view();
        let revision = view.revision();
        let keys = match self.load(&view).await {
            Ok(Some(keys)) => keys,
            Ok(None) => return ControlFlow::Break(Some(QueueEnd::TooLong)),
            Err(error) => return ControlFlow::Break(Some(QueueEnd::Failed(error.to_string()))),
        };
        // A view that is kept also keeps its data on disk.
        drop(view);
        self.change(|order| order.load(revision, keys))?;
        let watcher = Create {
            keys: WatchedKeys::new(&self.prefix, &end(&self.prefix)),
            wants: Wants {
                puts: true,
                deletes: true,
                previous: false,
            },
            ..create(revision + 1)
        };
        let mut following = Following::start(self.backend.watches(), watcher, false);
        let queue = Arc::clone(&self.queue);
        loop {
            self.end_if_abandoned()?;
            let followed = tokio::select! {
                biased;
                followed = following.next() => followed,
                () = queue.abandoned.notified() => continue,
            };
            match followed {
                Ok(followed) => self.change(|order| take_in(order, followed))?,
                // The newest state shows the result of compacted revisions.
                Err(FollowError::Compacted) => return ControlFlow::Continue(()),
                Err(FollowError::Ended(Ending::Stopped)) => {
                    return ControlFlow::Break(Some(QueueEnd::Stopped));
                }
                Err(error) => {
                    let reason = CallError::from(error).to_string();
                    return ControlFlow::Break(Some(QueueEnd::Failed(reason)));
                }
            }
        }
    }

    /// The keys of the queue; none if there are too many.
    async fn load(&self, view: &View) -> Result<Option<Vec<(Arc<[u8]>, i64)>>, StateError> {
        let mut keys = vec![];
        let room = self.room();
        let whole = walk(view, &self.prefix, |key, created| {
            // Copied, so as not to keep the block that it was read from.
            keys.push((Arc::from(&key[..]), created));
            keys.len() <= room
        });
        Ok(whole.await?.then_some(keys))
    }

    /// The number of keys that this queue may have.
    fn room(&self) -> usize {
        let others = self
            .queues
            .0
            .keys
            .load(Ordering::Relaxed)
            .saturating_sub(self.keys);
        self.queues.0.keys_max.saturating_sub(others)
    }

    /// Changes the order and wakes the callers that are then at the front.
    fn change(&mut self, change: impl FnOnce(&mut Order)) -> ControlFlow<Option<QueueEnd>> {
        let queue = Arc::clone(&self.queue);
        let mut order = queue.order();
        change(&mut order);
        wake_ready(&mut order);
        let keys = order.len();
        drop(order);
        self.set_keys(keys);
        if keys > self.room() {
            return ControlFlow::Break(Some(QueueEnd::TooLong));
        }
        ControlFlow::Continue(())
    }

    fn set_keys(&mut self, keys: usize) {
        let all = &self.queues.0.keys;
        all.fetch_add(keys, Ordering::Relaxed);
        all.fetch_sub(std::mem::replace(&mut self.keys, keys), Ordering::Relaxed);
    }

    fn end_if_abandoned(&self) -> ControlFlow<Option<QueueEnd>> {
        let mut followed = self.queues.followed();
        if self.queue.order().is_awaited() {
            return ControlFlow::Continue(());
        }
        followed.remove(&self.prefix);
        ControlFlow::Break(None)
    }
}

impl<B> Drop for Follower<B> {
    fn drop(&mut self) {
        self.queues.0.keys.fetch_sub(self.keys, Ordering::Relaxed);
    }
}

fn take_in(order: &mut Order, followed: Followed) {
    for event in followed.events {
        let kind = event.r#type();
        let kv = event.kv.unwrap_or_default();
        match kind {
            EventType::Put => order.put(&kv.key, kv.create_revision),
            EventType::Delete => {
                if let Some(turn) = order.next_behind(&kv.key) {
                    let _ = turn.send(Ok(()));
                }
                order.delete(&kv.key);
            }
        }
        // Not the header's revision, which may be ahead of events that are still to come.
        order.advance(kv.mod_revision);
    }
}

/// Visits all keys with a prefix and their create revisions, in slices. Returns false if `visit` stopped it.
pub(super) async fn walk(
    view: &View,
    prefix: &Bytes,
    mut visit: impl FnMut(&Bytes, i64) -> bool,
) -> Result<bool, StateError> {
    let range = KeyRange::new(prefix.clone(), end(prefix));
    for (count, found) in view.created(&range).enumerate() {
        if count % SCAN_SLICE_KEYS == SCAN_SLICE_KEYS - 1 {
            env::yield_now().await;
        }
        let (key, create_revision) = found?;
        if !visit(&key, create_revision) {
            return Ok(false);
        }
    }
    Ok(true)
}
