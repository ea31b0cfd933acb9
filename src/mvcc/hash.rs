//! HashKV: etcd's checksum of the key space up to a revision.
//!
//! CRC-32C over the bytes `key`, then over key and value of every entry of etcd's bucket in revision order (etcd:
//! server/storage/mvcc/hash.go). An entry's key is the main revision, `_` and the sub revision, plus `t` for a delete;
//! its value is the encoded `KeyValue`, of a delete the key alone. Entries at or below the compact revision count only
//! if they are what a reader at the hashed revision sees; if that reader sees nothing at all, those count that a reader
//! at the compact revision sees.
//!
//! The entries above the compact revision are listed by `history`. Those below are found by walking the keys, as many
//! at a time as fit into a bound and in several passes if they do not, so that memory does not grow with the keys.

use std::collections::BinaryHeap;

use bytes::Bytes;

use crate::limits::HASH_PASS_KEYS;
use crate::mvcc::MvccError;
use crate::mvcc::past::{Changes, Past, Pushed, pushed_record};
use crate::mvcc::range::Progress;
use crate::mvcc::records::{Found, RecordsAt, Source, Step};
use crate::mvcc::view::View;
use crate::storage::state_error::StateError;
use crate::storage::state_history::HistoryEntry;
use crate::storage::state_keys::{KeyRange, Place};
use crate::storage::state_record::encode_tombstone;

/// What HashKV answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyValueHash {
    pub hash: u32,
    pub compact_revision: i64,
    pub hash_revision: i64,
}

// One of them exists per hash under way: the size of the largest does not matter.
#[allow(clippy::large_enum_variant)]
enum Phase {
    /// Walking the keys for the lowest entries above `above`.
    Collect {
        records: RecordsAt<'static>,
        above: Place,
        lowest: BinaryHeap<(Place, Bytes, Option<Pushed>)>,
        left_out: bool,
    },
    /// Summing what a pass has found.
    Sum {
        entries: std::vec::IntoIter<(Place, Bytes, Option<Pushed>)>,
        again: bool,
    },
    /// Summing the entries above the compact revision.
    Recent(Changes<'static, HistoryEntry>),
    Done,
}

/// A hash under way.
pub struct HashScan {
    view: View,
    past: Box<dyn Past<'static>>,
    hashed: KeyValueHash,
    /// The revision at which entries below the compact revision are looked for.
    seen_at: i64,
    any_seen: bool,
    pass_keys: usize,
    phase: Phase,
    buffer: Vec<u8>,
}

impl View {
    /// The hash up to `revision`, at once; 0 means the newest.
    pub fn hash_kv(&self, revision: i64) -> Result<KeyValueHash, MvccError> {
        let mut scan = self.hash_scan(revision)?;
        while scan.advance(usize::MAX)? == Progress::More {}
        Ok(scan.into_hash())
    }

    /// The hash up to `revision`, to be carried out in slices.
    pub fn hash_scan(&self, revision: i64) -> Result<HashScan, MvccError> {
        HashScan::new(self.clone(), revision, HASH_PASS_KEYS)
    }

    /// The same as if everything up to `compact_revision` had been compacted, if less has been: what a member that has
    /// compacted more comes to at the same revision.
    pub fn hash_scan_as_compacted(
        &self,
        revision: i64,
        compact_revision: i64,
    ) -> Result<HashScan, MvccError> {
        let mut view = self.clone();
        view.applied.compact_revision = view.compact_revision().max(compact_revision);
        HashScan::new(view, revision, HASH_PASS_KEYS)
    }
}

/// Before every change.
const FIRST: Place = Place { main: 0, sub: 0 };

impl HashScan {
    pub(super) fn new(view: View, revision: i64, pass_keys: usize) -> Result<Self, MvccError> {
        let compact_revision = view.compact_revision();
        if revision > 0 && revision < compact_revision {
            return Err(MvccError::Compacted);
        }
        if revision > view.revision() {
            return Err(MvccError::FutureRevision);
        }
        let hash_revision = if revision == 0 { view.revision() } else { revision };
        let hash = crc32c::crc32c(b"key");
        let hashed = KeyValueHash {
            hash,
            compact_revision,
            hash_revision,
        };
        let mut scan = Self {
            past: view.past(),
            view,
            hashed,
            seen_at: hash_revision,
            any_seen: false,
            pass_keys,
            phase: Phase::Done,
            buffer: vec![],
        };
        scan.phase = if compact_revision > 0 && hash_revision > 0 {
            scan.collect(FIRST)?
        } else {
            scan.recent()?
        };
        Ok(scan)
    }

