//! The order of one queue: its keys by create revision, and which callers wait for which keys. Pure: no clock, no I/O. Every step
//! costs the logarithm of the number of keys.
//!
//! A caller is at the front once there is no key that was created before its own. The set of keys older than a caller's only
//! shrinks, and the caller's own key is in the queue. So the order can decide as soon as it has seen the revision that created
//! that key, however far this member lags behind.

use crate::mutants::{self, Mutant};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Why the wait of a caller ends without its turn.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueueEnd {
    /// There are more keys under the name than a member keeps in memory.
    #[error("the queue is too long to be kept in memory")]
    TooLong,
    #[error("server stopped")]
    Stopped,
    #[error("{0}")]
    Failed(String),
}

/// The result of a wait.
pub type Turn = Result<(), QueueEnd>;

/// One waiting caller: the create revision of its key, and a number, since several calls may share a key.
pub type Ticket = (i64, u64);

/// See the head of the file.
#[derive(Debug, Default)]
pub struct Order {
    /// Everything up to here is included.
    revision: i64,
    keys: BTreeSet<(i64, Arc<[u8]>)>,
    created: BTreeMap<Arc<[u8]>, i64>,
    waiting: BTreeMap<Ticket, oneshot::Sender<Turn>>,
    tickets: u64,
}

