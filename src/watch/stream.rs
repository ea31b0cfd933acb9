//! What a stream of a client asks of the hub.

use super::interests::Wants;
use super::keys::WatchedKeys;
use super::outbox::Outbox;
use std::fmt;
use std::sync::Arc;

/// Tells one stream from all others of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

/// Says whether the stream's user may watch these keys, and if not why, in the words that the client gets. Asked when a
/// watcher is created, and of every watcher again when permissions have changed.
pub type Permission = Arc<dyn Fn(&WatchedKeys) -> Result<(), String> + Send + Sync>;

/// A new stream.
#[derive(Clone)]
pub struct OpenedStream {
    pub outbox: Arc<Outbox>,
    /// The stream ends when there has been no leader for some time.
    pub require_leader: bool,
    /// None: everything is permitted.
    pub permission: Option<Permission>,
    /// When it is told of progress first.
    pub progress_due_ms: u64,
}

impl fmt::Debug for OpenedStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenedStream")
            .field("require_leader", &self.require_leader)
            .finish_non_exhaustive()
    }
}

/// A watcher to be.
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
