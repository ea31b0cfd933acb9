//! Requests of a client's stream to the hub.

use super::interests::Wants;
use super::keys::WatchedKeys;
use super::outbox::Outbox;
use std::fmt;
use std::sync::Arc;

/// Unique within the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

/// Whether the stream's user may watch these keys, and if not the error text for the client. Checked when a watcher is created,
/// and again for every watcher when permissions have changed.
pub type Permission = Arc<dyn Fn(&WatchedKeys) -> Result<(), String> + Send + Sync>;

/// A new stream.
#[derive(Clone)]
pub struct OpenedStream {
    pub outbox: Arc<Outbox>,
    /// The stream ends after some time without a leader.
    pub require_leader: bool,
    /// None: everything is permitted.
    pub permission: Option<Permission>,
    /// When its first progress notification is due.
    pub progress_due_ms: u64,
}

impl fmt::Debug for OpenedStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenedStream")
            .field("require_leader", &self.require_leader)
            .finish_non_exhaustive()
    }
}

/// The creation of a watcher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Create {
    /// 0: the server chooses.
    pub watch_id: i64,
    /// None if no key can be inside.
    pub keys: Option<WatchedKeys>,
    /// 0: from now on.
    pub start_revision: i64,
    pub wants: Wants,
    pub progress_notify: bool,
    pub fragment: bool,
}
