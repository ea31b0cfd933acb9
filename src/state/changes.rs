//! What an applied batch has changed, handed to whoever watches. Nothing is collected unless somebody does.

use crate::storage::state_record::Record;
use bytes::Bytes;

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

/// Who is told of changes.
pub trait ChangeSink: Send {
    /// What anybody wants to see. Asked before a batch is applied, and again once its view is published: whoever
    /// begins to watch says so first and looks at the view then, so that no change falls in between.
    fn wanted(&self) -> Wanted;

    /// Called once the view with these changes is published, and before anybody is answered.
    fn publish(&self, changes: AppliedChanges);
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
