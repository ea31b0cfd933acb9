//! Changes in revision order, for watchers that have fallen behind and for hashes.

use bytes::Bytes;

use crate::mvcc::MvccError;
use crate::mvcc::view::View;
use crate::proto::mvccpb::KeyValue;
use crate::storage::state::StateKeyspace;
use crate::storage::state_error::StateError;
use crate::storage::state_history::{self, HistoryEntry};
use crate::storage::state_keys::Place;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    Put,
    Delete,
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    pub place: Place,
    pub kind: ChangeKind,
    /// What watchers get: of a delete, key and mod revision alone.
    pub kv: KeyValue,
}

/// A walk through `history`, in revision order.
pub(crate) struct HistoryEntries {
    stored: Box<dyn Iterator<Item = Result<(Bytes, Bytes), StateError>> + Send>,
    open: std::vec::IntoIter<HistoryEntry>,
    from: Place,
}

impl HistoryEntries {
    pub(crate) fn new(view: &View, from: Place) -> Result<Self, StateError> {
        let start = match view.last_stored(StateKeyspace::History, &from.to_bytes())? {
            Some((key, _)) => key,
            None => Bytes::copy_from_slice(&from.to_bytes()),
        };
        let stored = view.stored::<_, Bytes>(StateKeyspace::History, start..);
        Ok(Self {
            stored,
            open: vec![].into_iter(),
            from,
        })
    }
}

impl Iterator for HistoryEntries {
    type Item = Result<HistoryEntry, StateError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            for change in self.open.by_ref() {
                if change.place >= self.from {
                    return Some(Ok(change));
                }
            }
            let record = self.stored.next()?;
            match record.and_then(|(key, value)| state_history::decode(&key, &value)) {
                Ok(changes) => self.open = changes.into_iter(),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

impl View {
    /// About `max` changes from `from_revision` on, always whole revisions; none if nothing has changed since.
    pub fn changes(&self, from_revision: i64, max: usize) -> Result<Vec<Change>, MvccError> {
        if from_revision <= self.compact_revision() {
            return Err(MvccError::Compacted);
        }
        let mut changes: Vec<Change> = vec![];
        for changed in HistoryEntries::new(
            self,
            Place {
                main: from_revision,
                sub: 0,
            },
        )? {
            let HistoryEntry { place, key, record } = changed?;
            if changes.len() >= max && changes.last().is_some_and(|last| last.place.main != place.main) {
                break;
            }
            let (kind, kv) = match record {
                Some(record) => (ChangeKind::Put, record.key_value(key)),
                None => {
                    let kv = KeyValue {
                        key,
                        mod_revision: place.main,
                        ..Default::default()
                    };
                    (ChangeKind::Delete, kv)
                }
            };
            changes.push(Change { place, kind, kv });
        }
        Ok(changes)
    }
}
