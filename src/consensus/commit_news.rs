//! When a leader tells the others what is committed, if no entry that goes out anyway tells it.
//!
//! Told at once, every lone write would cost two messages and two answers more. Followers need to know soon only if
//! somebody there waits: for a command that was forwarded (they are told at once), for a read (the question's own heartbeat
//! tells), or for a watch event (it comes a moment later).

use crate::ids::LogIndex;
use std::time::Duration;

/// How long the news may wait for an entry to go with.
pub const NEWS_DELAY: Duration = Duration::from_millis(1);

/// What to do about the newest commit index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tell {
    /// The others know, or will hear it from what is under way.
    Nothing,
    Now,
    /// After [`NEWS_DELAY`], if nothing has told it by then.
    Later,
}

/// What the others have been told.
#[derive(Debug, Default)]
pub struct CommitNews {
    told: LogIndex,
    /// The newest entry that holds a forwarded command.
    awaited: LogIndex,
    /// Forwarded commands have come in that are in no entry yet.
    forwarded: bool,
    /// A timer runs.
    waiting: bool,
}

impl CommitNews {
    /// A follower waits for commands that are now in the queue.
    pub fn forwarded(&mut self) {
        self.forwarded = true;
    }

    /// An entry goes out at `index`, and tells the others that `committed` is; with it went `all` of the queue or not.
    pub fn proposed(&mut self, index: LogIndex, committed: LogIndex, all: bool) {
        self.told = committed;
        if self.forwarded {
            self.awaited = index;
            self.forwarded = !all;
        }
    }

    /// What to do now that `committed` is the newest index.
    pub fn about(&mut self, committed: LogIndex) -> Tell {
        if committed <= self.told {
            return Tell::Nothing;
        }
        if self.told < self.awaited {
            self.told = committed;
            return Tell::Now;
        }
        if std::mem::replace(&mut self.waiting, true) {
            return Tell::Nothing;
        }
        Tell::Later
    }

    /// The timer has ended: whether the others are to be told now.
    pub fn time_is_up(&mut self, committed: LogIndex) -> bool {
        self.waiting = false;
        let news = committed > self.told;
        self.told = self.told.max(committed);
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_waits_for_the_next_entry() {
        let mut news = CommitNews::default();
        news.proposed(LogIndex(5), LogIndex(4), true);
        assert_eq!(news.about(LogIndex(4)), Tell::Nothing);
        assert_eq!(news.about(LogIndex(5)), Tell::Later);
        assert_eq!(news.about(LogIndex(5)), Tell::Nothing, "one timer is enough");
        news.proposed(LogIndex(6), LogIndex(5), true);
        assert!(!news.time_is_up(LogIndex(5)), "the entry told it");
        assert_eq!(news.about(LogIndex(6)), Tell::Later);
        assert!(news.time_is_up(LogIndex(6)));
        assert_eq!(news.about(LogIndex(6)), Tell::Nothing);
    }

    #[test]
    fn who_forwarded_a_command_hears_at_once() {
        let mut news = CommitNews::default();
        news.forwarded();
        news.proposed(LogIndex(5), LogIndex(4), false);
        news.proposed(LogIndex(6), LogIndex(4), true);
        assert_eq!(news.about(LogIndex(5)), Tell::Now);
        assert_eq!(news.about(LogIndex(6)), Tell::Now);
        news.proposed(LogIndex(7), LogIndex(6), true);
        assert_eq!(news.about(LogIndex(7)), Tell::Later, "nobody else waits for it");
    }
}
