//! Log matching (Raft, 5.3) and state machine safety (5.4.3), over a whole rehearsal: two entries with the same index and term
//! carry the same commands and follow entries of the same term, and no two members ever apply different entries at the same
//! index.

use super::{Violation, violation};
use std::collections::BTreeMap;

/// An entry of a member's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogEntry {
    pub index: u64,
    pub term: u64,
    /// A checksum of its content.
    pub sum: u64,
}

/// The entries of the members' logs so far.
#[derive(Clone, Debug, Default)]
pub struct Logs {
    /// By index and term: the checksum, and the term of the previous entry if a member had that.
    entries: BTreeMap<(u64, u64), (u64, Option<u64>)>,
    /// The terms of entries that a member has applied, by index.
    applied: BTreeMap<u64, (u64, String)>,
}

impl Logs {
    /// Checks consecutive entries of a member's log, of which it has applied those up to `applied`.
    pub fn seen(&mut self, member: &str, stretch: &[LogEntry], applied: u64) -> Result<(), Violation> {
        let mut before: Option<LogEntry> = None;
        for entry in stretch {
            let previous = before.filter(|before| before.index + 1 == entry.index);
            let previous_term = previous.map(|before| before.term);
            let known = self
                .entries
                .entry((entry.index, entry.term))
                .or_insert((entry.sum, previous_term));
            let follows = known.1.is_none() || previous_term.is_none() || known.1 == previous_term;
            if known.0 != entry.sum || !follows {
                return violation(format!(
                    "logs do not match: {member} has another entry {} of term {} than was seen before",
                    entry.index, entry.term
                ));
            }
            known.1 = known.1.or(previous_term);
            before = Some(*entry);
            if entry.index > applied {
                continue;
            }
            let (term, first) = self
                .applied
                .entry(entry.index)
                .or_insert_with(|| (entry.term, member.to_owned()));
            if *term != entry.term {
                return violation(format!(
                    "{member} has applied entry {} of term {}, and {first} that of term {term}",
                    entry.index, entry.term
                ));
            }
        }
        Ok(())
    }

    /// The number of entries seen; the same entry on several members counts once.
    pub fn entries(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(index: u64, term: u64, sum: u64) -> LogEntry {
        LogEntry { index, term, sum }
    }

    #[test]
    fn equal_terms_mean_equal_logs() {
        let mut logs = Logs::default();
        assert!(logs.seen("m1", &[entry(1, 1, 11), entry(2, 1, 12)], 0).is_ok());
        assert!(logs.seen("m2", &[entry(1, 1, 11), entry(2, 2, 99)], 0).is_ok());
        assert!(logs.seen("m3", &[entry(2, 1, 12), entry(3, 3, 13)], 0).is_ok());
        assert_eq!(logs.entries(), 4);
        assert!(
            logs.clone().seen("m3", &[entry(2, 1, 13)], 0).is_err(),
            "another content"
        );
        let other = [entry(2, 2, 99), entry(3, 3, 13)];
        assert!(logs.seen("m3", &other, 0).is_err(), "after another entry");
    }

    #[test]
    fn what_is_applied_is_the_same_everywhere() {
        let mut logs = Logs::default();
        assert!(logs.seen("m1", &[entry(5, 2, 1), entry(6, 2, 2)], 5).is_ok());
        assert!(logs.seen("m2", &[entry(5, 2, 1), entry(6, 3, 9)], 6).is_ok());
        assert!(logs.seen("m3", &[entry(6, 2, 2)], 6).is_err());
    }
}
