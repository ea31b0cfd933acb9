//! Drops what a compaction has made unreachable, while the engine merges tables.
//!
//! The filter works behind floors that are known to be on disk. A record of `superseded` goes once the revision that
//! pushed it out is compacted, a record of `history` once all its revisions are and no record of `superseded` that is
//! still needed points to it (see `Applied::history_floor`).
//! Each of these keys is written once in its life, so the verdict `Destroy`, which leaves no tombstone, is safe.
//! No reader depends on it: reads below the compact revision are refused, and reads at or above it look at no such record.
//! A snapshot opened before the merge goes on reading the tables from before it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use fjall::compaction::filter::{
    CompactionFilter, CompactionFilterResult, Context, Factory, ItemAccessor, Verdict,
};

use crate::storage::state_history::last_main;
use crate::storage::state_keys::Place;

/// The revisions up to which records may go, of `superseded` and of `history`.
#[derive(Debug)]
pub struct Floors {
    superseded: AtomicI64,
    history: AtomicI64,
}

impl Default for Floors {
    fn default() -> Self {
        Self {
            superseded: AtomicI64::new(-1),
            history: AtomicI64::new(-1),
        }
    }
}

impl Floors {
    pub fn raise(&self, superseded: i64, history: i64) {
        self.superseded.fetch_max(superseded, Ordering::AcqRel);
        self.history.fetch_max(history, Ordering::AcqRel);
    }

    /// The floor of `superseded`, then that of `history`.
    pub fn get(&self) -> (i64, i64) {
        (
            self.superseded.load(Ordering::Acquire),
            self.history.load(Ordering::Acquire),
        )
    }
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Superseded,
    History,
}

struct FilterFactory {
    kind: Kind,
    floors: Arc<Floors>,
}

/// The filter of the keyspace called `keyspace`, if it has one.
pub fn factory(keyspace: &str, floors: &Arc<Floors>) -> Option<Arc<dyn Factory>> {
    let kind = match keyspace {
        "superseded" => Kind::Superseded,
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
        let (superseded, history) = self.floors.get();
        let floor = match self.kind {
            Kind::Superseded => superseded,
            Kind::History => history,
        };
        Box::new(Filter {
            kind: self.kind,
            floor,
        })
    }
}

struct Filter {
    kind: Kind,
    floor: i64,
}

impl CompactionFilter for Filter {
    fn filter_item(&mut self, item: ItemAccessor<'_>, _: &Context) -> CompactionFilterResult {
        let last_needed = match self.kind {
            Kind::Superseded => Place::at_end_of(item.key()).map(|place| place.main),
            Kind::History => last_main(&item.value()?),
        };
        // A record that does not parse stays, for its reader to report.
        Ok(match last_needed {
            Some(revision) if revision <= self.floor => Verdict::Destroy,
            _ => Verdict::Keep,
        })
    }
}
