//! The content of the store at every revision: complete records, with versions, leases and revisions, of all workloads' keys.
//! `model` knows only the clients' keys and values; from these records a reply can be predicted to its last field.

use bytes::Bytes;
use callboard::proto::mvccpb::KeyValue;
use std::collections::BTreeMap;
use std::rc::Rc;

/// The content of a store.
pub type Records = BTreeMap<Bytes, Rc<KeyValue>>;

/// The change of one key by a revision. None: deleted.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    pub key: Bytes,
    pub record: Option<KeyValue>,
}

#[derive(Clone, Debug, PartialEq)]
enum Entry {
    /// In the order in which they were made.
    Changes(Vec<Change>),
    /// The content after it; its own changes are unknown.
    Records(Vec<KeyValue>),
    Hidden,
}

/// The past of a store, as far as the observer saw it before it was compacted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RecordPast {
    /// Revisions from 2 on.
    entries: Vec<Entry>,
}

impl RecordPast {
    /// The newest revision.
    pub fn revision(&self) -> i64 {
        self.entries.len() as i64 + 1
    }

    pub fn push(&mut self, changes: Vec<Change>) {
        self.entries.push(Entry::Changes(changes));
    }

    /// Adds a revision beyond the next one, with the content after it; those in between stay unknown.
    pub fn leap(&mut self, revision: i64, records: Vec<KeyValue>) {
        assert!(revision > self.revision(), "a leap goes forward");
        self.entries.resize(revision as usize - 2, Entry::Hidden);
        self.entries.push(Entry::Records(records));
    }

    /// The changes of a revision: None if unknown, or if it has not happened.
    pub fn changes(&self, revision: i64) -> Option<&[Change]> {
        let place = usize::try_from(revision - 2).ok()?;
        match self.entries.get(place)? {
            Entry::Changes(changes) => Some(changes),
            Entry::Records(_) | Entry::Hidden => None,
        }
    }

    /// The content at each revision, as far as it is known.
    pub fn states(&self) -> States {
        let mut held = Some(Records::new());
        let mut states = vec![None, held.clone()];
        for entry in &self.entries {
            match entry {
                Entry::Changes(changes) => {
                    if let Some(held) = &mut held {
                        apply(held, changes);
                    }
                }
                Entry::Records(records) => {
                    let records = records.iter().cloned();
                    held = Some(
                        records
                            .map(|record| (record.key.clone(), Rc::new(record)))
                            .collect(),
                    );
                }
                Entry::Hidden => held = None,
            }
            states.push(held.clone());
        }
        States(states)
    }
}

/// The store at every revision. Records are shared between revisions.
#[derive(Clone, Debug)]
pub struct States(Vec<Option<Records>>);

impl States {
    /// None if unknown, or if the revision has not happened.
    pub fn at(&self, revision: i64) -> Option<&Records> {
        self.0.get(usize::try_from(revision).ok()?)?.as_ref()
    }

    /// The newest revision.
    pub fn revision(&self) -> i64 {
        self.0.len() as i64 - 1
    }
}

pub fn apply(held: &mut Records, changes: &[Change]) {
    for Change { key, record } in changes {
        match record {
            Some(record) => held.insert(key.clone(), Rc::new(record.clone())),
            None => held.remove(key),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: &'static str, revision: i64) -> KeyValue {
        KeyValue {
            key: key.into(),
            mod_revision: revision,
            ..KeyValue::default()
        }
    }

    #[test]
    fn states_follow_the_changes_as_far_as_they_are_known() {
        let mut past = RecordPast::default();
        let put = |key, revision| Change {
            key: Bytes::from_static(key),
            record: Some(record(std::str::from_utf8(key).expect("text"), revision)),
        };
        past.push(vec![put(b"a", 2), put(b"b", 2)]);
        past.leap(5, vec![record("a", 4)]);
        past.push(vec![Change {
            key: "a".into(),
            record: None,
        }]);
        let states = past.states();
        assert_eq!(states.revision(), 6);
        assert_eq!(states.at(2).map(Records::len), Some(2));
        assert_eq!((states.at(3), states.at(7)), (None, None));
        assert_eq!(states.at(5).map(Records::len), Some(1));
        assert_eq!(states.at(6), Some(&Records::new()));
        assert_eq!(past.changes(5), None);
        assert_eq!(past.changes(6).map(<[Change]>::len), Some(1));
    }
}
