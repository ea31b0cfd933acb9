//! When a leader sends the commit index on its own, if no entry that is sent anyway carries it.
//!
//! Sent at once, it would cost each lone write one more message to every member, and a response. A follower needs it soon only
//! if something there waits: a command that it forwarded (this follower alone is told at once), a read (the heartbeat of its
//! ReadIndex carries the commit index), or a watcher (its event comes one delay later).

use crate::ids::{LogIndex, MemberId};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long the commit index may wait for an entry that carries it.
pub const NEWS_DELAY: Duration = Duration::from_millis(1);

/// What to do about the newest commit index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Telling {
    /// Members to be told at once.
    pub now: Vec<MemberId>,
    /// Whether all members are to be told after [`NEWS_DELAY`], unless an entry has told them by then.
    pub later: bool,
}

/// Which commit index the followers have been told.
#[derive(Debug, Default)]
pub struct CommitNews {
    /// The index that all followers have been told.
    told: LogIndex,
    awaiting: BTreeMap<MemberId, Awaiting>,
    /// Followers that have forwarded commands which are not yet in an entry.
    forwarded: BTreeSet<MemberId>,
    /// A timer is running.
    waiting: bool,
}

/// A follower that waits for commands which it forwarded.
#[derive(Debug)]
struct Awaiting {
    /// The newest entry that holds one of them.
    index: LogIndex,
    /// The index that this follower alone was told.
    told: LogIndex,
}

impl CommitNews {
    /// A follower has forwarded commands, which are now in the queue.
    pub fn forwarded(&mut self, member: MemberId) {
        self.forwarded.insert(member);
    }

    /// An entry is sent at `index`, and carries the commit index `committed`. `all` tells whether it emptied the queue.
    pub fn proposed(&mut self, index: LogIndex, committed: LogIndex, all: bool) {
        self.told = committed;
        for member in &self.forwarded {
            let told = LogIndex(0);
            let awaiting = self.awaiting.entry(*member).or_insert(Awaiting { index, told });
            awaiting.index = index;
        }
        if all {
            self.forwarded.clear();
        }
    }

    /// What to do now that `committed` is the commit index and there are `others` to be told.
    pub fn about(&mut self, committed: LogIndex, others: usize) -> Telling {
        let told = self.told;
        if committed <= told {
            return Telling::default();
        }
        let mut now = Vec::new();
        self.awaiting.retain(|member, awaiting| {
            let known = awaiting.told.max(told);
            if known < awaiting.index && known < committed {
                awaiting.told = committed;
                now.push(*member);
            }
            awaiting.told.max(told) < awaiting.index
        });
        if now.len() == others {
            self.told = committed;
            return Telling { now, later: false };
        }
        let later = !std::mem::replace(&mut self.waiting, true);
        Telling { now, later }
    }

    /// The timer has fired. Returns whether the other members are to be told now.
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

    const OTHERS: usize = 2;
    const LATER: Telling = Telling {
        now: Vec::new(),
        later: true,
    };

    #[test]
    fn a_commit_waits_for_the_next_entry() {
        let mut news = CommitNews::default();
        news.proposed(LogIndex(5), LogIndex(4), true);
        assert_eq!(news.about(LogIndex(4), OTHERS), Telling::default());
        assert_eq!(news.about(LogIndex(5), OTHERS), LATER);
        assert_eq!(
            news.about(LogIndex(5), OTHERS),
            Telling::default(),
            "one timer is enough"
        );
        news.proposed(LogIndex(6), LogIndex(5), true);
        assert!(!news.time_is_up(LogIndex(5)), "the entry told it");
        assert_eq!(news.about(LogIndex(6), OTHERS), LATER);
        assert!(news.time_is_up(LogIndex(6)));
        assert_eq!(news.about(LogIndex(6), OTHERS), Telling::default());
    }

    #[test]
    fn who_forwarded_a_command_hears_at_once_and_alone() {
        let (first, second) = (MemberId(1), MemberId(2));
        let mut news = CommitNews::default();
        news.forwarded(first);
        news.proposed(LogIndex(5), LogIndex(4), false);
        news.proposed(LogIndex(6), LogIndex(4), true);
        let only_first = |later| Telling {
            now: vec![first],
            later,
        };
        assert_eq!(news.about(LogIndex(5), OTHERS), only_first(true));
        assert_eq!(news.about(LogIndex(5), OTHERS), Telling::default());
        assert_eq!(news.about(LogIndex(6), OTHERS), only_first(false));
        assert!(news.time_is_up(LogIndex(6)), "the other one does not know");
        news.proposed(LogIndex(7), LogIndex(6), true);
        assert_eq!(news.about(LogIndex(7), OTHERS), LATER, "nobody waits for it");
        news.forwarded(first);
        news.forwarded(second);
        news.proposed(LogIndex(8), LogIndex(7), true);
        let both = Telling {
            now: vec![first, second],
            later: false,
        };
        assert_eq!(news.about(LogIndex(8), OTHERS), both);
        assert!(!news.time_is_up(LogIndex(8)), "all have been told");
    }
}
