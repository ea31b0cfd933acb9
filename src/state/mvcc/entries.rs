//! The content of etcd's bucket `key`, in its order and encoding: the newest record of every key at the compact revision, what
//! the compact revision itself deleted, and every later change.
//!
//! An entry's key is the main revision, `_` and the sub revision, plus `t` for a delete. Its value is the encoded `KeyValue`;
//! of a delete, the key alone (etcd: server/storage/mvcc/revision.go and kvstore_txn.go).
//!
//! Entries from the compact revision on come from `history`, since a watch may begin with it. Older ones are found by walking
//! the keys. Each pass keeps a bounded number of entries in memory, and there are several passes if needed, so that memory
//! does not grow with the number of keys.

use std::collections::BinaryHeap;

use bytes::Bytes;

use crate::mutants::{self, Mutant};
use crate::state::mvcc::MvccError;
use crate::state::mvcc::past::{Changes, Past, Pushed, pushed_record};
use crate::state::mvcc::records::{Found, RecordStep, RecordsAt, Source};
use crate::state::mvcc::view::KeyView;
use crate::storage::state::error::StateError;
use crate::storage::state::history::HistoryEntry;
use crate::storage::state::keys::{KeyRange, Place};
use crate::storage::state::record::encode_tombstone;

// One exists per running scan, so the size of the largest variant does not matter.
#[allow(clippy::large_enum_variant)]
enum EntryPhase {
    /// Walks the keys for the lowest entries above `above`.
    Collect {
        records: RecordsAt<'static>,
        above: Place,
        lowest: BinaryHeap<(Place, Bytes, Option<Pushed>)>,
        left_out: bool,
    },
    /// Returns the entries that a pass has found.
    Collected {
        entries: std::vec::IntoIter<(Place, Bytes, Option<Pushed>)>,
        again: bool,
    },
    /// Returns the entries above the compact revision.
    Recent(Changes<'static, HistoryEntry>),
    Done,
}

/// Selects entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// The newest revision.
    pub up_to: i64,
    /// Of the entries at or below the compact revision, those that a reader at this revision sees. It is not below the compact
    /// revision.
    pub seen_at: i64,
    /// If that reader sees nothing at all, the entries that a reader at the compact revision sees.
    pub or_when_compacted: bool,
    /// Also the deletes by the compact revision, which etcd's hashes leave out. A watch may begin with them, and if nothing
    /// else is left they state the newest revision (etcd: server/storage/mvcc/key_index.go, `keep`).
    pub deletes_by_compact_revision: bool,
}

/// The result of a step. Steps cost about the same, so that scans can be cut into slices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryStep {
    /// The buffer holds an entry: a key of `key_bytes`, then its value.
    Entry {
        key_bytes: usize,
    },
    /// Something was looked at that is no entry, or not yet one.
    Looked,
    Done,
}

/// A running walk through entries.
pub struct EntryScan {
    view: KeyView,
    past: Box<dyn Past<'static>>,
    wanted: Wanted,
    any_seen: bool,
    pass_keys: usize,
    phase: EntryPhase,
}

/// Before every change.
const FIRST: Place = Place { main: 0, sub: 0 };

impl KeyView {
    /// The whole bucket. A pass keeps at most `pass_keys` entries in memory.
    pub fn entries(&self, pass_keys: usize) -> Result<EntryScan, MvccError> {
        let seen_at = if mutants::active(Mutant::BackupForgetsReplaced) {
            self.revision()
        } else {
            self.compact_revision()
        };
        let wanted = Wanted {
            up_to: self.revision(),
            seen_at,
            or_when_compacted: false,
            deletes_by_compact_revision: true,
        };
        EntryScan::new(self.clone(), wanted, pass_keys)
    }
}

impl EntryScan {
    pub(super) fn new(view: KeyView, wanted: Wanted, pass_keys: usize) -> Result<Self, MvccError> {
        let compacted = view.compact_revision() > 0;
        let mut scan = Self {
            past: view.past(),
            view,
            wanted,
            any_seen: false,
            pass_keys,
            phase: EntryPhase::Done,
        };
        scan.phase = if compacted && wanted.up_to > 0 {
            scan.collect(FIRST)?
        } else {
            scan.recent()?
        };
        Ok(scan)
    }

    /// The newest revision whose entries are found by walking the keys.
    fn collected_to(&self) -> i64 {
        let compact_revision = self.view.compact_revision();
        if self.wanted.deletes_by_compact_revision {
            // `history` has this revision's deletes, and its puts are just what a reader at it sees.
            compact_revision - 1
        } else {
            compact_revision
        }
    }

    fn collect(&self, above: Place) -> Result<EntryPhase, MvccError> {
        let all = KeyRange::From(Bytes::from_static(b"\0"));
        let records = RecordsAt::new(&self.view, &all, self.wanted.seen_at)?;
        Ok(EntryPhase::Collect {
            records,
            above,
            lowest: BinaryHeap::new(),
            left_out: false,
        })
    }

