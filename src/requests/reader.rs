//! A linearizable read on its way: to consensus for an index, to the applier until that is applied, and back.

use super::errors::ReadError;
use crate::bound::Admitted;
use crate::env;
use tokio::sync::oneshot;

/// A read that waits for its index.
#[derive(Debug)]
pub struct Reader {
    pub(crate) answer: oneshot::Sender<Result<(), ReadError>>,
    pub(crate) deadline: env::Instant,
    /// Counts it until it is answered, in whichever queue it waits.
    pub(crate) _admitted: Admitted,
}

impl Reader {
    /// The caller has gone.
    pub fn is_abandoned(&self) -> bool {
        self.answer.is_closed()
    }

    pub fn finish(self, outcome: Result<(), ReadError>) {
        // Whoever asked may have gone.
        let _ = self.answer.send(outcome);
    }
}
