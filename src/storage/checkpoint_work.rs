//! Slow work on the disk, as the applier and consensus ask for it; neither waits for it.

use crate::storage::state::StateDatabase;
use std::sync::Arc;
use tokio::sync::oneshot;

/// What the checkpointer has to do.
#[derive(Debug, Default)]
pub struct CheckpointWork {
    /// Sync the state and tell consensus up to where.
    pub checkpoint: bool,
    /// Reclaim the space of compacted revisions, then tell whoever asked.
    pub reclaim: Vec<oneshot::Sender<()>>,
    /// Remove these, which are not in use any more, once nobody reads them.
    pub replaced: Vec<Arc<StateDatabase>>,
}
