//! Changes in revision order, for watchers that have fallen behind and for hashes.

use crate::proto::mvccpb::KeyValue;
use crate::state::mvcc::MvccError;
use crate::state::mvcc::past::{Changes, stored_changes};
use crate::state::mvcc::view::KeyView;
use crate::storage::state::error::StateError;
use crate::storage::state::history::HistoryEntry;
use crate::storage::state::keys::Place;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    Put,
    Delete,
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyChange {
    pub place: Place,
    pub kind: ChangeKind,
    /// As watchers get it: a delete has only key and mod revision.
    pub kv: KeyValue,
}

impl KeyView {
    /// All changes from `from` on.
    pub(crate) fn history(&self, from: Place) -> Result<Changes<'static, HistoryEntry>, StateError> {
        stored_changes(&self.state, &self.snapshot, from)
    }

    /// About `max` changes from `from_revision` on, in whole revisions; none if nothing has changed since.
    pub fn changes(&self, from_revision: i64, max: usize) -> Result<Vec<KeyChange>, MvccError> {
        if from_revision < self.compact_revision() {
            return Err(MvccError::Compacted);
        }
        let mut changes: Vec<KeyChange> = vec![];
        let from = Place {
            main: from_revision,
            sub: 0,
        };
        for changed in self.history(from)? {
            let HistoryEntry { place, key, record } = changed?;
            if changes.len() >= max && changes.last().is_some_and(|last| last.place.main != place.main) {
                break;
            }
            let (kind, kv) = if let Some(record) = record {
                (ChangeKind::Put, record.key_value(key))
            } else {
                let kv = KeyValue {
                    key,
                    mod_revision: place.main,
                    ..Default::default()
                };
                (ChangeKind::Delete, kv)
            };
            changes.push(KeyChange { place, kind, kv });
        }
        Ok(changes)
    }
}
