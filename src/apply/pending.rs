//! Changes that have been decided but not written yet, laid over what the database holds.
//!
//! One applied batch is one engine batch; until it is written, later commands of the batch must see what earlier ones
//! did. Several puts of one key become one insert into `current`.

use std::cell::RefCell;
use std::collections::{BTreeMap, btree_map};
use std::iter::Peekable;
use std::sync::Arc;

use bytes::Bytes;

use crate::apply::cache::RecordCache;
use crate::mutants::{self, Mutant};
use crate::mvcc::records::{Source, Stored, stored_range};
use crate::storage::state::{StateDatabase, StateKeyspace};
use crate::storage::state_error::StateError;
use crate::storage::state_keys::{KeyRange, Place, superseded_key};
use crate::storage::state_meta::{self, Applied, Cluster};
use crate::storage::state_record::{NewRecord, Record};
use crate::storage::state_revisions::{ChangeKind, RevisionsWriter};

pub(crate) struct Pending {
    pub(crate) state: Arc<StateDatabase>,
    cache: RecordCache,
    /// What the database said last: a transaction that compares a key and then writes it asks twice.
    last_read: RefCell<Option<(Vec<u8>, Option<Record>)>>,
    /// As it will be once the batch is written; the revision excludes the command under way.
    pub(crate) applied: Applied,
    pub(crate) cluster: Arc<Cluster>,
    cluster_changed: bool,
    /// None: deleted.
    current: BTreeMap<Bytes, Option<Record>>,
    /// Stored keys and records.
    superseded: BTreeMap<Bytes, Bytes>,
    revisions: RevisionsWriter,
    bytes: usize,
    /// Changes of the command under way.
    changes: u32,
}

impl Pending {
    pub(crate) fn new(
        state: Arc<StateDatabase>,
        cache_bytes: u64,
        applied: Applied,
        cluster: Arc<Cluster>,
    ) -> Self {
        Self {
            state,
            cache: RecordCache::new(cache_bytes),
            last_read: RefCell::new(None),
            applied,
            cluster,
            cluster_changed: false,
            current: BTreeMap::new(),
            superseded: BTreeMap::new(),
            revisions: RevisionsWriter::default(),
            bytes: 0,
            changes: 0,
        }
    }

    /// About how much is waiting to be written.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The newest revision, as a range inside the command under way sees it.
    pub(crate) fn revision(&self) -> i64 {
        self.applied.revision + i64::from(self.changes > 0)
    }

    /// Ends a command: if it changed anything, the revision has advanced.
    pub(crate) fn end_command(&mut self) {
        self.applied.revision = self.revision();
        self.changes = 0;
    }

    pub(crate) fn set_cluster(&mut self, cluster: Cluster) {
        self.cluster = Arc::new(cluster);
        self.cluster_changed = true;
    }

    /// Leases do not exist yet.
    #[allow(clippy::unused_self)]
    pub(crate) fn lease_exists(&self, _lease: i64) -> bool {
        false
    }

    fn next_place(&mut self) -> Place {
        let place = Place {
            main: self.applied.revision + 1,
            sub: self.changes,
        };
        self.changes += 1;
        place
    }

    /// The newest record, in memory of its own unless it is shared with what is kept anyway.
    pub(crate) fn newest_record(&self, key: &[u8]) -> Result<Option<Record>, StateError> {
        if let Some(record) = self.current.get(key) {
            return Ok(record.clone());
        }
        if let Some(record) = self.cache.get(key) {
            return Ok(Some(record.clone()));
        }
        if key.is_empty() {
            return Ok(None);
        }
        if let Some((last_key, record)) = &*self.last_read.borrow()
            && last_key == key
        {
            return Ok(record.clone());
        }
        let stored = self.state.get(StateKeyspace::Current, key)?;
        let record = stored
            .map(|stored| Record::decode("current", key, stored))
            .transpose()?
            .map(|record| record.detached());
        *self.last_read.borrow_mut() = Some((key.to_vec(), record.clone()));
        Ok(record)
    }

    /// Writes a new version of `key` over `previous`, which must be its newest record.
    pub(crate) fn put(&mut self, key: &[u8], value: &[u8], lease: i64, previous: Option<&Record>) {
        let place = self.next_place();
        let (create_revision, version) = previous.map_or((place.main, 1), |previous| {
            (previous.create_revision, previous.version + 1)
        });
        let (key, record) = Record::new(&NewRecord {
            key,
            place,
            create_revision,
            version,
            value,
            lease,
        });
        self.push_out(&key, place, previous);
        self.revisions.push(place, ChangeKind::Put, &key);
        self.bytes += 2 * key.len() + record.stored().len();
        self.cache.insert(key.clone(), record.clone());
        self.current.insert(key, Some(record));
    }

