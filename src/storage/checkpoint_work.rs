//! Slow disk work that the applier and consensus request without waiting for it.

use crate::storage::state::StateDatabase;
use std::sync::Arc;
use tokio::sync::oneshot;

/// What the checkpointer is asked to do.
#[derive(Debug, Default)]
pub struct CheckpointWork {
    /// Sync the state and report the synced index to consensus.
    pub checkpoint: bool,
    /// Reclaim the space of compacted revisions, then notify these callers.
    pub reclaim: Vec<oneshot::Sender<()>>,
    /// Replaced databases: remove each once its last reader is gone.
    pub replaced: Vec<Arc<StateDatabase>>,
}