    fn recent(&self) -> Result<EntryPhase, MvccError> {
        let from = Place {
            main: self.collected_to().max(0) + 1,
            sub: 0,
        };
        Ok(EntryPhase::Recent(self.view.history(from)?))
    }

    /// Makes one step. `buffer` is overwritten if there is an entry.
    pub fn step(&mut self, buffer: &mut Vec<u8>) -> Result<EntryStep, MvccError> {
        let mut step = EntryStep::Looked;
        let next = match &mut self.phase {
            EntryPhase::Done => return Ok(EntryStep::Done),
            EntryPhase::Collect { .. } => self.step_collect()?,
            EntryPhase::Collected { entries, again } => match entries.next() {
                Some((place, key, pushed)) => {
                    let again = *again;
                    let last = entries.as_slice().is_empty();
                    step = self.put(&key, place, pushed, buffer)?;
                    match (last, again) {
                        (false, _) => None,
                        (true, true) => Some(self.collect(place)?),
                        (true, false) => Some(self.recent()?),
                    }
                }
                None => Some(self.recent()?),
            },
            EntryPhase::Recent(changes) => match changes.next().transpose()? {
                Some(change) if change.place.main <= self.wanted.up_to => {
                    step = self::change(&change, buffer);
                    None
                }
                _ => Some(EntryPhase::Done),
            },
        };
        if let Some(phase) = next {
            self.phase = phase;
        }
        Ok(step)
    }

    fn step_collect(&mut self) -> Result<Option<EntryPhase>, MvccError> {
        let collected_to = self.collected_to();
        let EntryPhase::Collect {
            records,
            above,
            lowest,
            left_out,
        } = &mut self.phase
        else {
            return Ok(None);
        };
        match records.step()? {
            RecordStep::Skipped => {}
            RecordStep::Found(key, found) => {
                self.any_seen = true;
                let pushed = match &found {
                    Found::Pushed(pushed) => Some(*pushed),
                    _ => None,
                };
                let place = match pushed {
                    Some(pushed) => pushed.place,
                    None => records.record(&key, found)?.place(),
                };
                if place.main <= collected_to && place > *above {
                    // A copy, so that the heap keeps no table blocks in memory.
                    lowest.push((place, Bytes::copy_from_slice(&key), pushed));
                    if lowest.len() > self.pass_keys {
                        lowest.pop();
                        *left_out = true;
                    }
                }
            }
            RecordStep::End if self.wanted.or_when_compacted && !self.any_seen => {
                self.wanted.seen_at = self.view.compact_revision();
                self.any_seen = true;
                return Ok(Some(self.collect(FIRST)?));
            }
            RecordStep::End => {
                let again = *left_out;
                let entries = std::mem::take(lowest).into_sorted_vec().into_iter();
                return Ok(Some(EntryPhase::Collected { entries, again }));
            }
        }
        Ok(None)
    }

    fn put(
        &mut self,
        key: &Bytes,
        place: Place,
        pushed: Option<Pushed>,
        buffer: &mut Vec<u8>,
    ) -> Result<EntryStep, StateError> {
        let missing = || StateError::corrupt("current", key, "a record is missing that a walk has seen");
        let record = match pushed {
            Some(pushed) => pushed_record(&mut *self.past, key, pushed)?,
            None => self.view.newest(key)?.ok_or_else(missing)?,
        };
        Ok(entry(place, false, buffer, |buffer| {
            record.encode_key_value(key, buffer);
        }))
    }
}

fn change(HistoryEntry { place, key, record }: &HistoryEntry, buffer: &mut Vec<u8>) -> EntryStep {
    match record {
        Some(record) => entry(*place, false, buffer, |buffer| {
            record.encode_key_value(key, buffer);
        }),
        None => entry(*place, true, buffer, |buffer| encode_tombstone(key, buffer)),
    }
}

fn entry(
    place: Place,
    tombstone: bool,
    buffer: &mut Vec<u8>,
    encode_value: impl FnOnce(&mut Vec<u8>),
) -> EntryStep {
    buffer.clear();
    put_revision(place.main, u64::from(place.sub), buffer);
    if tombstone {
        buffer.push(b't');
    }
    let key_bytes = buffer.len();
    encode_value(buffer);
    EntryStep::Entry { key_bytes }
}

/// A revision as etcd's buckets encode it.
pub fn put_revision(main: i64, sub: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(&main.to_be_bytes());
    out.push(b'_');
    out.extend_from_slice(&sub.to_be_bytes());
}

impl std::fmt::Debug for EntryScan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EntryScan")
            .field("wanted", &self.wanted)
            .finish_non_exhaustive()
    }
}
