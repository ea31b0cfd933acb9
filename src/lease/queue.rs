//! What is due when: one entry per lease, however often the time changes.
//!
//! Keeping a lease alive only moves its deadline, which is the common case and costs nothing here. An entry that comes
//! up too early is put back by its owner. Entries of leases that have gone are passed over, and swept out once they are
//! the most.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Times in milliseconds on the caller's clock.
#[derive(Debug, Default)]
pub struct DeadlineQueue {
    heap: BinaryHeap<Reverse<(u64, i64)>>,
}

impl DeadlineQueue {
    /// All at once: as cheap as it gets.
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

    /// Sweeps if there are more than twice as many entries as `alive`.
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
