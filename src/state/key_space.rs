//! The key space as the applier changes it: changes that are not yet written, laid over what the database holds.
//!
//! One applied batch is one engine batch. Until it is written, later commands of the batch must see what earlier ones did.
//! Several puts of one key become one insert into `current`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::iter::Peekable;
use std::sync::Arc;

use bytes::Bytes;

use crate::metrics::Operations;
use crate::mutants::{self, Mutant};
use crate::state::cache::HeaderCache;
use crate::state::changes::{AppliedChange, Watched};
use crate::state::leases::Leases;
use crate::state::mvcc::past::{Changes, Past, Pushed, StoredPast};
use crate::state::mvcc::records::Stored;
use crate::storage::state::error::StateError;
use crate::storage::state::history::HistoryEntry;
use crate::storage::state::keys::{KeyRange, Place};
use crate::storage::state::meta::{Applied, DigestChange};
use crate::storage::state::packed::{Packed, PackedWriter};
use crate::storage::state::record::{Header, NewRecord, Record};
use crate::storage::state::replaced::{Previous, Replacement};
use crate::storage::state::usage::revision_bytes;
use crate::storage::state::{StateBatch, StateDatabase, StateKeyspace};

pub(crate) struct KeySpace {
    database: Arc<StateDatabase>,
    cache: RefCell<HeaderCache>,
    /// The last record read from the database: a transaction that compares a key and then writes it reads it twice.
    last_read: RefCell<Option<(Vec<u8>, Option<Record>)>>,
    /// None: deleted.
    current: BTreeMap<Bytes, Option<Record>>,
    history: PackedWriter<HistoryEntry>,
    replaced: PackedWriter<Replacement>,
    bytes: usize,
    /// Changes of the current command.
    changes: u32,
    /// Changes since the last view, for watchers.
    pub(crate) watched: Watched,
    /// Operations since the last view, for metrics.
    pub(crate) done: Operations,
}

/// The other state that a change of a key affects.
pub(crate) struct Beside<'a> {
    pub applied: &'a mut Applied,
    pub leases: &'a mut Leases,
}

impl KeySpace {
    pub(crate) fn new(database: Arc<StateDatabase>, cache_bytes: u64) -> Self {
        Self {
            database,
            cache: RefCell::new(HeaderCache::new(cache_bytes)),
            last_read: RefCell::new(None),
            current: BTreeMap::new(),
            history: PackedWriter::default(),
            replaced: PackedWriter::default(),
            bytes: 0,
            changes: 0,
            watched: Watched::default(),
            done: Operations::default(),
        }
    }

    /// The approximate size of what is not yet written.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The newest revision, as a range inside the current command sees it.
    pub(crate) fn revision(&self, applied: &Applied) -> i64 {
        applied.revision + i64::from(self.changes > 0)
    }

    /// Ends a command. If it has changed anything, the revision advances.
    pub(crate) fn end_command(&mut self, applied: &mut Applied) {
        applied.revision = self.revision(applied);
        self.changes = 0;
    }

    fn next_place(&mut self, applied: &Applied) -> Place {
        let place = Place {
            main: applied.revision + 1,
            sub: self.changes,
        };
        self.changes += 1;
        place
    }

    /// The newest record. It keeps no block of the database in memory.
    pub(crate) fn newest_record(&self, key: &[u8]) -> Result<Option<Record>, StateError> {
        if let Some(record) = self.current.get(key) {
            return Ok(record.clone());
        }
        if key.is_empty() {
            return Ok(None);
        }
        if let Some((last_key, record)) = &*self.last_read.borrow()
            && last_key == key
        {
            return Ok(record.clone());
        }
        let stored = self.database.get(StateKeyspace::Current, key)?;
        let record = stored
            .map(|stored| Record::decode("current", key, stored))
            .transpose()?
            .map(|record| record.detached());
        *self.last_read.borrow_mut() = Some((key.to_vec(), record.clone()));
        Ok(record)
    }