impl Order {
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    pub fn is_awaited(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Replaces everything by the keys at this revision.
    pub fn load(&mut self, revision: i64, keys: Vec<(Arc<[u8]>, i64)>) {
        self.revision = revision;
        self.keys = keys
            .iter()
            .map(|(key, created)| (*created, Arc::clone(key)))
            .collect();
        self.created = keys.into_iter().collect();
    }

    /// Adds a key that was created at this revision.
    pub fn put(&mut self, key: &[u8], create_revision: i64) {
        if self.created.get(key) == Some(&create_revision) {
            return;
        }
        self.delete(key);
        let key: Arc<[u8]> = key.into();
        self.keys.insert((create_revision, Arc::clone(&key)));
        self.created.insert(key, create_revision);
    }

    pub fn delete(&mut self, key: &[u8]) {
        if let Some((key, create_revision)) = self.created.remove_entry(key) {
            self.keys.remove(&(create_revision, key));
        }
    }

    /// Records that everything up to this revision is included.
    pub fn advance(&mut self, revision: i64) {
        self.revision = self.revision.max(revision);
    }

    /// Adds a caller that waits for the key created at this revision.
    pub fn wait(&mut self, create_revision: i64) -> (Ticket, oneshot::Receiver<Turn>) {
        let (turn, receiver) = oneshot::channel();
        let ticket = (create_revision, self.tickets);
        self.tickets += 1;
        self.waiting.insert(ticket, turn);
        (ticket, receiver)
    }

    /// Removes a caller that has left or was told.
    pub fn forget(&mut self, ticket: Ticket) {
        self.waiting.remove(&ticket);
    }

    /// Removes and returns a caller that is at the front, if there is one. Call it until there is none.
    pub fn next_ready(&mut self) -> Option<oneshot::Sender<Turn>> {
        let first = self.waiting.first_entry()?;
        let (create_revision, _) = *first.key();
        let is_known = create_revision <= self.revision;
        let is_first = self
            .keys
            .first()
            .is_none_or(|(oldest, _)| *oldest >= create_revision);
        (is_known && is_first).then(|| first.remove())
    }

    /// For a mutant: takes the next caller behind a deleted key for the first.
    pub fn next_behind(&mut self, key: &[u8]) -> Option<oneshot::Sender<Turn>> {
        if !mutants::active(Mutant::QueueAskedOnce) {
            return None;
        }
        let gone = *self.created.get(key)?;
        let behind = (Bound::Excluded((gone, u64::MAX)), Bound::Unbounded);
        let ticket = *self.waiting.range(behind).next()?.0;
        self.waiting.remove(&ticket)
    }

    /// The oldest key.
    pub fn front(&self) -> Option<(&[u8], i64)> {
        self.keys.first().map(|(created, key)| (&**key, *created))
    }

    /// Removes and returns all callers, because the queue is no longer followed.
    pub fn take_waiting(&mut self) -> Vec<oneshot::Sender<Turn>> {
        std::mem::take(&mut self.waiting).into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(name: &str) -> Arc<[u8]> {
        name.as_bytes().into()
    }

    fn ready(order: &mut Order) -> usize {
        std::iter::from_fn(|| order.next_ready()).count()
    }

    #[test]
    fn callers_come_to_the_front_one_after_the_other() {
        let mut order = Order::default();
        order.load(3, vec![(key("b"), 2), (key("a"), 3)]);
        let (_, first) = order.wait(2);
        let (_, second) = order.wait(3);
        let (_, third) = order.wait(5);
        assert_eq!(ready(&mut order), 1);
        assert!(first.is_terminated() || !order.waiting.contains_key(&(2, 0)));
        order.delete(b"b");
        assert_eq!(ready(&mut order), 1);
        order.delete(b"a");
        assert_eq!(
            ready(&mut order),
            0,
            "what came before revision 5 is not known yet"
        );
        order.put(b"x", 4);
        order.put(b"c", 5);
        order.advance(5);
        assert_eq!(ready(&mut order), 0, "somebody came between");
        order.delete(b"x");
        assert_eq!(ready(&mut order), 1);
        drop((second, third));
    }

    #[test]
    fn a_key_that_comes_again_stands_at_the_end() {
        let mut order = Order::default();
        order.load(3, vec![(key("a"), 2), (key("b"), 3)]);
        let (ticket, _receiver) = order.wait(3);
        order.put(b"a", 2);
        assert_eq!(
            (order.len(), ready(&mut order)),
            (2, 0),
            "only its value has changed"
        );
        order.delete(b"a");
        order.put(b"a", 7);
        order.advance(7);
        assert_eq!((order.len(), ready(&mut order)), (2, 1));
        order.forget(ticket);
        assert_eq!(order.front(), Some((&b"b"[..], 3)));
    }

    #[test]
    fn calls_that_share_a_key_are_all_told() {
        let mut order = Order::default();
        order.load(3, vec![(key("a"), 2), (key("b"), 3)]);
        let waiting = [order.wait(3), order.wait(3)];
        order.delete(b"a");
        assert_eq!(ready(&mut order), 2);
        drop(waiting);
        assert!(!order.is_awaited());
    }

    #[derive(Clone, Debug)]
    enum Step {
        Put(u8),
        Delete(u8),
        Wait(u8),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (0..8_u8).prop_map(Step::Put),
            (0..8_u8).prop_map(Step::Delete),
            (0..8_u8).prop_map(Step::Wait),
        ];
        proptest::collection::vec(step, 0..60)
    }

    proptest! {
        /// A caller is told exactly when no older key is left.
        #[test]
        fn it_agrees_with_a_look_at_all_keys(steps in steps()) {
            let mut order = Order::default();
            let mut model: BTreeMap<u8, i64> = BTreeMap::new();
            let mut waiting: Vec<(i64, oneshot::Receiver<Turn>)> = vec![];
            for (index, step) in steps.into_iter().enumerate() {
                let revision = index as i64 + 1;
                match step {
                    Step::Put(name) => {
                        let created = *model.entry(name).or_insert(revision);
                        order.put(&[name], created);
                    }
                    Step::Delete(name) => {
                        model.remove(&name);
                        order.delete(&[name]);
                    }
                    Step::Wait(name) => {
                        if let Some(created) = model.get(&name) {
                            waiting.push((*created, order.wait(*created).1));
                        }
                    }
                }
                order.advance(revision);
                while let Some(turn) = order.next_ready() {
                    turn.send(Ok(())).expect("the receiver is kept");
                }
                waiting.retain_mut(|(created, turn)| {
                    let is_first = model.values().all(|other| *other >= *created);
                    assert_eq!(turn.try_recv().is_ok(), is_first);
                    !is_first
                });
                prop_assert_eq!(order.len(), model.len());
            }
        }
    }
}
