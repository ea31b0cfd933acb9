//! The key space at an earlier revision: the current one, with the records that were replaced since put back.
//!
//! A walk first goes through the changes since that revision and remembers, for each key of the range, which record its first
//! change has replaced. Then it goes through the current keys and merges the replaced ones in. Values are read only for keys
//! that the reader asks for. If more keys have changed than are kept in memory, the walk goes as far as it knows, and then
//! through the changes again for the rest.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use fjall::Readable;

use crate::limits::sizes;
use crate::state::mvcc::records::{Found, RecordStep, Stored, stored_range};
use crate::storage::open_snapshots::StateSnapshot;
use crate::storage::state::error::StateError;
use crate::storage::state::history::HistoryEntry;
use crate::storage::state::keys::{KeyRange, Place, REVISION_BYTES};
use crate::storage::state::packed::{self, Packed};
use crate::storage::state::record::Record;
use crate::storage::state::replaced::{Previous, Replacement};
use crate::storage::state::{StateDatabase, StateKeyspace};

/// Changes in revision order.
pub type Changes<'s, T> = Box<dyn Iterator<Item = Result<T, StateError>> + Send + 's>;

/// Where to find a record that is no longer the newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pushed {
    /// The change that wrote it.
    pub place: Place,
    /// The change that replaced it, if the record was moved there.
    pub moved_to: Option<Place>,
}

/// The source of a read of the past.
pub trait Past<'s>: Send {
    /// User keys and their newest records.
    fn current(&self, range: &KeyRange) -> Stored<'s>;
    /// The replacements from `from` on.
    fn replacements(&self, from: Place) -> Result<Changes<'s, Replacement>, StateError>;
    fn record(&mut self, pushed: Pushed) -> Result<Option<Record>, StateError>;
}

/// All changes from `from` on, as of `snapshot`.
pub(crate) fn stored_changes<T: Packed + Send + 'static>(
    state: &StateDatabase,
    snapshot: &StateSnapshot,
    from: Place,
) -> Result<Changes<'static, T>, StateError> {
    let start = match last_record(state, snapshot, T::KEYSPACE, from)? {
        Some((key, _)) => key,
        None => Bytes::copy_from_slice(&from.to_bytes()),
    };
    let stored = stored_range::<_, Bytes>(state, snapshot, T::KEYSPACE, start..);
    let changes = stored.flat_map(|record| {
        let decoded = record.and_then(|(key, value)| packed::decode::<T>(&key, &value));
        match decoded {
            Ok(changes) => changes.into_iter().map(Ok).collect::<Vec<_>>(),
            Err(error) => vec![Err(error)],
        }
    });
    Ok(Box::new(changes.skip_while(move |change| {
        change.as_ref().is_ok_and(|change| change.place() < from)
    })))
}

/// The last record of a packed keyspace at or before `place`.
fn last_record(
    state: &StateDatabase,
    snapshot: &StateSnapshot,
    keyspace: StateKeyspace,
    place: Place,
) -> Result<Option<(Bytes, Bytes)>, StateError> {
    let last = snapshot
        .range::<[u8; REVISION_BYTES], _>(state.keyspace(keyspace), ..=place.to_bytes())
        .next_back();
    let record = last
        .map(|guard| guard.into_inner().map_err(StateError::engine("reading")))
        .transpose()?;
    Ok(record.map(|(key, value)| (key.into(), value.into())))
}

/// Finds single changes by their places. Changes that are close together are read once.
struct Lookup<T> {
    open: Vec<T>,
}

impl<T: Packed + Clone> Lookup<T> {
    fn find(
        &mut self,
        state: &StateDatabase,
        snapshot: &StateSnapshot,
        place: Place,
    ) -> Result<Option<T>, StateError> {
        let is_inside = self.open.first().is_some_and(|first| first.place() <= place)
            && self.open.last().is_some_and(|last| place <= last.place());
        if !is_inside {
            let Some((key, value)) = last_record(state, snapshot, T::KEYSPACE, place)? else {
                return Ok(None);
            };
            self.open = packed::decode(&key, &value)?;
        }
        let found = self.open.binary_search_by_key(&place, Packed::place);
        Ok(found.ok().map(|found| self.open[found].clone()))
    }
}

/// The past as the database holds it.
pub(crate) struct StoredPast {
    state: Arc<StateDatabase>,
    snapshot: StateSnapshot,
    history: Lookup<HistoryEntry>,
    replaced: Lookup<Replacement>,
}

