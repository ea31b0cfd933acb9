//! The reference model: what the store held at every revision, replayed from a list of changes. Simple on purpose.

use crate::history::{Key, Value};
use std::collections::BTreeMap;

/// What one revision did to one key; None: deleted.
pub type Change = (Key, Option<Value>);

/// The whole past of a store. Revision 1 is the empty store, as in etcd.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Past {
    /// Changes of revision 2 and up.
    changes: Vec<Vec<Change>>,
}

impl Past {
    /// The newest revision.
    pub fn revision(&self) -> i64 {
        self.changes.len() as i64 + 1
    }

    /// Adds the next revision.
    pub fn push(&mut self, changes: Vec<Change>) {
        assert!(!changes.is_empty(), "a revision changes something");
        self.changes.push(changes);
    }

    /// What a revision changed.
    pub fn changes(&self, revision: i64) -> &[Change] {
        usize::try_from(revision - 2)
            .ok()
            .and_then(|place| self.changes.get(place))
            .map_or(&[], Vec::as_slice)
    }

    /// Every revision with its changes, in order.
    pub fn iter(&self) -> impl Iterator<Item = (i64, &[Change])> {
        self.changes
            .iter()
            .zip(2..)
            .map(|(changes, revision)| (revision, changes.as_slice()))
    }

    /// Walks through all states, oldest first.
    pub fn states(&self) -> States<'_> {
        States {
            past: self,
            revision: 1,
            held: BTreeMap::new(),
        }
    }
}

/// The store at one revision after the other.
#[derive(Debug)]
pub struct States<'a> {
    past: &'a Past,
    revision: i64,
    held: BTreeMap<Key, Value>,
}

impl States<'_> {
    /// The state at `revision`, which must not be lower than the one asked for before; None if it lies in the future.
    pub fn at(&mut self, revision: i64) -> Option<&BTreeMap<Key, Value>> {
        assert!(revision >= self.revision, "states come in order");
        if revision > self.past.revision() {
            return None;
        }
        while self.revision < revision {
            self.revision += 1;
            for (key, value) in self.past.changes(self.revision) {
                match value {
                    Some(value) => self.held.insert(*key, *value),
                    None => self.held.remove(key),
                };
            }
        }
        Some(&self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_follow_the_changes() {
        let mut past = Past::default();
        past.push(vec![(1, Some(10))]);
        past.push(vec![(2, Some(20)), (1, None)]);
        let mut states = past.states();
        assert!(states.at(1).expect("the beginning").is_empty());
        assert_eq!(states.at(2), Some(&BTreeMap::from([(1, 10)])));
        assert_eq!(states.at(3), Some(&BTreeMap::from([(2, 20)])));
        assert_eq!(states.at(4), None);
    }
}
