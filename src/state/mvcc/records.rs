//! Records in key order at one revision, independent of where they are read from.
//!
//! A [`Source`] has newest records and a past: a published view, or the applier's state in the middle of a batch.

use std::ops::RangeBounds;

use bytes::Bytes;
use fjall::{Readable, Snapshot};

use crate::state::mvcc::MvccError;
use crate::state::mvcc::past::{Past, PastWalk, Pushed};
use crate::storage::state::error::StateError;
use crate::storage::state::keys::KeyRange;
use crate::storage::state::record::{Header, Record};
use crate::storage::state::{StateDatabase, StateKeyspace};

/// Stored keys and values in key order.
pub type Stored<'s> = Box<dyn Iterator<Item = Result<(Bytes, Bytes), StateError>> + Send + 's>;

/// The records of a keyspace between `bounds`, as of `snapshot`.
pub(crate) fn stored_range<R: RangeBounds<K>, K: AsRef<[u8]>>(
    state: &StateDatabase,
    snapshot: &Snapshot,
    keyspace: StateKeyspace,
    bounds: R,
) -> Stored<'static> {
    let records = snapshot.range::<K, R>(state.keyspace(keyspace), bounds);
    Box::new(records.map(|guard| {
        let (key, value) = guard.into_inner().map_err(StateError::engine("reading"))?;
        Ok((key.into(), value.into()))
    }))
}

/// A source of records. `'s` is the lifetime of its streams.
pub trait Source<'s> {
    /// The newest revision.
    fn revision(&self) -> i64;
    /// -1 as long as nothing has been compacted.
    fn compact_revision(&self) -> i64;
    fn newest(&self, key: &[u8]) -> Result<Option<Record>, StateError>;
    /// The newest record without its value.
    fn newest_header(&self, key: &[u8]) -> Result<Option<Header>, StateError>;
    /// User keys and their newest records.
    fn current(&self, range: &KeyRange) -> Stored<'s>;
    fn past(&self) -> Box<dyn Past<'s> + 's>;
}

/// A record that may not be decoded yet.
#[derive(Debug)]
pub enum Found {
    Stored(Bytes),
    Decoded(Record),
    Pushed(Pushed),
}

/// A step of a walk. Steps cost about the same, so that walks can be cut into slices.
#[derive(Debug)]
pub enum RecordStep {
    Found(Bytes, Found),
    /// A record was looked at that does not exist at the revision.
    Skipped,
    End,
}

/// A walk through the keys of a range at one revision, in key order.
pub struct RecordsAt<'s>(Walk<'s>);

enum Walk<'s> {
    Single(Option<(Bytes, Record)>),
    Newest(Stored<'s>),
    Past(PastWalk<'s>),
}

impl<'s> RecordsAt<'s> {
    /// `revision` 0 or below means the newest.
    pub fn new(source: &dyn Source<'s>, range: &KeyRange, revision: i64) -> Result<Self, MvccError> {
        if revision > source.revision() {
            return Err(MvccError::FutureRevision);
        }
        if revision > 0 && revision < source.compact_revision() {
            return Err(MvccError::Compacted);
        }
        if revision > 0 && revision < source.revision() && !range.is_empty() {
            return Ok(Self(Walk::Past(PastWalk::new(source.past(), range, revision)?)));
        }
        Ok(Self::newest(source, range)?)
    }

    pub fn newest(source: &dyn Source<'s>, range: &KeyRange) -> Result<Self, StateError> {
        if let KeyRange::Single(key) = range {
            let record = source.newest(key)?;
            return Ok(Self(Walk::Single(record.map(|record| (key.clone(), record)))));
        }
        if range.is_empty() {
            return Ok(Self(Walk::Single(None)));
        }
        Ok(Self(Walk::Newest(source.current(range))))
    }

    pub fn step(&mut self) -> Result<RecordStep, StateError> {
        match &mut self.0 {
            Walk::Single(record) => Ok(match record.take() {
                Some((key, record)) => RecordStep::Found(key, Found::Decoded(record)),
                None => RecordStep::End,
            }),
            Walk::Newest(records) => match records.next() {
                Some(record) => record.map(|(key, stored)| RecordStep::Found(key, Found::Stored(stored))),
                None => Ok(RecordStep::End),
            },
            Walk::Past(past) => past.step(),
        }
    }

    /// Reads the record that [`Self::step`] has found, with its value.
    pub fn record(&mut self, key: &[u8], found: Found) -> Result<Record, StateError> {
        match (found, &mut self.0) {
            (Found::Stored(stored), _) => Record::decode("current", key, stored),
            (Found::Decoded(record), _) => Ok(record),
            (Found::Pushed(pushed), Walk::Past(past)) => past.record(key, pushed),
            (Found::Pushed(_), _) => unreachable!("only walks through the past find what was pushed out"),
        }
    }

    /// The next record, after as many steps as that takes.
    pub fn next_record(&mut self) -> Result<Option<(Bytes, Record)>, StateError> {
        loop {
            match self.step()? {
                RecordStep::Found(key, found) => {
                    let record = self.record(&key, found)?;
                    return Ok(Some((key, record)));
                }
                RecordStep::Skipped => {}
                RecordStep::End => return Ok(None),
            }
        }
    }
}
