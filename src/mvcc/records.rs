//! Records in key order at one revision, whatever they are read from.
//!
//! A [`Source`] is a place with newest and superseded records: a published view, or the applier's state in the middle
//! of a batch. A record of `current` was valid from its own revision on, one of `superseded` until the revision that
//! pushed it out; so at any revision each key has at most one valid record, and reading the past is merging two sorted
//! streams.

use std::ops::RangeBounds;
use std::sync::Arc;

use bytes::Bytes;
use fjall::{Readable, Snapshot};

use crate::mvcc::MvccError;
use crate::storage::state::{StateDatabase, StateKeyspace};
use crate::storage::state_error::StateError;
use crate::storage::state_history::{self, HistoryEntry, record_at};
use crate::storage::state_keys::{KeyRange, Place, REVISION_BYTES, split_superseded_key};
use crate::storage::state_record::{Header, Record, Superseded};

/// Stored keys and values in key order.
pub type Stored<'s> = Box<dyn Iterator<Item = Result<(Bytes, Bytes), StateError>> + Send + 's>;

/// Looks up what was written at a place.
pub type History<'s> = Box<dyn FnMut(Place) -> Result<Option<Record>, StateError> + Send + 's>;

/// The history as of `snapshot`. What is close together is found by reading once.
pub(crate) fn stored_history(state: Arc<StateDatabase>, snapshot: Snapshot) -> History<'static> {
    let mut open: Vec<HistoryEntry> = vec![];
    Box::new(move |place| {
        let is_inside = open.first().is_some_and(|first| first.place <= place)
            && open.last().is_some_and(|last| place <= last.place);
        if !is_inside {
            let last = snapshot
                .range::<[u8; REVISION_BYTES], _>(state.keyspace(StateKeyspace::History), ..=place.to_bytes())
                .next_back();
            let Some(guard) = last else { return Ok(None) };
            let (key, value) = guard.into_inner().map_err(StateError::engine("reading"))?;
            open = state_history::decode(&key, &value.into())?;
        }
        Ok(record_at(&open, place))
    })
}

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

/// Where records are read from; `'s` is how long its streams may live.
pub trait Source<'s> {
    /// The newest revision.
    fn revision(&self) -> i64;
    /// -1 as long as nothing has been compacted.
    fn compact_revision(&self) -> i64;
    fn newest(&self, key: &[u8]) -> Result<Option<Record>, StateError>;
    /// All about the newest record but its value.
    fn newest_header(&self, key: &[u8]) -> Result<Option<Header>, StateError>;
    /// User keys and their newest records.
    fn current(&self, range: &KeyRange) -> Stored<'s>;
    /// Keys of `superseded` and their records.
    fn superseded(&self, range: &KeyRange) -> Stored<'s>;
    /// The values of records that were pushed out.
    fn history(&self) -> History<'s>;
}

/// A record that may not have been looked at yet.
#[derive(Debug)]
pub enum Found {
    Stored(Bytes),
    Decoded(Record),
    InHistory(Header),
}

/// One step of a walk. Each costs about the same, so that walks can be cut into slices.
#[derive(Debug)]
pub enum Step {
    Found(Bytes, Found),
    /// A record was looked at that is not valid at the revision.
    Skipped,
    End,
}

/// A walk through the keys of a range at one revision, in key order.
pub struct RecordsAt<'s>(Walk<'s>);