impl StoredPast {
    pub(crate) fn new(state: Arc<StateDatabase>, snapshot: StateSnapshot) -> Self {
        Self {
            state,
            snapshot,
            history: Lookup { open: vec![] },
            replaced: Lookup { open: vec![] },
        }
    }
}

impl Past<'static> for StoredPast {
    fn current(&self, range: &KeyRange) -> Stored<'static> {
        stored_range(
            &self.state,
            &self.snapshot,
            StateKeyspace::Current,
            range.bounds(),
        )
    }

    fn replacements(&self, from: Place) -> Result<Changes<'static, Replacement>, StateError> {
        stored_changes(&self.state, &self.snapshot, from)
    }

    fn record(&mut self, pushed: Pushed) -> Result<Option<Record>, StateError> {
        let Some(moved_to) = pushed.moved_to else {
            let entry = self.history.find(&self.state, &self.snapshot, pushed.place)?;
            return Ok(entry.and_then(|entry| entry.record));
        };
        let replacement = self.replaced.find(&self.state, &self.snapshot, moved_to)?;
        Ok(replacement.and_then(Replacement::into_whole))
    }
}

/// A walk through the keys of a range at an earlier revision, in key order.
pub(crate) struct PastWalk<'s> {
    past: Box<dyn Past<'s> + 's>,
    revision: i64,
    /// The part of the range that is not yet walked.
    range: KeyRange,
    pass_keys: usize,
    phase: PastPhase<'s>,
}

enum PastPhase<'s> {
    /// Goes through the changes.
    Changes {
        changes: Changes<'s, Replacement>,
        pass: Pass,
    },
    /// Goes through the keys.
    Keys {
        current: Stored<'s>,
        head: Option<(Bytes, Bytes)>,
        pass: Pass,
    },
    Done,
}

/// The lowest keys of the remaining range that have changed since the revision.
#[derive(Default)]
struct Pass {
    /// None: the key did not exist before.
    replaced: BTreeMap<Bytes, Option<Pushed>>,
    /// The first key that this pass knows nothing about.
    end: Option<Bytes>,
}

impl Pass {
    fn note(&mut self, replacement: Replacement, keys_max: usize) {
        let Replacement {
            place, key, previous, ..
        } = replacement;
        if self.end.as_ref().is_some_and(|end| key >= *end) || self.replaced.contains_key(&key) {
            return;
        }
        let pushed = previous.place().map(|written| Pushed {
            place: written,
            moved_to: matches!(previous, Previous::Whole(_)).then_some(place),
        });
        // A copy, so that the block that it was read from is released.
        self.replaced.insert(Bytes::copy_from_slice(&key), pushed);
        if self.replaced.len() > keys_max {
            self.end = self.replaced.pop_last().map(|(key, _)| key);
        }
    }
}

impl<'s> PastWalk<'s> {
    pub(crate) fn new(
        past: Box<dyn Past<'s> + 's>,
        range: &KeyRange,
        revision: i64,
    ) -> Result<Self, StateError> {
        Self::in_passes(past, range, revision, sizes().past_pass_keys)
    }

    fn in_passes(
        past: Box<dyn Past<'s> + 's>,
        range: &KeyRange,
        revision: i64,
        pass_keys: usize,
    ) -> Result<Self, StateError> {
        let mut walk = Self {
            past,
            revision,
            range: range.clone(),
            pass_keys,
            phase: PastPhase::Done,
        };
        walk.begin_pass()?;
        Ok(walk)
    }

    fn begin_pass(&mut self) -> Result<(), StateError> {
        let from = Place {
            main: self.revision + 1,
            sub: 0,
        };
        self.phase = PastPhase::Changes {
            changes: self.past.replacements(from)?,
            pass: Pass::default(),
        };
        Ok(())
    }

    pub(crate) fn step(&mut self) -> Result<RecordStep, StateError> {
        match &mut self.phase {
            PastPhase::Changes { changes, pass } => {
                if let Some(replacement) = changes.next().transpose()? {
                    if self.range.contains(&replacement.key) {
                        pass.note(replacement, self.pass_keys);
                    }
                } else {
                    self.phase = PastPhase::Keys {
                        current: self.past.current(&self.range),
                        head: None,
                        pass: std::mem::take(pass),
                    };
                }
                Ok(RecordStep::Skipped)
            }
            PastPhase::Keys { .. } => self.step_keys(),
            PastPhase::Done => Ok(RecordStep::End),
        }
    }

