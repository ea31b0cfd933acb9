//! When the state is synced, and how much of the log may be compacted after that. This is pure bookkeeping of entries and
//! bytes.
//!
//! Only entries that the state has on disk may be cut. Some of these are kept for followers that are behind (etcd:
//! `--snapshot-count` and `--snapshot-catchup-entries`). Bytes count too, since one of our entries holds many commands.

use crate::ids::LogIndex;
use crate::limits::{CATCH_UP_BYTES, CATCH_UP_ENTRIES, lowered, sizes};
use std::collections::VecDeque;

/// The granularity in which appended bytes are recorded.
const MARK_BYTES: u64 = 512 * 1024;

/// How many entries and bytes to apply before a checkpoint, and how many to keep for followers that are behind.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    pub entries: u64,
    pub bytes: u64,
    pub catch_up_entries: u64,
    pub catch_up_bytes: u64,
}

impl Policy {
    pub fn with_snapshot_count(entries: u64) -> Self {
        Self {
            entries,
            bytes: sizes().checkpoint_bytes,
            catch_up_entries: CATCH_UP_ENTRIES,
            catch_up_bytes: CATCH_UP_BYTES,
        }
    }

    /// Lowers the thresholds for a checkpoint by this percentage, 0 to 100.
    #[must_use]
    pub fn sooner(self, percent: u64) -> Self {
        Self {
            entries: lowered(self.entries, percent),
            bytes: lowered(self.bytes, percent),
            ..self
        }
    }
}

/// The progress of the log since the last checkpoint.
#[derive(Debug)]
pub struct Checkpoints {
    policy: Policy,
    /// Bytes appended since the start. `marks` records, about every [`MARK_BYTES`], at which index how many were reached.
    appended_bytes: u64,
    marks: VecDeque<(LogIndex, u64)>,
    last: (LogIndex, u64),
    under_way: bool,
}

impl Checkpoints {
    pub fn new(policy: Policy, applied: LogIndex) -> Self {
        Self {
            policy,
            appended_bytes: 0,
            marks: VecDeque::new(),
            last: (applied, 0),
            under_way: false,
        }
    }

    /// Counts an appended entry. One that replaces an older entry counts again: an estimate is enough.
    pub fn appended(&mut self, index: LogIndex, bytes: u64) {
        self.appended_bytes += bytes;
        let newest = self.marks.back().map_or(0, |(_, at)| *at);
        if self.appended_bytes >= newest + MARK_BYTES {
            while self.marks.back().is_some_and(|(at, _)| *at >= index) {
                self.marks.pop_back();
            }
            self.marks.push_back((index, self.appended_bytes));
        }
    }

    /// Whether a checkpoint should start now. After it has returned true, it returns false until [`Self::synced`].
    pub fn due(&mut self, applied: LogIndex) -> bool {
        let (index, bytes) = self.last;
        let due = applied.0 >= index.0 + self.policy.entries
            || (applied > index && self.appended_bytes >= bytes + self.policy.bytes);
        let now = due && !self.under_way;
        self.under_way |= now;
        now
    }

    /// The state has everything up to `index` on disk. Returns the index up to which the log may be cut.
    pub fn synced(&mut self, index: LogIndex) -> LogIndex {
        self.under_way = false;
        self.last = (index, self.appended_bytes);
        let by_entries = index.0.saturating_sub(self.policy.catch_up_entries);
        let by_bytes = self
            .marks
            .iter()
            .rev()
            .find(|(_, at)| *at + self.policy.catch_up_bytes <= self.appended_bytes)
            .map_or(0, |(at, _)| at.0);
        let cut = LogIndex(by_entries.max(by_bytes).min(index.0));
        while self.marks.front().is_some_and(|(at, _)| *at < cut) {
            self.marks.pop_front();
        }
        cut
    }

    /// The log starts again after a snapshot.
    pub fn reset(&mut self, index: LogIndex) {
        *self = Self::new(self.policy, index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Policy = Policy {
        entries: 10,
        bytes: 1000 * MARK_BYTES,
        catch_up_entries: 4,
        catch_up_bytes: u64::MAX,
    };

    #[test]
    fn entries_make_a_checkpoint_due_once() {
        let mut checkpoints = Checkpoints::new(POLICY, LogIndex(5));
        assert!(!checkpoints.due(LogIndex(14)));
        assert!(checkpoints.due(LogIndex(15)));
        assert!(!checkpoints.due(LogIndex(30)), "one is under way");
        assert_eq!(checkpoints.synced(LogIndex(15)), LogIndex(11));
        assert!(!checkpoints.due(LogIndex(24)));
        assert!(checkpoints.due(LogIndex(25)));
    }

    #[test]
    fn sooner_is_sooner() {
        let policy = Policy {
            entries: u64::MAX,
            bytes: 7,
            ..POLICY
        };
        assert_eq!(policy.sooner(0).entries, u64::MAX);
        let sooner = policy.sooner(30);
        assert_eq!((sooner.entries, sooner.bytes), (u64::MAX / 10 * 7 + 4, 5));
        assert_eq!(sooner.catch_up_entries, policy.catch_up_entries);
    }

    #[test]
    fn bytes_make_a_checkpoint_due_and_bound_what_is_kept() {
        let policy = Policy {
            bytes: 4 * MARK_BYTES,
            catch_up_bytes: 2 * MARK_BYTES,
            catch_up_entries: 100,
            entries: 100,
        };
        let mut checkpoints = Checkpoints::new(policy, LogIndex(0));
        for index in 1..=8 {
            checkpoints.appended(LogIndex(index), MARK_BYTES / 2);
        }
        assert!(checkpoints.due(LogIndex(8)));
        assert_eq!(checkpoints.synced(LogIndex(8)), LogIndex(4));
        assert!(!checkpoints.due(LogIndex(9)));
    }
}
