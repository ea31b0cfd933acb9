//! Lines that wait for an output: bounded, so that an output that is stuck costs some memory and lines, and nobody's time.

use super::line::Line;
use crate::limits::LOG_QUEUE_BYTES;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// One output's lines. Everybody adds, the output's thread takes.
#[derive(Debug, Default)]
pub struct Queue {
    state: Mutex<QueueState>,
    added: Notify,
}

#[derive(Debug, Default)]
struct QueueState {
    batch: Batch,
    bytes: usize,
    /// What was taken is not written yet.
    is_writing: bool,
}

/// Lines to be written, and how many are missing after them.
#[derive(Debug, Default)]
pub struct Batch {
    pub lines: Vec<Line>,
    pub dropped: u64,
}

impl Queue {
    /// Adds a line, or counts it where there is no room.
    pub fn add(&self, line: Line) {
        let mut state = self.lock();
        if state.bytes + line.text.len() > LOG_QUEUE_BYTES {
            state.batch.dropped += 1;
            return;
        }
        state.bytes += line.text.len();
        state.batch.lines.push(line);
        let is_first = state.batch.lines.len() == 1;
        drop(state);
        if is_first {
            self.added.notify_one();
        }
    }

    /// Everything that has been added, once there is something. What was taken before counts as written.
    pub async fn take(&self) -> Batch {
        loop {
            {
                let mut state = self.lock();
                state.is_writing = !state.batch.lines.is_empty();
                if state.is_writing {
                    state.bytes = 0;
                    return std::mem::take(&mut state.batch);
                }
            }
            self.added.notified().await;
        }
    }

    /// Whether nothing waits, and nothing is being written.
    pub fn is_written(&self) -> bool {
        let state = self.lock();
        state.batch.lines.is_empty() && !state.is_writing
    }

    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    fn line(bytes: usize) -> Line {
        Line {
            level: Level::Info,
            package: "p",
            text: vec![b'x'; bytes].into(),
        }
    }

    #[test]
    fn what_does_not_fit_is_counted_and_there_is_room_again_once_lines_are_taken() {
        let queue = Queue::default();
        let take = || crate::env::block_on(queue.take());
        assert!(queue.is_written());
        for _ in 0..5 {
            queue.add(line(LOG_QUEUE_BYTES / 3));
        }
        queue.add(line(1));
        assert!(!queue.is_written());
        let batch = take();
        assert_eq!((batch.lines.len(), batch.dropped), (4, 2));
        assert!(!queue.is_written(), "it is being written");
        queue.add(line(LOG_QUEUE_BYTES));
        let batch = take();
        assert_eq!((batch.lines.len(), batch.dropped), (1, 0));
    }
}