    /// Deletes `key`, whose newest record is `previous`.
    pub(crate) fn delete(&mut self, key: &Bytes, previous: &Record) {
        let place = self.next_place();
        self.push_out(key, place, Some(previous));
        self.revisions.push(place, ChangeKind::Delete, key);
        self.bytes += 2 * key.len();
        self.cache.remove(key);
        self.current.insert(key.clone(), None);
    }

    fn push_out(&mut self, key: &Bytes, place: Place, previous: Option<&Record>) {
        if let Some(previous) = previous {
            assert!(previous.place() < place, "a record is replaced by a newer one");
            let stored_key = superseded_key(key, place);
            self.bytes += stored_key.len() + previous.stored().len();
            self.superseded
                .insert(Bytes::from(stored_key), previous.stored().clone());
        }
    }

    /// Writes everything in one engine batch.
    pub(crate) fn commit(&mut self) -> Result<(), StateError> {
        assert_eq!(self.changes, 0, "a batch ends between commands");
        let mut batch = self.state.batch(self.current.len() + self.superseded.len() + 4);
        for (key, record) in std::mem::take(&mut self.current) {
            match record {
                Some(record) => batch.insert(StateKeyspace::Current, key, record.stored().clone()),
                None => batch.remove(StateKeyspace::Current, key),
            }
        }
        for (key, record) in std::mem::take(&mut self.superseded) {
            batch.insert(StateKeyspace::Superseded, key, record);
        }
        for (key, record) in self.revisions.take() {
            batch.insert(StateKeyspace::Revisions, Bytes::copy_from_slice(&key), record);
        }
        if mutants::active(Mutant::AppliedIndexApart) {
            std::mem::replace(&mut batch, self.state.batch(2)).commit()?;
        }
        let applied = state_meta::encode(state_meta::APPLIED_KEY, &self.applied);
        batch.insert(
            StateKeyspace::Meta,
            Bytes::from_static(state_meta::APPLIED_KEY),
            applied,
        );
        if self.cluster_changed {
            let cluster = state_meta::encode(state_meta::CLUSTER_KEY, &*self.cluster);
            batch.insert(
                StateKeyspace::Meta,
                Bytes::from_static(state_meta::CLUSTER_KEY),
                cluster,
            );
        }
        // From here on the database says something else.
        *self.last_read.borrow_mut() = None;
        batch.commit()?;
        self.state.note_compaction(self.applied.compact_revision);
        self.cluster_changed = false;
        self.bytes = 0;
        Ok(())
    }
}

impl<'s> Source<'s> for &'s Pending {
    fn revision(&self) -> i64 {
        Pending::revision(self)
    }

    fn compact_revision(&self) -> i64 {
        self.applied.compact_revision
    }

    fn newest(&self, key: &[u8]) -> Result<Option<Record>, StateError> {
        self.newest_record(key)
    }

    fn current(&self, range: &KeyRange) -> Stored<'s> {
        if range.is_empty() {
            return Box::new(std::iter::empty());
        }
        let below = stored_range(
            &self.state,
            &self.state.snapshot(),
            StateKeyspace::Current,
            range.bounds(),
        );
        let above = self.current.range(range.bounds());
        let above = above.map(|(key, record)| (key, record.as_ref().map(Record::stored)));
        Box::new(Overlaid {
            below: below.peekable(),
            above: above.peekable(),
        })
    }

    fn superseded(&self, range: &KeyRange) -> Stored<'s> {
        if range.is_empty() {
            return Box::new(std::iter::empty());
        }
        let (low, high) = range.superseded_bounds();
        let bounds = (low.map(Bytes::from), high.map(Bytes::from));
        let below = stored_range(
            &self.state,
            &self.state.snapshot(),
            StateKeyspace::Superseded,
            bounds.clone(),
        );
        let above: btree_map::Range<'s, _, _> = self.superseded.range(bounds);
        let above = above.map(|(key, stored)| (key, Some(stored)));
        Box::new(Overlaid {
            below: below.peekable(),
            above: above.peekable(),
        })
    }
}

/// Two streams in key order, of which the upper one replaces or hides records of the lower one.
struct Overlaid<'s, A: Iterator<Item = (&'s Bytes, Option<&'s Bytes>)>> {
    below: Peekable<Stored<'s>>,
    above: Peekable<A>,
}

impl<'s, A: Iterator<Item = (&'s Bytes, Option<&'s Bytes>)>> Iterator for Overlaid<'s, A> {
    type Item = Result<(Bytes, Bytes), StateError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let Some((above, _)) = self.above.peek() else {
                return self.below.next();
            };
            match self.below.peek() {
                Some(Err(_)) => return self.below.next(),
                Some(Ok((below, _))) if below < *above => return self.below.next(),
                Some(Ok((below, _))) if below == *above => {
                    self.below.next();
                }
                _ => {}
            }
            if let Some((key, Some(stored))) = self.above.next() {
                return Some(Ok((key.clone(), stored.clone())));
            }
        }
    }
}
