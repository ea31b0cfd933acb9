//! Drops records that a compaction has made unreachable, while the engine merges tables.
//!
//! The filter uses floors that are known to be on disk. A record of `replaced` is dropped once all its revisions are compacted. A
//! record of `history` is dropped once, in addition, no record of `replaced` that is still needed points to it (see
//! `Applied::history_floor`). Each of these keys is written only once, so the verdict `Destroy`, which leaves no tombstone, is
//! safe. No reader depends on such a record: reads below the compact revision are refused, and reads at or above it do not look
//! at it. A snapshot opened before the merge continues to read the old tables.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use fjall::compaction::filter::{
    CompactionFilter, CompactionFilterResult, Context, Factory, ItemAccessor, Verdict,
};

use crate::storage::state::packed::last_main;

/// The revisions up to which records of `replaced` and of `history` may be dropped.
#[derive(Debug)]
pub struct Floors {
    replaced: AtomicI64,
    history: AtomicI64,
    /// The number of records dropped.
    dropped: AtomicU64,
}

impl Default for Floors {
    fn default() -> Self {
        Self {
            replaced: AtomicI64::new(-1),
            history: AtomicI64::new(-1),
            dropped: AtomicU64::new(0),
        }
    }
}

impl Floors {
    pub fn raise(&self, replaced: i64, history: i64) {
        self.replaced.fetch_max(replaced, Ordering::AcqRel);
        self.history.fetch_max(history, Ordering::AcqRel);
    }

    pub fn dropped_records(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// The floor of `replaced`, then that of `history`.
    pub fn get(&self) -> (i64, i64) {
        (
            self.replaced.load(Ordering::Acquire),
            self.history.load(Ordering::Acquire),
        )
    }
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Replaced,
    History,
}

struct FilterFactory {
    kind: Kind,
    floors: Arc<Floors>,
}

/// The filter of the keyspace called `keyspace`, if it has one.
pub fn factory(keyspace: &str, floors: &Arc<Floors>) -> Option<Arc<dyn Factory>> {
    let kind = match keyspace {
        "replaced" => Kind::Replaced,
        "history" => Kind::History,
        _ => return None,
    };
    Some(Arc::new(FilterFactory {
        kind,
        floors: Arc::clone(floors),
    }))
}

impl Factory for FilterFactory {
    fn name(&self) -> &'static str {
        "compacted revisions"
    }

    fn make_filter(&self, _: &Context) -> Box<dyn CompactionFilter> {
        let (replaced, history) = self.floors.get();
        let floor = match self.kind {
            Kind::Replaced => replaced,
            Kind::History => history_floor(history),
        };
        Box::new(Filter {
            floor,
            floors: Arc::clone(&self.floors),
            dropped: 0,
        })
    }
}

/// The last revision whose history may be dropped: a watch may begin at the compact revision itself.
pub fn history_floor(floor: i64) -> i64 {
    floor - 1
}

struct Filter {
    floor: i64,
    floors: Arc<Floors>,
    dropped: u64,
}

impl Drop for Filter {
    /// The merge has finished or was given up; records of the latter count twice.
    fn drop(&mut self) {
        self.floors.dropped.fetch_add(self.dropped, Ordering::Relaxed);
    }
}

impl CompactionFilter for Filter {
    fn filter_item(&mut self, item: ItemAccessor<'_>, _: &Context) -> CompactionFilterResult {
        // A record that does not parse is kept, so that its reader reports it.
        Ok(match last_main(&item.value()?) {
            Some(revision) if revision <= self.floor => {
                self.dropped += 1;
                Verdict::Destroy
            }
            _ => Verdict::Keep,
        })
    }
}
