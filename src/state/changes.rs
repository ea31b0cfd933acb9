//! What an applied batch has changed: one publication with a part for each component that has observers. Changes of keys are
//! collected only while there are watchers.

use crate::state::leases::LeaseChange;
use crate::state::view::View;
use crate::storage::state::record::Record;
use bytes::Bytes;
use std::sync::Arc;

/// One change of one key. Shares memory with the state.
#[derive(Clone, Debug)]
pub struct AppliedChange {
    pub revision: i64,
    pub key: Bytes,
    /// The record that the key holds now; none if it was deleted.
    pub record: Option<Record>,
    /// The record that it held before, if an observer wants it.
    pub previous: Option<Record>,
}

/// The changes between consecutive published views.
#[derive(Clone, Debug)]
pub struct AppliedChanges {
    /// The newest revision of the previous view.
    pub after: i64,
    /// The newest revision of the published view.
    pub revision: i64,
    /// In revision order; none if they were not collected, as after a state came in a snapshot.
    pub changes: Option<Vec<AppliedChange>>,
    /// Whether the changes contain the replaced records.
    pub previous: bool,
}

/// What is to be collected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    pub changes: bool,
    /// The replaced records too, which have to be read.
    pub previous: bool,
}

impl Wanted {
    /// The union of both.
    pub(crate) const fn or(self, other: Self) -> Self {
        Self {
            changes: self.changes || other.changes,
            previous: self.previous || other.previous,
        }
    }
}

/// What is new in a published view.
#[derive(Debug)]
pub struct Publication {
    pub view: Arc<View>,
    /// The view came in a snapshot: what observers know of the earlier state no longer counts.
    pub is_replaced: bool,
    /// None if there are none, or no observer wants them. The observer may take them.
    pub keys: Option<AppliedChanges>,
    /// In log order. The observer may take them.
    pub leases: Vec<LeaseChange>,
}

/// Is told of changes.
pub trait Observer: Send {
    /// Which changes of keys the observer wants. Asked before a batch is applied, and again once its view is published. A new
    /// watcher announces itself before it looks at the view, so that it misses no change.
    fn wanted(&self) -> Wanted {
        Wanted::default()
    }

    /// Called once the view is published, before any request is answered.
    fn published(&self, publication: &mut Publication);
}

/// The changes collected since the last view.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    pub changes: bool,
    pub previous: bool,
    pub noted: Vec<AppliedChange>,
}

impl Watched {
    pub fn new(wanted: Wanted) -> Self {
        Self {
            changes: wanted.changes,
            previous: wanted.previous,
            noted: vec![],
        }
    }
}
