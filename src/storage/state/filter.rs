//! Drops what a compaction has made unreachable, while the engine merges tables.
//!
//! The filter works behind floors that are known to be on disk. A record of `replaced` goes once all its revisions are
//! compacted; a record of `history` once, besides, no record of `replaced` that is still needed points to it (see
//! `Applied::history_floor`).
//! Each of these keys is written once in its life, so the verdict `Destroy`, which leaves no tombstone, is safe.
//! No reader depends on it: reads below the compact revision are refused, and reads at or above it look at no such record.
//! A snapshot opened before the merge goes on reading the tables from before it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use fjall::compaction::filter::{
    CompactionFilter, CompactionFilterResult, Context, Factory, ItemAccessor, Verdict,
};

use crate::storage::state::packed::last_main;

/// The revisions up to which records may go, of `replaced` and of `history`.
#[derive(Debug)]
pub struct Floors {
    replaced: AtomicI64,
    history: AtomicI64,
    /// How many have gone.
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

    /// How many records have gone so far.
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

/// The last revision whose history may go: a watch may begin with the compact revision itself.
pub fn history_floor(floor: i64) -> i64 {
    floor - 1
}

struct Filter {
    floor: i64,
    floors: Arc<Floors>,
    dropped: u64,
}

impl Drop for Filter {
    /// The merge is through, or was given up: then some count twice.
    fn drop(&mut self) {
        self.floors.dropped.fetch_add(self.dropped, Ordering::Relaxed);
    }
}

impl CompactionFilter for Filter {
    fn filter_item(&mut self, item: ItemAccessor<'_>, _: &Context) -> CompactionFilterResult {
        // A record that does not parse stays, for its reader to report.
        Ok(match last_main(&item.value()?) {
            Some(revision) if revision <= self.floor => {
                self.dropped += 1;
                Verdict::Destroy
            }
            _ => Verdict::Keep,
        })
    }
}