    /// The newest record without its value.
    pub(crate) fn newest_header(&self, key: &[u8]) -> Result<Option<Header>, StateError> {
        if let Some(record) = self.current.get(key) {
            return Ok(record.as_ref().map(|record| record.header));
        }
        if let Some(header) = self.cache.borrow().get(key) {
            return Ok(Some(header));
        }
        let header = self.newest_record(key)?.map(|record| record.header);
        if let Some(header) = header {
            self.cache.borrow_mut().insert(key, header);
        }
        Ok(header)
    }

    /// Writes a new version of `key` over `previous`, which must be its newest record.
    pub(crate) fn put(
        &mut self,
        beside: &mut Beside<'_>,
        key: &[u8],
        value: &[u8],
        lease: i64,
        previous: Option<&Header>,
    ) -> Result<(), StateError> {
        let place = self.next_place(beside.applied);
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
        beside
            .applied
            .digest(DigestChange::Put, &[u64::from(record.sum())]);
        self.note_change(place.main, &key, Some(&record))?;
        self.replace(beside.applied, &key, place, previous, false)?;
        let replaced = previous.map_or(0, |previous| revision_bytes(&key, previous.value_bytes as usize));
        beside
            .applied
            .usage
            .change(revision_bytes(&key, value.len()), replaced);
        self.hand_over(beside.leases, &key, previous, lease)?;
        HistoryEntry::push(&mut self.history, place, &key, Some(&record));
        self.bytes += 2 * (key.len() + record.stored().len());
        beside.applied.keys += u64::from(previous.is_none());
        self.cache.get_mut().insert(&key, record.header);
        self.current.insert(key, Some(record));
        Ok(())
    }

    /// Deletes `key`, whose newest record is `previous`.
    pub(crate) fn delete(
        &mut self,
        beside: &mut Beside<'_>,
        key: &Bytes,
        previous: &Header,
    ) -> Result<(), StateError> {
        let place = self.next_place(beside.applied);
        let sum = u64::from(crc32c::crc32c(key));
        let numbers = [sum, place.main as u64, u64::from(place.sub)];
        beside.applied.digest(DigestChange::Delete, &numbers);
        self.note_change(place.main, key, None)?;
        self.replace(beside.applied, key, place, Some(previous), true)?;
        // A deletion record is removed by the same compaction as the record that it deletes.
        let deletion = revision_bytes(key, 0);
        let replaced = deletion + revision_bytes(key, previous.value_bytes as usize);
        beside.applied.usage.change(deletion, replaced);
        self.hand_over(beside.leases, key, Some(previous), 0)?;
        HistoryEntry::push(&mut self.history, place, key, None);
        self.bytes += 2 * key.len();
        beside.applied.keys = beside.applied.keys.saturating_sub(1);
        self.cache.get_mut().remove(key);
        self.current.insert(key.clone(), None);
        Ok(())
    }

    /// Moves `key` from the lease that holds it to another; 0 is none.
    fn hand_over(
        &mut self,
        leases: &mut Leases,
        key: &Bytes,
        previous: Option<&Header>,
        lease: i64,
    ) -> Result<(), StateError> {
        let before = previous.map_or(0, |previous| previous.lease);
        if before == lease {
            return Ok(());
        }
        for (id, holds) in [(before, false), (lease, true)] {
            let stays = !holds && mutants::active(Mutant::LeaseKeepsKey);
            if id != 0 && !stays {
                leases.attach(id, key, holds)?;
                self.bytes += key.len();
            }
        }
        Ok(())
    }

    /// Notes for watchers that `key` is about to change.
    fn note_change(&mut self, revision: i64, key: &Bytes, record: Option<&Record>) -> Result<(), StateError> {
        if !self.watched.changes {
            return Ok(());
        }
        let previous = if self.watched.previous {
            self.newest_record(key)?
        } else {
            None
        };
        self.watched.noted.push(AppliedChange {
            revision,
            key: key.clone(),
            record: record.cloned(),
            previous,
        });
        Ok(())
    }

