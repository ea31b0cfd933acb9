//! A linearizable read on its way: to consensus for a read index, to the applier until that index is applied, and back.

use super::errors::ReadError;
use crate::bound::Admitted;
use crate::env;
use tokio::sync::oneshot;

/// A read that waits for its read index.
#[derive(Debug)]
pub struct Reader {
    pub(crate) answer: oneshot::Sender<Result<(), ReadError>>,
    pub(crate) deadline: env::Instant,
    /// Counts the read until it is answered, in whichever queue it waits.
    pub(crate) _admitted: Admitted,
}

impl Reader {
    /// Whether the caller has stopped waiting.
    pub fn is_abandoned(&self) -> bool {
        self.answer.is_closed()
    }

    pub fn finish(self, outcome: Result<(), ReadError>) {
        // The caller may have stopped waiting.
        let _ = self.answer.send(outcome);
    }
}
