//! When a leader tells the others what is committed, if no entry that goes out anyway tells it.
//!
//! Told at once, every lone write would cost a message to each member and its answer more. A follower needs to know soon only if
//! somebody there waits: for a command that it forwarded (it is told at once, and it alone), for a read (the question's own
//! heartbeat tells), or for a watch event (it comes a moment later).

use crate::ids::{LogIndex, MemberId};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long the news may wait for an entry to go with.
pub const NEWS_DELAY: Duration = Duration::from_millis(1);

/// What to do about the newest commit index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Telling {
    /// Who is to be told at once.
    pub now: Vec<MemberId>,
    /// Whether all are to be told after [`NEWS_DELAY`], if nothing has told it by then.
    pub later: bool,
}

/// What the others have been told.
#[derive(Debug, Default)]
pub struct CommitNews {
    /// Everybody has been told so much.
    told: LogIndex,
    awaiting: BTreeMap<MemberId, Awaiting>,
    /// Who has forwarded commands that are in no entry yet.
    forwarded: BTreeSet<MemberId>,
    /// A timer runs.
    waiting: bool,
}

/// A member that waits for its commands.
#[derive(Debug)]
struct Awaiting {
    /// The newest entry that holds one.
    index: LogIndex,
    /// What it was told alone.
    told: LogIndex,
}

impl CommitNews {
    /// A follower waits for commands that are now in the queue.
    pub fn forwarded(&mut self, member: MemberId) {
        self.forwarded.insert(member);
    }

    /// An entry goes out at `index`, and tells the others that `committed` is; with it went `all` of the queue or not.
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

    /// What to do now that `committed` is the newest index; there are `others` to be told.
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