    fn collect(&self, above: Place) -> Result<Phase, MvccError> {
        let all = KeyRange::From(Bytes::from_static(b"\0"));
        let records = RecordsAt::new(&self.view, &all, self.seen_at)?;
        Ok(Phase::Collect {
            records,
            above,
            lowest: BinaryHeap::new(),
            left_out: false,
        })
    }

    fn recent(&self) -> Result<Phase, MvccError> {
        let from = Place {
            main: self.hashed.compact_revision.max(0) + 1,
            sub: 0,
        };
        Ok(Phase::Recent(self.view.history(from)?))
    }

    /// Looks at up to `entries_max` records.
    pub fn advance(&mut self, entries_max: usize) -> Result<Progress, MvccError> {
        for _ in 0..entries_max {
            let next = match &mut self.phase {
                Phase::Done => return Ok(Progress::Done),
                Phase::Collect { .. } => self.advance_collect()?,
                Phase::Sum { entries, again } => match entries.next() {
                    Some((place, key, pushed)) => {
                        let again = *again;
                        let last = entries.as_slice().is_empty();
                        self.add_put(&key, place, pushed)?;
                        match (last, again) {
                            (false, _) => None,
                            (true, true) => Some(self.collect(place)?),
                            (true, false) => Some(self.recent()?),
                        }
                    }
                    None => Some(self.recent()?),
                },
                Phase::Recent(changes) => match changes.next().transpose()? {
                    Some(change) if change.place.main <= self.hashed.hash_revision => {
                        self.add_change(&change);
                        None
                    }
                    _ => Some(Phase::Done),
                },
            };
            if let Some(phase) = next {
                self.phase = phase;
            }
        }
        Ok(Progress::More)
    }

    fn advance_collect(&mut self) -> Result<Option<Phase>, MvccError> {
        let Phase::Collect {
            records,
            above,
            lowest,
            left_out,
        } = &mut self.phase
        else {
            return Ok(None);
        };
        match records.step()? {
            Step::Skipped => {}
            Step::Found(key, found) => {
                self.any_seen = true;
                let pushed = match &found {
                    Found::Pushed(pushed) => Some(*pushed),
                    _ => None,
                };
                let place = match pushed {
                    Some(pushed) => pushed.place,
                    None => records.record(&key, found)?.place(),
                };
                if place.main <= self.hashed.compact_revision && place > *above {
                    // A copy, so that the heap does not keep the blocks of tables in memory.
                    lowest.push((place, Bytes::copy_from_slice(&key), pushed));
                    if lowest.len() > self.pass_keys {
                        lowest.pop();
                        *left_out = true;
                    }
                }
            }
            Step::End if !self.any_seen && self.seen_at != self.hashed.compact_revision => {
                self.seen_at = self.hashed.compact_revision;
                self.any_seen = true;
                return Ok(Some(self.collect(FIRST)?));
            }
            Step::End => {
                let again = *left_out;
                let entries = std::mem::take(lowest).into_sorted_vec().into_iter();
                return Ok(Some(Phase::Sum { entries, again }));
            }
        }
        Ok(None)
    }

    fn add_change(&mut self, change: &HistoryEntry) {
        let HistoryEntry { place, key, record } = change;
        match record {
            Some(record) => self.add_entry(*place, false, |buffer| record.encode_key_value(key, buffer)),
            None => self.add_entry(*place, true, |buffer| encode_tombstone(key, buffer)),
        }
    }

    fn add_put(&mut self, key: &Bytes, place: Place, pushed: Option<Pushed>) -> Result<(), StateError> {
        let missing = || StateError::corrupt("current", key, "a record is missing that a walk has seen");
        let record = match pushed {
            Some(pushed) => pushed_record(&mut *self.past, key, pushed)?,
            None => self.view.newest(key)?.ok_or_else(missing)?,
        };
        self.add_entry(place, false, |buffer| record.encode_key_value(key, buffer));
        Ok(())
    }

    fn add_entry(&mut self, place: Place, tombstone: bool, encode: impl FnOnce(&mut Vec<u8>)) {
        self.buffer.clear();
        self.buffer.extend_from_slice(&place.main.to_be_bytes());
        self.buffer.push(b'_');
        self.buffer.extend_from_slice(&u64::from(place.sub).to_be_bytes());
        if tombstone {
            self.buffer.push(b't');
        }
        encode(&mut self.buffer);
        self.hashed.hash = crc32c::crc32c_append(self.hashed.hash, &self.buffer);
    }

    /// The result, once [`Self::advance`] has said `Done`.
    pub fn into_hash(self) -> KeyValueHash {
        self.hashed
    }
}

impl std::fmt::Debug for HashScan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HashScan")
            .field("hashed", &self.hashed)
            .finish_non_exhaustive()
    }
}
