//! The reference model: the content of the store at every revision, replayed from a list of changes. Deliberately simple.
//!
//! Revisions that were compacted before the observer saw them are unknown. The model then says so, and knows the state again from
//! the compact revision on.

use crate::history::{Held, Key, Value};
use std::collections::BTreeMap;

/// The content of a store.
pub type State = BTreeMap<Key, Value>;

/// What is known of one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    /// Its changes of keys, in order. None: deleted.
    Changes(Vec<Held>),
    /// The content after it; its own changes are unknown.
    State(State),
    Hidden,
}

/// The whole past of a store. Revision 1 is the empty store, as in etcd.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Past {
    /// Revisions from 2 on.
    entries: Vec<Entry>,
}

impl Past {
    /// The newest revision.
    pub fn revision(&self) -> i64 {
        self.entries.len() as i64 + 1
    }

    /// Adds the next revision. Changes of other workloads' keys are left out, so there may be none.
    pub fn push(&mut self, changes: Vec<Held>) {
        self.entries.push(Entry::Changes(changes));
    }

    /// Adds a revision beyond the next one, with the content after it; those in between stay unknown.
    pub fn leap(&mut self, revision: i64, state: State) {
        assert!(revision > self.revision(), "a leap goes forward");
        self.entries.resize(revision as usize - 2, Entry::Hidden);
        self.entries.push(Entry::State(state));
    }

    fn entry(&self, revision: i64) -> Option<&Entry> {
        let place = usize::try_from(revision - 2).ok()?;
        self.entries.get(place)
    }

    /// The changes of a revision: empty if it lies in the future, None if unknown.
    pub fn changes(&self, revision: i64) -> Option<&[Held]> {
        match self.entry(revision) {
            Some(Entry::Changes(changes)) => Some(changes),
            Some(Entry::State(_) | Entry::Hidden) => None,
            None => Some(&[]),
        }
    }

    /// Every revision whose changes are known, in order.
    pub fn iter(&self) -> impl Iterator<Item = (i64, &[Held])> {
        (2..=self.revision()).filter_map(|revision| Some((revision, self.changes(revision)?)))
    }

    /// Iterates over all states, oldest first.
    pub fn states(&self) -> States<'_> {
        States {
            past: self,
            revision: 1,
            held: Some(State::new()),
        }
    }
}

/// The model's knowledge of a revision.
#[derive(Debug, PartialEq, Eq)]
pub enum Known<'a> {
    State(&'a State),
    /// It was compacted before the observer saw it.
    Hidden,
    /// It has not happened.
    Future,
}

/// The store at one revision after the other.
#[derive(Debug)]
pub struct States<'a> {
    past: &'a Past,
    revision: i64,
    held: Option<State>,
}

impl States<'_> {
    /// The state at `revision`, which must not be lower than that of the last call.
    pub fn at(&mut self, revision: i64) -> Known<'_> {
        assert!(revision >= self.revision, "states come in order");
        if revision > self.past.revision() {
            return Known::Future;
        }
        while self.revision < revision {
            self.revision += 1;
            match self.past.entry(self.revision) {
                Some(Entry::Changes(changes)) => {
                    if let Some(held) = &mut self.held {
                        apply(held, changes);
                    }
                }
                Some(Entry::State(state)) => self.held = Some(state.clone()),
                Some(Entry::Hidden) | None => self.held = None,
            }
        }
        self.held.as_ref().map_or(Known::Hidden, Known::State)
    }
}

fn apply(held: &mut State, changes: &[Held]) {
    for (key, value) in changes {
        match value {
            Some(value) => held.insert(*key, *value),
            None => held.remove(key),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_follow_the_changes() {
        let mut past = Past::default();
        past.push(vec![(1, Some(10))]);
        past.push(vec![(1, None), (2, Some(20))]);
        let mut states = past.states();
        assert_eq!(states.at(1), Known::State(&State::new()));
        assert_eq!(states.at(2), Known::State(&State::from([(1, 10)])));
        assert_eq!(states.at(3), Known::State(&State::from([(2, 20)])));
        assert_eq!(states.at(4), Known::Future);
    }

    #[test]
    fn what_was_compacted_unseen_is_not_known() {
        let mut past = Past::default();
        past.push(vec![(1, Some(10))]);
        past.leap(5, State::from([(1, 10), (2, 7)]));
        past.push(vec![(1, None)]);
        assert_eq!(past.revision(), 6);
        assert_eq!(past.changes(2), Some(&[(1, Some(10))][..]));
        assert_eq!((past.changes(4), past.changes(5)), (None, None));
        assert_eq!(
            past.iter().map(|(revision, _)| revision).collect::<Vec<_>>(),
            [2, 6]
        );
        let mut states = past.states();
        assert_eq!(states.at(3), Known::Hidden);
        assert_eq!(states.at(5), Known::State(&State::from([(1, 10), (2, 7)])));
        assert_eq!(states.at(6), Known::State(&State::from([(2, 7)])));
    }
}
