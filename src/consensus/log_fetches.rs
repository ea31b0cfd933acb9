//! Ranges of the log that raft wants to send and that are no longer in memory: which of them are being read from disk, and
//! which requests of raft wait for each. The transfer thread reads them; raft repeats its request once a range is there.
//!
//! Safety does not depend on this: if a range is given up, raft asks for it again at the follower's next heartbeat response.

use crate::ids::LogIndex;
use raft::GetEntriesContext;
use raft::eraftpb::Entry;

/// Ranges that are read at a time: one for each follower of a cluster, and some that are already superseded.
const FETCHES_MAX: usize = 16;
/// Requests that wait for one range: one of each follower, repeated with each heartbeat response.
const QUESTIONS_MAX: usize = 16;

/// A range of entries to read from disk: from `low` up to but excluding `high`. It has at least one entry; more only while
/// they fit `bytes_max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Tells this read from other reads of the same entries.
    number: u64,
    pub low: LogIndex,
    pub high: LogIndex,
    pub bytes_max: u64,
}

/// See the head of the file.
#[derive(Default)]
pub struct LogFetches {
    number: u64,
    /// Not yet taken by the caller.
    due: Vec<Stretch>,
    under_way: Vec<(Stretch, Vec<GetEntriesContext>)>,
    /// The entries that were read last, while raft takes them.
    found: Option<(LogIndex, Vec<Entry>)>,
}

impl LogFetches {
    /// Notes that raft wants these entries. Beyond the bounds it is ignored.
    pub fn want(&mut self, low: LogIndex, high: LogIndex, bytes_max: u64, question: GetEntriesContext) {
        let known = self.under_way.iter_mut().find(|(stretch, _)| stretch.low == low);
        if let Some((_, questions)) = known {
            if questions.len() < QUESTIONS_MAX {
                questions.push(question);
            }
            return;
        }
        if self.under_way.len() >= FETCHES_MAX {
            return;
        }
        self.number += 1;
        let stretch = Stretch {
            number: self.number,
            low,
            high,
            bytes_max,
        };
        self.due.push(stretch);
        self.under_way.push((stretch, vec![question]));
    }

    /// Takes the ranges that have to be read now.
    pub fn take_due(&mut self) -> Vec<Stretch> {
        std::mem::take(&mut self.due)
    }

    /// Takes the requests that wait for a range which has been read; none if the range was given up.
    pub fn take_questions(&mut self, stretch: Stretch) -> Option<Vec<GetEntriesContext>> {
        let place = self.under_way.iter().position(|(known, _)| *known == stretch)?;
        Some(self.under_way.swap_remove(place).1)
    }

    /// Holds entries for raft until [`Self::forget`].
    pub fn hold(&mut self, low: LogIndex, entries: Vec<Entry>) {
        self.found = Some((low, entries));
    }

    pub fn forget(&mut self) {
        self.found = None;
    }

    /// Entries from `low` up to but excluding `high`, if they are held.
    pub fn held(&self, low: LogIndex, high: LogIndex) -> Option<Vec<Entry>> {
        let (_, entries) = self.found.as_ref().filter(|(first, _)| *first == low)?;
        let wanted = entries.iter().take_while(|entry| entry.index < high.0);
        Some(wanted.cloned().collect())
    }

    /// Gives up all ranges: their entries may have been replaced.
    pub fn clear(&mut self) {
        self.due.clear();
        self.under_way.clear();
        self.found = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question() -> GetEntriesContext {
        GetEntriesContext::empty(true)
    }

    #[test]
    fn a_stretch_is_read_once_and_answers_all_who_asked() {
        let mut fetches = LogFetches::default();
        let ask = |fetches: &mut LogFetches, low| fetches.want(LogIndex(low), LogIndex(9), 100, question());
        ask(&mut fetches, 3);
        ask(&mut fetches, 3);
        let due = fetches.take_due();
        assert_eq!(due.len(), 1);
        assert!(fetches.take_due().is_empty());
        ask(&mut fetches, 3);
        assert!(fetches.take_due().is_empty(), "it is being read");
        assert_eq!(
            fetches.take_questions(due[0]).map(|questions| questions.len()),
            Some(3)
        );
        assert!(fetches.take_questions(due[0]).is_none(), "an answer counts once");
        ask(&mut fetches, 3);
        let again = fetches.take_due();
        assert_ne!(again, due);
        fetches.clear();
        assert!(
            fetches.take_questions(again[0]).is_none(),
            "the entries may differ by now"
        );
    }

    #[test]
    fn readings_and_questions_are_bounded() {
        let mut fetches = LogFetches::default();
        for low in 0..2 * FETCHES_MAX as u64 {
            for _ in 0..2 * QUESTIONS_MAX {
                fetches.want(LogIndex(low), LogIndex(99), 100, question());
            }
        }
        let due = fetches.take_due();
        assert_eq!(due.len(), FETCHES_MAX);
        let questions = fetches.take_questions(due[0]).expect("under way");
        assert_eq!(questions.len(), QUESTIONS_MAX);
    }

    #[test]
    fn what_is_held_is_there_for_its_first_index_only() {
        let mut fetches = LogFetches::default();
        let entries = (3..6).map(|index| Entry {
            index,
            ..Entry::default()
        });
        fetches.hold(LogIndex(3), entries.collect());
        let held = |fetches: &LogFetches, low, high| {
            fetches
                .held(LogIndex(low), LogIndex(high))
                .map(|entries| entries.len())
        };
        assert_eq!(held(&fetches, 3, 9), Some(3));
        assert_eq!(held(&fetches, 3, 5), Some(2));
        assert_eq!(held(&fetches, 4, 9), None);
        fetches.forget();
        assert_eq!(held(&fetches, 3, 9), None);
    }
}
