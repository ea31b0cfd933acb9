//! Decides what to compact, and when. Pure: gets the time and the revision as arguments.

use std::collections::VecDeque;
use std::time::Duration;

/// Interval between checks in revision mode.
const REVISION_INTERVAL: Duration = Duration::from_mins(5);
/// A period is divided into this many intervals.
const PARTS: u32 = 10;
/// The longest interval between compactions.
const COMPACT_INTERVAL_MAX: Duration = Duration::from_hours(1);

/// What is retained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    /// Every revision that was the newest at some time within this period. Not zero.
    Period(Duration),
    /// This many revisions before the newest. Not zero.
    Revisions(i64),
}

/// Decides about compactions. [`Self::interval`] passes between a call of [`Self::note`] and one of [`Self::due`]; `now` is the
/// time since this was created.
#[derive(Debug)]
pub struct Compactor {
    retention: Retention,
    /// The newest revisions at the last checks, oldest first.
    noted: VecDeque<i64>,
    last_compacted: i64,
    /// When the last compaction was.
    since: Duration,
    /// The time from then to the next compaction.
    wait: Duration,
}

impl Compactor {
    pub fn new(retention: Retention) -> Self {
        Self {
            retention,
            noted: VecDeque::new(),
            last_compacted: 0,
            since: Duration::ZERO,
            wait: match retention {
                Retention::Period(period) => period,
                Retention::Revisions(_) => Duration::ZERO,
            },
        }
    }

    /// Interval between checks.
    pub fn interval(&self) -> Duration {
        match self.retention {
            Retention::Period(period) => {
                (period.min(COMPACT_INTERVAL_MAX) / PARTS).max(Duration::from_millis(1))
            }
            Retention::Revisions(_) => REVISION_INTERVAL,
        }
    }

    /// Records the newest revision now.
    pub fn note(&mut self, revision: i64) {
        let Retention::Period(period) = self.retention else {
            return;
        };
        self.noted.push_back(revision);
        // Including the one that is a whole period old.
        let count_max = period.as_nanos() / self.interval().as_nanos() + 1;
        if self.noted.len() as u128 > count_max {
            self.noted.pop_front();
        }
    }

    /// The revision to compact now, if it is time.
    pub fn due(&self, now: Duration, newest: i64) -> Option<i64> {
        let (revision, is_time) = match self.retention {
            Retention::Period(_) => (*self.noted.front()?, now.saturating_sub(self.since) >= self.wait),
            Retention::Revisions(kept) => (newest.saturating_sub(kept), true),
        };
        (is_time && revision > 0 && revision != self.last_compacted).then_some(revision)
    }

    /// Records an attempt. A failed compaction is due again at the next check; a revision that is already compacted is no
    /// failure.
    pub fn tried(&mut self, revision: i64, succeeded: bool, now: Duration) {
        if let Retention::Period(period) = self.retention {
            self.wait = period.min(COMPACT_INTERVAL_MAX);
        }
        if succeeded {
            self.last_compacted = revision;
            self.since = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);
    const HOUR: Duration = Duration::from_hours(1);

    /// Runs a compactor over a store that gains a revision with each check. Returns the checks at which it compacted, with the
    /// revision.
    fn run(retention: Retention, looks: u32, fails_at: &[u32]) -> Vec<(u32, i64)> {
        let mut compactor = Compactor::new(retention);
        let mut compactions = vec![];
        for look in 1..=looks {
            compactor.note(i64::from(look));
            let now = compactor.interval() * look;
            let Some(revision) = compactor.due(now, i64::from(look)) else {
                continue;
            };
            compactions.push((look, revision));
            compactor.tried(revision, !fails_at.contains(&look), now);
        }
        compactions
    }

    #[test]
    fn looks_are_a_tenth_of_the_period_or_of_an_hour_apart() {
        let interval = |retention| Compactor::new(retention).interval();
        for (period, expected) in [
            (Duration::from_secs(5), Duration::from_millis(500)),
            (MINUTE, Duration::from_secs(6)),
            (HOUR, 6 * MINUTE),
            (24 * HOUR, 6 * MINUTE),
            (Duration::from_nanos(3), Duration::from_millis(1)),
        ] {
            assert_eq!(interval(Retention::Period(period)), expected);
        }
        assert_eq!(interval(Retention::Revisions(7)), 5 * MINUTE);
    }

    /// As in etcd's own tests (periodic_test.go): nothing for the first period, then once a period, or once an hour.
    #[test]
    fn periods_keep_what_was_the_newest_within_them() {
        let minutes = run(Retention::Period(5 * MINUTE), 31, &[]);
        assert_eq!(minutes, [(10, 1), (20, 10), (30, 20)]);
        let hour = run(Retention::Period(HOUR), 25, &[]);
        assert_eq!(hour, [(10, 1), (20, 10)]);
        let two_hours = run(Retention::Period(2 * HOUR), 45, &[]);
        assert_eq!(two_hours, [(20, 1), (30, 10), (40, 20)]);
    }

    #[test]
    fn what_failed_is_tried_again_at_the_next_look() {
        let tried = run(Retention::Period(5 * MINUTE), 25, &[10, 11]);
        assert_eq!(tried, [(10, 1), (11, 1), (12, 2), (22, 12)]);
    }

    #[test]
    fn nothing_new_is_no_reason_to_compact() {
        let mut compactor = Compactor::new(Retention::Period(MINUTE));
        let mut compactions = 0;
        for look in 1..=100 {
            compactor.note(7);
            let now = compactor.interval() * look;
            if let Some(revision) = compactor.due(now, 7) {
                compactor.tried(revision, true, now);
                compactions += 1;
            }
        }
        assert_eq!(compactions, 1);
    }

    #[test]
    fn revisions_are_counted_from_the_newest() {
        assert_eq!(run(Retention::Revisions(5), 8, &[]), [(6, 1), (7, 2), (8, 3)]);
        let mut compactor = Compactor::new(Retention::Revisions(10));
        assert_eq!(compactor.due(HOUR, 110), Some(100));
        compactor.tried(100, false, HOUR);
        assert_eq!(compactor.due(HOUR, 110), Some(100));
        compactor.tried(100, true, HOUR);
        assert_eq!(compactor.due(2 * HOUR, 110), None);
        assert_eq!(compactor.due(2 * HOUR, 111), Some(101));
    }
}