enum Walk<'s> {
    Single(Option<(Bytes, Record)>),
    Newest(Stored<'s>),
    Past(Past<'s>),
}

struct Past<'s> {
    revision: i64,
    current: Option<Stored<'s>>,
    current_head: Option<(Bytes, Record)>,
    superseded: Option<Stored<'s>>,
    superseded_head: Option<(Bytes, Superseded)>,
    history: History<'s>,
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
            return Ok(Self(Walk::Past(Past {
                revision,
                current: Some(source.current(range)),
                current_head: None,
                superseded: Some(source.superseded(range)),
                superseded_head: None,
                history: source.history(),
            })));
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

    pub fn step(&mut self) -> Result<Step, StateError> {
        match &mut self.0 {
            Walk::Single(record) => Ok(match record.take() {
                Some((key, record)) => Step::Found(key, Found::Decoded(record)),
                None => Step::End,
            }),
            Walk::Newest(records) => match records.next() {
                Some(record) => record.map(|(key, stored)| Step::Found(key, Found::Stored(stored))),
                None => Ok(Step::End),
            },
            Walk::Past(past) => past.step(),
        }
    }

    /// The record that [`Self::step`] has found, with its value.
    pub fn record(&mut self, key: &[u8], found: Found) -> Result<Record, StateError> {
        match (found, &mut self.0) {
            (Found::Stored(stored), _) => Record::decode("current", key, stored),
            (Found::Decoded(record), _) => Ok(record),
            (Found::InHistory(header), Walk::Past(past)) => {
                from_history(&mut past.history, key, header.place())
            }
            (Found::InHistory(_), _) => unreachable!("only walks through the past find pushed-out records"),
        }
    }

    /// The next record, however many steps it takes.
    pub fn next_record(&mut self) -> Result<Option<(Bytes, Record)>, StateError> {
        loop {
            match self.step()? {
                Step::Found(key, found) => {
                    let record = self.record(&key, found)?;
                    return Ok(Some((key, record)));
                }
                Step::Skipped => {}
                Step::End => return Ok(None),
            }
        }
    }
}

impl Past<'_> {
    fn step(&mut self) -> Result<Step, StateError> {
        if self.current_head.is_none()
            && let Some(records) = &mut self.current
        {
            match records.next().transpose()? {
                None => self.current = None,
                Some((key, stored)) => {
                    let record = Record::decode("current", &key, stored)?;
                    self.current_head =
                        (record.header.mod_revision <= self.revision).then_some((key, record));
                }
            }
            return Ok(Step::Skipped);
        }
        if self.superseded_head.is_none()
            && let Some(records) = &mut self.superseded
        {
            match records.next().transpose()? {
                None => self.superseded = None,
                Some((stored_key, stored)) => {
                    let (key, pushed_out, record) = decode_superseded(&stored_key, stored)?;
                    let valid =
                        record.header().mod_revision <= self.revision && self.revision < pushed_out.main;
                    self.superseded_head = valid.then_some((key, record));
                }
            }
            return Ok(Step::Skipped);
        }
        let superseded_first = match (&self.current_head, &self.superseded_head) {
            (Some((current, _)), Some((superseded, _))) => superseded < current,
            (None, _) => true,
            _ => false,
        };
        if !superseded_first && let Some((key, record)) = self.current_head.take() {
            return Ok(Step::Found(key, Found::Decoded(record)));
        }
        Ok(match self.superseded_head.take() {
            Some((key, Superseded::Whole(record))) => Step::Found(key, Found::Decoded(record)),
            Some((key, Superseded::InHistory(header))) => Step::Found(key, Found::InHistory(header)),
            None => Step::End,
        })
    }
}

fn from_history(history: &mut History<'_>, key: &[u8], place: Place) -> Result<Record, StateError> {
    let missing = || StateError::corrupt("history", key, "a record is missing that a pushed-out one names");
    history(place)?.ok_or_else(missing)
}

/// The user key, what pushed the record out, and the record.
fn decode_superseded(stored_key: &Bytes, stored: Bytes) -> Result<(Bytes, Place, Superseded), StateError> {
    let corrupt = || StateError::corrupt("superseded", stored_key, "a key that does not parse");
    let (key, pushed_out) = split_superseded_key(stored_key).ok_or_else(corrupt)?;
    let record = Superseded::decode(&key, stored)?;
    if record.header().place() >= pushed_out {
        return Err(StateError::corrupt(
            "superseded",
            stored_key,
            "a record newer than what pushed it out",
        ));
    }
    Ok((key, pushed_out, record))
}

/// The record that `place` wrote, wherever it is by now. None only if it was compacted, or never was.
pub fn record_written_at(
    source: &dyn Source<'_>,
    key: &Bytes,
    place: Place,
) -> Result<Option<Record>, StateError> {
    if let Some(record) = source.newest(key)?
        && record.place() == place
    {
        return Ok(Some(record));
    }
    for record in source.superseded(&KeyRange::Single(key.clone())) {
        let (stored_key, stored) = record?;
        let (_, pushed_out, record) = decode_superseded(&stored_key, stored)?;
        if pushed_out > place {
            return Ok(match record {
                _ if record.header().place() != place => None,
                Superseded::Whole(record) => Some(record),
                Superseded::InHistory(_) => Some(from_history(&mut source.history(), key, place)?),
            });
        }
    }
    Ok(None)
}
