//! The state digests after the newest log entries, which members compare while they run.
//!
//! A digest sums up every change that the log has ever made (see `Applied::digest`). Members with the same digest at an index
//! hold the same state there, and a member that once diverged never agrees again. A digest costs some nanoseconds per change.
//! Bit rot of records changes no digest until a later change depends on them; HashKV finds that.

use crate::ids::LogIndex;
use crate::limits::DIGESTS_MAX;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Digests(Arc<Mutex<Recent>>);

#[derive(Debug, Default)]
struct Recent {
    /// The digest after the entry `first`, then those after the following entries.
    digests: VecDeque<u64>,
    first: LogIndex,
}

impl Digests {
    /// The state has reached `index` other than by applying entries, for example by a snapshot.
    pub(super) fn restart(&self, index: LogIndex, digest: u64) {
        *self.recent() = Recent {
            digests: VecDeque::from([digest]),
            first: index,
        };
    }

    /// Adds the digests after the next entries.
    pub(super) fn extend(&self, digests: &[u64]) {
        let mut recent = self.recent();
        recent.digests.extend(digests);
        let surplus = recent.digests.len().saturating_sub(DIGESTS_MAX);
        recent.digests.drain(..surplus);
        recent.first.0 += surplus as u64;
    }

    /// The newest applied entry.
    pub fn newest(&self) -> LogIndex {
        let recent = self.recent();
        LogIndex(recent.first.0 + (recent.digests.len() as u64).saturating_sub(1))
    }

    /// The digest after an entry; none if it is not yet applied, or too old.
    pub fn after(&self, index: LogIndex) -> Option<u64> {
        let recent = self.recent();
        let place = index.0.checked_sub(recent.first.0)?;
        recent.digests.get(usize::try_from(place).ok()?).copied()
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_known_by_index() {
        let digests = Digests::default();
        digests.restart(LogIndex(5), 50);
        digests.extend(&[60, 70]);
        let known = |index| digests.after(LogIndex(index));
        assert_eq!(
            [4, 5, 6, 7, 8].map(known),
            [None, Some(50), Some(60), Some(70), None]
        );
        assert_eq!(digests.newest(), LogIndex(7));
        digests.extend(&vec![1; DIGESTS_MAX - 1]);
        assert_eq!([6, 7, 8].map(known), [None, Some(70), Some(1)]);
        digests.restart(LogIndex(9), 90);
        assert_eq!([8, 9].map(known), [None, Some(90)]);
    }
}