    /// Notes where a reader of the past finds the replaced record. A record at or below the compact revision is stored in the
    /// note, since its history is about to be removed; see `Applied::compact`.
    fn replace(
        &mut self,
        applied: &Applied,
        key: &Bytes,
        place: Place,
        previous: Option<&Header>,
        deleted: bool,
    ) -> Result<(), StateError> {
        let previous = match previous {
            None => Previous::Nothing,
            Some(previous) if previous.mod_revision > applied.compact_revision => {
                Previous::InHistory(previous.place())
            }
            Some(_) => {
                let missing =
                    || StateError::corrupt("current", key, "a record is missing that was seen before");
                Previous::Whole(self.newest_record(key)?.ok_or_else(missing)?)
            }
        };
        assert!(
            previous.place().is_none_or(|previous| previous < place),
            "a record is replaced by a newer one"
        );
        let replacement = Replacement {
            place,
            key: key.clone(),
            previous,
            deleted,
            replaced_before: applied.usage.replaced_bytes(),
        };
        replacement.push(&mut self.replaced);
        self.bytes += key.len();
        Ok(())
    }

    /// The bytes that all changes up to a revision have replaced.
    pub(crate) fn replaced_up_to(&self, applied: &Applied, revision: i64) -> Result<u64, StateError> {
        let behind = Place {
            main: revision + 1,
            sub: 0,
        };
        let first = self.pending_past().replacements(behind)?.next().transpose()?;
        Ok(first.map_or(applied.usage.replaced_bytes(), |first| first.replaced_before))
    }

    /// Adds all changes to the batch.
    pub(crate) fn write(&mut self, batch: &mut StateBatch<'_>) {
        assert_eq!(self.changes, 0, "a batch ends between commands");
        for (key, record) in std::mem::take(&mut self.current) {
            match record {
                Some(record) => batch.insert(StateKeyspace::Current, key, record.stored().clone()),
                None => batch.remove(StateKeyspace::Current, key),
            }
        }
        let packed = [
            (StateKeyspace::History, self.history.take()),
            (StateKeyspace::Replaced, self.replaced.take()),
        ];
        for (keyspace, records) in packed {
            for (key, record) in records {
                batch.insert(keyspace, Bytes::copy_from_slice(&key), record);
            }
        }
        self.bytes = 0;
        // From here on the database holds something else.
        *self.last_read.borrow_mut() = None;
    }

    /// The number of keys with changes that are not yet written.
    pub(crate) fn changed_keys(&self) -> usize {
        self.current.len()
    }

    pub(crate) fn pending_past(&self) -> PendingPast<'_> {
        PendingPast {
            below: StoredPast::new(Arc::clone(&self.database), self.database.snapshot()),
            current: &self.current,
            history: &self.history,
            replaced: &self.replaced,
        }
    }
}

/// The past in the middle of a batch: unwritten changes over what the database holds.
pub(crate) struct PendingPast<'s> {
    below: StoredPast,
    current: &'s BTreeMap<Bytes, Option<Record>>,
    history: &'s PackedWriter<HistoryEntry>,
    replaced: &'s PackedWriter<Replacement>,
}

fn find<T: Packed>(writer: &PackedWriter<T>, place: Place) -> Option<T> {
    writer.pending(place).find(|change| change.place() == place)
}

impl<'s> Past<'s> for PendingPast<'s> {
    fn current(&self, range: &KeyRange) -> Stored<'s> {
        if range.is_empty() {
            return Box::new(std::iter::empty());
        }
        let above = self.current.range(range.bounds());
        let above = above.map(|(key, record)| (key, record.as_ref().map(Record::stored)));
        Box::new(Overlaid {
            below: self.below.current(range).peekable(),
            above: above.peekable(),
        })
    }

    fn replacements(&self, from: Place) -> Result<Changes<'s, Replacement>, StateError> {
        let above = self
            .replaced
            .pending(from)
            .skip_while(move |change| change.place < from);
        Ok(Box::new(self.below.replacements(from)?.chain(above.map(Ok))))
    }

    fn record(&mut self, pushed: Pushed) -> Result<Option<Record>, StateError> {
        let above = match pushed.moved_to {
            None => find(self.history, pushed.place).and_then(|entry| entry.record),
            Some(moved_to) => find(self.replaced, moved_to).and_then(Replacement::into_whole),
        };
        match above {
            Some(record) => Ok(Some(record)),
            None => self.below.record(pushed),
        }
    }
}

/// Merges streams in key order. Records of the upper one replace or hide those of the lower one.
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
