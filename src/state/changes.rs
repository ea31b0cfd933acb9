//! What an applied batch has changed: one publication, with a part of each component that anybody observes. Changes of keys are
//! not collected unless somebody watches.

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
    /// What the key holds now; none if it was deleted.
    pub record: Option<Record>,
    /// What it held before, if anybody wants that.
    pub previous: Option<Record>,
}

/// All that came between published views.
#[derive(Clone, Debug)]
pub struct AppliedChanges {
    /// The newest revision of the view before.
    pub after: i64,
    /// The newest revision of the view that is published.
    pub revision: i64,
    /// In revision order; None if they were not collected, as with a state that came as a snapshot.
    pub changes: Option<Vec<AppliedChange>>,
    /// Whether the changes say what they have replaced.
    pub previous: bool,
}

/// What is to be collected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    pub changes: bool,
    /// The records that are replaced, too: those have to be read.
    pub previous: bool,
}

impl Wanted {
    /// What either wants.
    pub(crate) const fn or(self, other: Self) -> Self {
        Self {
            changes: self.changes || other.changes,
            previous: self.previous || other.previous,
        }
    }
}

/// What a view has brought.
#[derive(Debug)]
pub struct Publication {
    pub view: Arc<View>,
    /// It came as a snapshot: whatever anybody knows of the state before it no longer counts.
    pub is_replaced: bool,
    /// None if there are none, or nobody wants them. For whoever takes it.
    pub keys: Option<AppliedChanges>,
    /// In the order of the log. For whoever takes them.
    pub leases: Vec<LeaseChange>,
}

/// Who is told of changes.
pub trait Observer: Send {
    /// What of the keys it wants to see. Asked before a batch is applied, and again once its view is published: whoever
    /// begins to watch says so first and looks at the view then, so that no change falls in between.
    fn wanted(&self) -> Wanted {
        Wanted::default()
    }

    /// Called once the view is published, and before anybody is answered.
    fn published(&self, publication: &mut Publication);
}

/// What is collected between views.
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