    fn step_keys(&mut self) -> Result<RecordStep, StateError> {
        let PastPhase::Keys { current, head, pass } = &mut self.phase else {
            return Ok(RecordStep::End);
        };
        if head.is_none() {
            *head = current.next().transpose()?;
        }
        let known = |key: &Bytes| pass.end.as_ref().is_none_or(|end| key < end);
        let today = head.as_ref().map(|(key, _)| key).filter(|key| known(key));
        let replaced = pass.replaced.first_key_value().map(|(key, _)| key);
        match (today, replaced) {
            (Some(today), replaced) if replaced.is_none_or(|replaced| today < replaced) => {
                let (key, stored) = head.take().expect("it was looked at");
                Ok(RecordStep::Found(key, Found::Stored(stored)))
            }
            (today, Some(replaced)) => {
                if today == Some(replaced) {
                    *head = None;
                }
                let (key, pushed) = pass.replaced.pop_first().expect("it was looked at");
                Ok(match pushed {
                    Some(pushed) => RecordStep::Found(key, Found::Pushed(pushed)),
                    None => RecordStep::Skipped,
                })
            }
            (_, None) => {
                let Some(end) = pass.end.take() else {
                    self.phase = PastPhase::Done;
                    return Ok(RecordStep::End);
                };
                self.range = self.range.starting_at(end);
                self.begin_pass()?;
                Ok(RecordStep::Skipped)
            }
        }
    }

    /// Reads the record that a step has found.
    pub(crate) fn record(&mut self, key: &[u8], pushed: Pushed) -> Result<Record, StateError> {
        pushed_record(&mut *self.past, key, pushed)
    }
}

pub(crate) fn pushed_record(
    past: &mut dyn Past<'_>,
    key: &[u8],
    pushed: Pushed,
) -> Result<Record, StateError> {
    let missing = || StateError::corrupt("history", key, "a record is missing that a later change names");
    let record = past.record(pushed)?.ok_or_else(missing)?;
    if record.place() == pushed.place {
        Ok(record)
    } else {
        Err(missing())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::mvcc::records::RecordsAt;
    use crate::state::testing::{TestMember, compact, delete, put};

    /// Keys and their mod revisions.
    fn listed(mut next: impl FnMut() -> Option<(Bytes, i64)>) -> Vec<(Bytes, i64)> {
        std::iter::from_fn(&mut next).collect()
    }

    #[test]
    fn walks_in_passes_of_any_size_see_the_same() {
        let mut member = TestMember::new();
        for number in 0..120 {
            let key = format!("k{}", number * 7 % 31);
            match number % 6 {
                5 => member.run(delete(&key, "")),
                _ => member.run(put(&key, "v")),
            }
            .unwrap();
            if number == 40 {
                member.run(compact(20)).unwrap();
            }
        }
        let view = member.view();
        let range = KeyRange::Between(Bytes::from_static(b"k1"), Bytes::from_static(b"k5"));
        for revision in 20..view.revision() {
            let mut records = RecordsAt::new(&view.keys, &range, revision).unwrap();
            let expected = listed(|| {
                let (key, record) = records.next_record().unwrap()?;
                Some((key, record.header.mod_revision))
            });
            for pass_keys in 1..6 {
                let past = Box::new(StoredPast::new(Arc::clone(&view.state), view.state.snapshot()));
                let mut walk = PastWalk::in_passes(past, &range, revision, pass_keys).unwrap();
                let found = listed(|| {
                    loop {
                        match walk.step().unwrap() {
                            RecordStep::Skipped => {}
                            RecordStep::End => return None,
                            RecordStep::Found(key, Found::Pushed(pushed)) => {
                                let record = walk.record(&key, pushed).unwrap();
                                return Some((key, record.header.mod_revision));
                            }
                            RecordStep::Found(key, Found::Stored(stored)) => {
                                let record = Record::decode("current", &key, stored).unwrap();
                                return Some((key, record.header.mod_revision));
                            }
                            RecordStep::Found(..) => unreachable!("a walk through the past looks at nothing"),
                        }
                    }
                });
                assert_eq!(found, expected, "revision {revision}, passes of {pass_keys}");
            }
        }
    }
}
