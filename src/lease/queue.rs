//! A queue of deadlines: one entry per lease, however often its deadline changes.
//!
//! A keep-alive only moves the lease's deadline. This is the common case and costs nothing here: if an entry comes up too
//! early, its owner puts it back. Entries of deleted leases are skipped, and swept out once they are the majority.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Times in milliseconds on the caller's clock.
#[derive(Debug, Default)]
pub struct DeadlineQueue {
    heap: BinaryHeap<Reverse<(u64, i64)>>,
}

impl DeadlineQueue {
    /// Builds the heap at once, which is cheaper than single pushes.
    pub fn of(entries: Vec<(u64, i64)>) -> Self {
        Self {
            heap: entries.into_iter().map(Reverse).collect::<Vec<_>>().into(),
        }
    }

    pub fn push(&mut self, at_ms: u64, id: i64) {
        self.heap.push(Reverse((at_ms, id)));
    }

    /// The next entry that is due.
    pub fn pop(&mut self, now_ms: u64) -> Option<(u64, i64)> {
        let Reverse((at_ms, _)) = self.heap.peek()?;
        if *at_ms > now_ms {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry)
    }

    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Removes dead entries if there are more than twice as many entries as `alive`.
    pub fn sweep(&mut self, alive: usize, is_alive: impl Fn(u64, i64) -> bool) {
        if self.heap.len() > 2 * alive + 1024 {
            self.heap.retain(|Reverse((at_ms, id))| is_alive(*at_ms, *id));
        }
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.heap.len()
    }
}
