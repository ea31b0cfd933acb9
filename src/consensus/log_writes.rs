//! The writes of the log on their way to the log writer, in order: what comes while the state of a snapshot is put in
//! place waits here, since the log begins behind it.
//!
//! What is to be written is the core's to say.

use super::writer::LogWork;
use crate::inbox::Inbox;
use std::sync::Arc;

/// See the head of the file.
#[derive(Debug)]
pub(super) struct LogWrites {
    writer: Arc<Inbox<Vec<LogWork>>>,
    deferred: Vec<LogWork>,
    /// The state of a snapshot is being put in place.
    is_restoring: bool,
}

impl LogWrites {
    pub fn new(writer: Arc<Inbox<Vec<LogWork>>>) -> Self {
        Self {
            writer,
            deferred: Vec::new(),
            is_restoring: false,
        }
    }

    /// Has this written as soon as it is its turn.
    pub fn add(&mut self, mut work: Vec<LogWork>) {
        if work.is_empty() {
            return;
        }
        if self.is_restoring {
            self.deferred.append(&mut work);
        } else {
            self.writer.add(|queue| queue.append(&mut work));
        }
    }

    /// What comes from now on waits.
    pub fn begin_restore(&mut self) {
        self.is_restoring = true;
    }

    /// The state is in place: first this, then what has waited for it.
    pub fn finish_restore(&mut self, reset: LogWork) {
        self.is_restoring = false;
        self.deferred.insert(0, reset);
        let deferred = std::mem::take(&mut self.deferred);
        self.add(deferred);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consensus::core::LogWrite;
    use crate::ids::{LogIndex, Term};
    use crate::proto::peer::HardState;
    use crate::storage::log::Cut;

    fn write(number: u64) -> LogWork {
        LogWork::Write(LogWrite {
            number,
            entries: Vec::new(),
            replaces_suffix: false,
            hard_state: None,
        })
    }

    #[test]
    fn writes_keep_their_order_around_a_snapshot() {
        let writer = Arc::new(Inbox::<Vec<LogWork>>::default());
        let mut writes = LogWrites::new(Arc::clone(&writer));
        let handed_over = || writer.take().iter().map(LogWork::number).collect::<Vec<_>>();
        writes.add(vec![write(1)]);
        assert_eq!(handed_over(), [1]);
        writes.begin_restore();
        writes.add(vec![write(3)]);
        writes.add(vec![write(4)]);
        assert_eq!(handed_over(), [0; 0]);
        writes.finish_restore(LogWork::Reset {
            number: 2,
            cut: Cut {
                index: LogIndex(7),
                term: Term(1),
            },
            hard_state: HardState::default(),
        });
        assert_eq!(handed_over(), [2, 3, 4]);
        writes.add(vec![write(5)]);
        assert_eq!(handed_over(), [5]);
    }
}
