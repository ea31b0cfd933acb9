//! Cached counts of keys in stretches of the key space, so that a count need not walk every key.
//!
//! Every page of a long list asks for the count of all keys that follow it, and dashboards ask for the count of all keys. A
//! reader that counts remembers its counts in stretches of about a thousand keys, as of one revision. A later reader brings
//! them forward with the changes since, adds up the stretches inside its range, and walks only the rest. Nothing is written
//! and writers pay nothing: forgotten stretches are counted again.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;

use crate::limits::{COUNT_STRETCHES_MAX, sizes};
use crate::state::mvcc::past::{Changes, stored_changes};
use crate::state::mvcc::records::Stored;
use crate::state::mvcc::view::KeyView;
use crate::storage::state::StateKeyspace;
use crate::storage::state::error::StateError;
use crate::storage::state::keys::{KeyRange, Place};
use crate::storage::state::replaced::Replacement;

/// A stretch is forgotten once it has this many times its nominal size.
const GROWTH_MAX: u64 = 4;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Stretch {
    /// The first key after the stretch; none if it has no end.
    end: Option<Bytes>,
    keys: u64,
}

impl Stretch {
    fn ends_after(&self, key: &[u8]) -> bool {
        self.end.as_ref().is_none_or(|end| key < end)
    }
}

/// Counts as of one revision. Stretches do not overlap. Readers share them until a key is created or deleted.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    revision: i64,
    stretches: Arc<BTreeMap<Bytes, Stretch>>,
}

/// The newest counts, for all readers.
pub type SharedCounts = Arc<ArcSwap<Counts>>;

impl Counts {
    fn containing(&self, key: &[u8]) -> Option<(&Bytes, &Stretch)> {
        let (start, stretch) = self
            .stretches
            .range::<[u8], _>((Bound::Unbounded, Bound::Included(key)))
            .next_back()?;
        stretch.ends_after(key).then_some((start, stretch))
    }

    /// A key was created (1) or deleted (-1). A stretch that grows too large is forgotten.
    fn adjust(&mut self, key: &[u8], by: i64) {
        let Some((start, stretch)) = self.containing(key) else {
            return;
        };
        let keys = stretch.keys.checked_add_signed(by);
        let keys = keys.expect("no more keys go than there are");
        let start = start.clone();
        let stretches = Arc::make_mut(&mut self.stretches);
        if keys > GROWTH_MAX * sizes().count_stretch_keys {
            stretches.remove(&start);
        } else if let Some(stretch) = stretches.get_mut(&start) {
            stretch.keys = keys;
        }
    }

    /// Remembers a stretch unless it overlaps a known one.
    fn insert(&mut self, start: Bytes, stretch: Stretch) {
        let next = self.stretches.range::<Bytes, _>(&start..).next();
        let is_free = self.containing(&start).is_none()
            && next.is_none_or(|(next, _)| stretch.end.as_ref().is_some_and(|end| end <= next));
        if is_free && self.stretches.len() < COUNT_STRETCHES_MAX {
            Arc::make_mut(&mut self.stretches).insert(start, stretch);
        }
    }
}

/// A running count of a view's newest keys.
pub(crate) struct CountScan {
    view: KeyView,
    counts: Counts,
    /// The part of the range that is not yet counted.
    range: KeyRange,
    phase: CountPhase,
    found: Vec<(Bytes, Stretch)>,
}

enum CountPhase {
    /// Brings the counts forward to the view's revision.
    Changes(Changes<'static, Replacement>),
    Sum,
    Walk(Walk),
}

/// A walk through keys whose count is not known.
struct Walk {
    keys: Stored<'static>,
    /// The first key after the walk.
    end: Option<Bytes>,
    stretch_start: Bytes,
    stretch_keys: u64,
}

impl CountScan {
    pub(crate) fn new(view: KeyView, range: KeyRange) -> Result<Self, StateError> {
        let known = view.counts.load_full();
        let behind = view.revision() - known.revision;
        let is_useful =
            (0..=sizes().count_changes_max).contains(&behind) && known.revision >= view.compact_revision();
        let mut scan = Self {
            counts: Counts {
                revision: view.revision(),
                stretches: Arc::default(),
            },
            range,
            phase: CountPhase::Sum,
            found: vec![],
            view,
        };
        if is_useful {
            scan.counts = (*known).clone();
            let from = Place {
                main: known.revision + 1,
                sub: 0,
            };
            scan.phase = CountPhase::Changes(stored_changes(&scan.view.state, &scan.view.snapshot, from)?);
        }
        Ok(scan)
    }

