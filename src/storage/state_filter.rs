//! Drops what a compaction has made unreachable, while the engine merges tables.
//!
//! The filter works behind a floor: a compact revision that is known to be on disk. A record of `superseded` goes once
//! the revision that pushed it out is at or below the floor, a record of `revisions` once all its revisions are.
//! Each of these keys is written once in its life, so the verdict `Destroy`, which leaves no tombstone, is safe.
//! No reader depends on it: reads below the compact revision are refused, and reads at or above it look at no such record.
//! A snapshot opened before the merge goes on reading the tables from before it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use fjall::compaction::filter::{
    CompactionFilter, CompactionFilterResult, Context, Factory, ItemAccessor, Verdict,
};

use crate::storage::state_keys::Place;
use crate::storage::state_revisions::last_main;

/// The compact revision up to which records may go.
#[derive(Debug)]
pub struct Floor(AtomicI64);

impl Default for Floor {
    fn default() -> Self {
        Self(AtomicI64::new(-1))
    }
}

impl Floor {
    pub fn raise(&self, revision: i64) {
        self.0.fetch_max(revision, Ordering::AcqRel);
    }

    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Acquire)
    }
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Superseded,
    Revisions,
}

struct FilterFactory {
    kind: Kind,
    floor: Arc<Floor>,
}

/// The filter of the keyspace called `keyspace`, if it has one.
pub fn factory(keyspace: &str, floor: &Arc<Floor>) -> Option<Arc<dyn Factory>> {
    let kind = match keyspace {
        "superseded" => Kind::Superseded,
        "revisions" => Kind::Revisions,
        _ => return None,
    };
    Some(Arc::new(FilterFactory {
        kind,
        floor: Arc::clone(floor),
    }))
}

impl Factory for FilterFactory {
    fn name(&self) -> &'static str {
        "compacted revisions"
    }

    fn make_filter(&self, _: &Context) -> Box<dyn CompactionFilter> {
        Box::new(Filter {
            kind: self.kind,
            floor: self.floor.get(),
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
            Kind::Revisions => last_main(&item.value()?),
        };
        // A record that does not parse stays, for its reader to report.
        Ok(match last_needed {
            Some(revision) if revision <= self.floor => Verdict::Destroy,
            _ => Verdict::Keep,
        })
    }
}
