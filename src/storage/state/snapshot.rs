//! The whole state as a stream of records, to be sent to a member that lags too far behind.
//!
//! Reading uses an engine snapshot, so the stream is the state at one applied index however long it takes, and can be resumed
//! after any record. Writing fills a new directory, which becomes a state database only once the last record has arrived and
//! everything is synced.

use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use fjall::{Iter, Readable};

use crate::limits::sizes;
use crate::mutants::{self, Mutant};
use crate::proto::peer::SnapshotRecord;
use crate::storage::journal::batch::MARK_KEY;
use crate::storage::open_snapshots::StateSnapshot;
use crate::storage::state::alarms::ALARMS_KEY;
use crate::storage::state::error::StateError;
use crate::storage::state::meta;
use crate::storage::state::{StateDatabase, StateKeyspace, StateOptions};

/// The place after which a stream resumes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    pub keyspace: u32,
    pub key: Bytes,
}

/// All records of all keyspaces, in the order of keyspace number and key.
pub struct StateRecords {
    state: Arc<StateDatabase>,
    snapshot: StateSnapshot,
    left: std::vec::IntoIter<StateKeyspace>,
    open: Option<(StateKeyspace, Iter)>,
}

impl StateRecords {
    pub fn new(
        state: Arc<StateDatabase>,
        snapshot: StateSnapshot,
        after: Option<&Cursor>,
    ) -> Result<Self, StateError> {
        let mut keyspaces = StateKeyspace::ALL.to_vec();
        let mut open = None;
        if let Some(cursor) = after {
            let keyspace = StateKeyspace::from_number(cursor.keyspace)
                .ok_or(StateError::UnknownKeyspace(cursor.keyspace))?;
            keyspaces.retain(|other| *other > keyspace);
            let bounds = (Bound::Excluded(cursor.key.clone()), Bound::Unbounded);
            open = Some((
                keyspace,
                snapshot.range::<Bytes, _>(state.keyspace(keyspace), bounds),
            ));
        }
        Ok(Self {
            state,
            snapshot,
            left: keyspaces.into_iter(),
            open,
        })
    }

    /// The next records, about `bytes_max` of keys and values; empty at the end.
    pub fn next_chunk(&mut self, bytes_max: usize) -> Result<Vec<SnapshotRecord>, StateError> {
        let mut records = vec![];
        let mut bytes = 0;
        while bytes < bytes_max {
            let Some(record) = self.next().transpose()? else {
                break;
            };
            bytes += record.key.len() + record.value.len();
            records.push(record);
        }
        Ok(records)
    }
}

impl Iterator for StateRecords {
    type Item = Result<SnapshotRecord, StateError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.open.is_none() {
                let keyspace = self.left.next()?;
                self.open = Some((keyspace, self.snapshot.iter(self.state.keyspace(keyspace))));
            }
            let (keyspace, records) = self.open.as_mut()?;
            if let Some(guard) = records.next() {
                let record = guard
                    .into_inner()
                    .map_err(StateError::engine("reading a snapshot"));
                // A mark belongs to this member's journal.
                if record.as_ref().is_ok_and(|(key, _)| is_mark(*keyspace, key)) {
                    continue;
                }
                if mutants::active(Mutant::AlarmsLeftOut)
                    && record.as_ref().is_ok_and(|(key, _)| **key == *ALARMS_KEY)
                {
                    continue;
                }
                return Some(record.map(|(key, value)| SnapshotRecord {
                    keyspace: keyspace.number(),
                    key: key.into(),
                    value: value.into(),
                }));
            }
            self.open = None;
        }
    }
}

fn is_mark(keyspace: StateKeyspace, key: &[u8]) -> bool {
    keyspace == StateKeyspace::Meta && key == MARK_KEY
}

/// Builds a state database from a stream of records.
pub struct StateImport {
    state: Arc<StateDatabase>,
    batch: Vec<(StateKeyspace, Bytes, Bytes)>,
    batch_bytes: usize,
}

impl StateImport {
    /// Begins an import into the directory `path`, which must hold no state yet. After a failure the directory must be wiped.
    pub fn begin(path: &Path, options: &StateOptions) -> Result<Self, StateError> {
        let state = StateDatabase::open(path, options)?;
        for keyspace in StateKeyspace::ALL {
            let empty = state
                .snapshot()
                .is_empty(state.keyspace(keyspace))
                .map_err(StateError::engine("reading"))?;
            if !empty {
                return Err(StateError::ImportNotEmpty {
                    path: path.to_owned(),
                });
            }
        }
        Ok(Self {
            state,
            batch: vec![],
            batch_bytes: 0,
        })
    }

    pub fn write(&mut self, records: impl IntoIterator<Item = SnapshotRecord>) -> Result<(), StateError> {
        for record in records {
            let keyspace = StateKeyspace::from_number(record.keyspace)
                .ok_or(StateError::UnknownKeyspace(record.keyspace))?;
            if record.key.is_empty() || record.key.len() > crate::limits::STORED_KEY_BYTES_MAX {
                return Err(StateError::corrupt(
                    keyspace.name(),
                    &record.key,
                    "a key of impossible length",
                ));
            }
            self.batch_bytes += record.key.len() + record.value.len();
            // Copies, since the record may share a whole network message with others.
            self.batch.push((
                keyspace,
                Bytes::copy_from_slice(&record.key),
                Bytes::copy_from_slice(&record.value),
            ));
            if self.batch_bytes >= sizes().apply_batch_bytes {
                self.write_batch()?;
            }
        }
        Ok(())
    }

    fn write_batch(&mut self) -> Result<(), StateError> {
        let mut batch = self.state.batch(self.batch.len());
        for (keyspace, key, value) in self.batch.drain(..) {
            batch.insert(keyspace, key, value);
        }
        self.batch_bytes = 0;
        batch.commit()
    }

    /// Syncs what was written, and checks that the import is complete: it must hold the applied index.
    pub fn finish(mut self) -> Result<Arc<StateDatabase>, StateError> {
        self.write_batch()?;
        let applied = self.state.get(StateKeyspace::Meta, meta::APPLIED_KEY)?;
        let applied = applied.ok_or(StateError::ImportIncomplete)?;
        let applied: meta::Applied = meta::decode(meta::APPLIED_KEY, &applied)?;
        self.state.note_compaction(&applied);
        if !mutants::active(Mutant::SnapshotNotSynced) {
            self.state.sync()?;
        }
        Ok(self.state)
    }
}