    /// Makes one step. Returns how many more keys were counted, or none at the end.
    pub(crate) fn step(&mut self) -> Result<Option<u64>, StateError> {
        match &mut self.phase {
            CountPhase::Changes(changes) => {
                if let Some(replacement) = changes.next().transpose()? {
                    let by = replacement.keys_gained();
                    if by != 0 {
                        self.counts.adjust(&replacement.key, by);
                    }
                } else {
                    self.counts.revision = self.view.revision();
                    self.phase = CountPhase::Sum;
                }
                Ok(Some(0))
            }
            CountPhase::Sum => Ok(self.step_sum()),
            CountPhase::Walk(walk) => {
                let Some(record) = walk.keys.next() else {
                    let stretch = Stretch {
                        end: walk.end.clone(),
                        keys: walk.stretch_keys,
                    };
                    // To count a short stretch again costs no more than to remember it.
                    if stretch.keys >= sizes().count_stretch_keys / 4 {
                        self.found.push((walk.stretch_start.clone(), stretch));
                    }
                    self.range = match walk.end.take() {
                        Some(end) => self.range.starting_at(end),
                        None => EMPTY,
                    };
                    self.phase = CountPhase::Sum;
                    return Ok(Some(0));
                };
                let (key, _) = record?;
                if walk.stretch_keys >= sizes().count_stretch_keys {
                    let key = Bytes::copy_from_slice(&key);
                    let stretch = Stretch {
                        end: Some(key.clone()),
                        keys: walk.stretch_keys,
                    };
                    self.found
                        .push((std::mem::replace(&mut walk.stretch_start, key), stretch));
                    walk.stretch_keys = 0;
                }
                walk.stretch_keys += 1;
                Ok(Some(1))
            }
        }
    }

    fn step_sum(&mut self) -> Option<u64> {
        let start = self.range.start().clone();
        let range_end = match &self.range {
            KeyRange::Between(start, end) if start >= end => {
                self.remember();
                return None;
            }
            KeyRange::Between(_, end) => Some(end.clone()),
            KeyRange::From(_) | KeyRange::Single(_) => None,
        };
        let within_range = |end: &Option<Bytes>| match (end, &range_end) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(end), Some(range_end)) => end <= range_end,
        };
        if let Some(stretch) = self.counts.stretches.get(&start)
            && within_range(&stretch.end)
        {
            self.range = match &stretch.end {
                Some(end) => self.range.starting_at(end.clone()),
                None => EMPTY,
            };
            return Some(stretch.keys);
        }
        // Up to the next known stretch, or to the end of the range.
        let after_start = (Bound::Excluded(start.clone()), Bound::Unbounded);
        let next = self.counts.stretches.range(after_start).next();
        let next = next.map(|(next, _)| next.clone());
        let end = match (next, range_end) {
            (Some(next), Some(range_end)) => Some(next.min(range_end)),
            (next, range_end) => next.or(range_end),
        };
        let range = match &end {
            Some(end) => KeyRange::Between(start.clone(), end.clone()),
            None => KeyRange::From(start.clone()),
        };
        self.phase = CountPhase::Walk(Walk {
            keys: self.view.stored(StateKeyspace::Current, range.bounds()),
            end,
            stretch_start: start,
            stretch_keys: 0,
        });
        Some(0)
    }

    /// Publishes the counts for later readers.
    fn remember(&mut self) {
        let mut counts = std::mem::take(&mut self.counts);
        for (start, stretch) in self.found.drain(..) {
            counts.insert(start, stretch);
        }
        let counts = Arc::new(counts);
        self.view.counts.rcu(|known| {
            let newest = if known.revision <= counts.revision {
                &counts
            } else {
                known
            };
            Arc::clone(newest)
        });
    }
}

