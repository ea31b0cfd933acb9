//! How far the applier is behind the commit index. Entries that are not applied stay in memory, so their bytes have a bound.
//! Beyond it a leader proposes nothing, and a follower drops appended entries, which the leader sends again.

use crate::ids::LogIndex;
use crate::limits::sizes;
use crate::state::CommittedEntry;
use std::collections::VecDeque;

/// Entries that were handed to the applier and are not yet applied.
#[derive(Debug, Default)]
pub struct ApplyLag {
    entries: VecDeque<(LogIndex, usize)>,
    bytes: usize,
}

impl ApplyLag {
    pub fn handed_over(&mut self, entries: &[CommittedEntry]) {
        for entry in entries {
            let bytes = entry.payload.data().len();
            self.entries.push_back((entry.index, bytes));
            self.bytes += bytes;
        }
    }

    /// Everything up to this index is applied, or replaced by a snapshot's state.
    pub fn applied(&mut self, index: LogIndex) {
        while let Some((_, bytes)) = self.entries.pop_front_if(|(first, _)| *first <= index) {
            self.bytes -= bytes;
        }
    }

    /// Whether the bound is exceeded.
    pub fn is_long(&self) -> bool {
        self.bytes > sizes().apply_lag_bytes_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Term;
    use crate::limits::APPLY_LAG_BYTES_MAX;
    use crate::state::Payload;

    #[test]
    fn entries_count_until_they_are_applied() {
        let entry = |index| CommittedEntry {
            index: LogIndex(index),
            term: Term(1),
            payload: Payload::Commands(vec![0; APPLY_LAG_BYTES_MAX / 2].into()),
        };
        let mut lag = ApplyLag::default();
        lag.handed_over(&[entry(4), entry(5)]);
        assert!(!lag.is_long());
        lag.handed_over(&[entry(6)]);
        assert!(lag.is_long());
        lag.applied(LogIndex(3));
        assert!(lag.is_long());
        lag.applied(LogIndex(4));
        assert!(!lag.is_long());
        lag.applied(LogIndex(9));
        assert_eq!((lag.bytes, lag.entries.len()), (0, 0));
    }
}