const EMPTY: KeyRange = KeyRange::Between(Bytes::new(), Bytes::new());

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::proto::etcdserverpb::{RangeRequest, TxnRequest};
    use crate::state::testing::{TestMember, ToOperation, compact, delete, put};

    fn count(view: &KeyView, key: &str, range_end: &str) -> (i64, usize) {
        let range = KeyRange::new(Bytes::from(key.to_owned()), Bytes::from(range_end.to_owned()));
        let mut scan = CountScan::new(view.clone(), range).unwrap();
        let (mut keys, mut steps) = (0, 0);
        while let Some(more) = scan.step().unwrap() {
            keys += more;
            steps += 1;
        }
        (keys as i64, steps)
    }

    fn fill(member: &mut TestMember, keys: std::ops::Range<u32>) {
        for first in keys.clone().step_by(100) {
            let puts = first..(first + 100).min(keys.end);
            let success = puts.map(|number| put(&format!("k{number:06}"), "v").operation());
            let request = TxnRequest {
                success: success.collect(),
                ..Default::default()
            };
            member.run(request).unwrap();
        }
    }

    #[test]
    fn a_second_count_takes_a_step_for_a_stretch() {
        let mut member = TestMember::new();
        fill(&mut member, 0..10_000);
        let (keys, steps) = count(&member.view(), "\0", "\0");
        assert_eq!(keys, 10_000);
        assert!(steps > 10_000);
        let (keys, steps) = count(&member.view(), "\0", "\0");
        assert_eq!(keys, 10_000);
        assert!(steps < 20, "{steps} steps");

        member.run(delete("k005", "k006")).unwrap();
        member.run(put("k000", "new")).unwrap();
        member.run(put("k000001", "again")).unwrap();
        let (keys, steps) = count(&member.view(), "\0", "\0");
        assert_eq!(keys, 9_001);
        assert!(steps < 1_100, "{steps} steps");
        // From the middle of a stretch to the middle of another.
        let (keys, steps) = count(&member.view(), "k000500", "k009500");
        assert_eq!(keys, 8_000);
        assert!(steps < 2_100, "{steps} steps");
        // A view older than the counts.
        let old = member.view();
        member.run(delete("k0001", "k0002")).unwrap();
        assert_eq!(count(&member.view(), "\0", "\0").0, 8_901);
        assert_eq!(count(&old, "\0", "\0").0, 9_001);
        // Compacted: the changes since the counts were removed.
        member.run(put("x", "1")).unwrap();
        let revision = member.view().revision();
        member.run(compact(revision)).unwrap();
        member.state().reclaim().unwrap();
        assert_eq!(count(&member.view(), "\0", "\0").0, 8_902);
    }

    #[test]
    fn stretches_that_grow_are_counted_again() {
        let mut member = TestMember::new();
        fill(&mut member, 0..600);
        assert_eq!(count(&member.view(), "k", "l").0, 600);
        fill(&mut member, 600..6_000);
        assert_eq!(count(&member.view(), "k", "l").0, 6_000);
        assert_eq!(count(&member.view(), "k", "l").0, 6_000);
        let (keys, steps) = count(&member.view(), "k", "l");
        assert!(keys == 6_000 && steps < 20, "{keys} keys in {steps} steps");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn counts_agree_with_walks(
            steps in proptest::collection::vec((0..5u8, 0..3_000u32, 0..3_000u32), 1..25),
        ) {
            let mut member = TestMember::new();
            fill(&mut member, 0..1_500);
            for (kind, a, b) in steps {
                let (low, high) = (a.min(b), a.max(b));
                match kind {
                    0 => fill(&mut member, low..high.min(low + 400)),
                    1 => drop(member.run(delete(&format!("k{low:06}"), &format!("k{high:06}")))),
                    2 => drop(member.run(delete(&format!("k{low:06}"), ""))),
                    _ => {
                        let range_end = if kind == 3 { "\0".to_owned() } else { format!("k{high:06}") };
                        let request = RangeRequest {
                            key: format!("k{low:06}").into(),
                            range_end: range_end.clone().into(),
                            count_only: true,
                            ..Default::default()
                        };
                        let view = member.view();
                        let walked = crate::state::mvcc::range::RangeScan::new(&view.keys, &request).unwrap().run().unwrap();
                        let counted = view.range(&request).unwrap().run().unwrap();
                        prop_assert_eq!(counted.count, walked.count);
                    }
                }
            }
        }
    }
}
