//! Decides which members are at fault when they differ.

use crate::ids::MemberId;
use std::collections::BTreeMap;

/// The verdict of a comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All members that could be compared hold the same.
    Same,
    /// These differ from a majority of the cluster.
    AtFault(Vec<MemberId>),
    /// The members differ, no majority holds the same, and the missing answers cannot make one.
    NoMajority,
    /// The members differ, and the missing answers decide which are right.
    Undecided,
}

/// The number of undecided comparisons in a row after which the cluster counts as corrupt, without waiting for members that
/// are down.
const UNDECIDED_MAX: u32 = 5;

/// Counts how long the members that decide have not answered.
#[derive(Debug, Default)]
pub struct Patience {
    undecided: u32,
}

impl Patience {
    /// The verdict to report, given the comparisons before it.
    pub fn hear(&mut self, verdict: Verdict) -> Verdict {
        if verdict != Verdict::Undecided {
            self.undecided = 0;
            return verdict;
        }
        self.undecided += 1;
        if self.undecided < UNDECIDED_MAX {
            return verdict;
        }
        self.undecided = 0;
        Verdict::NoMajority
    }
}

/// Compares the answers of members, in a cluster of `members`.
pub fn judge(answers: &[(MemberId, u64)], members: usize) -> Verdict {
    let mut holders: BTreeMap<u64, Vec<MemberId>> = BTreeMap::new();
    for (member, sum) in answers {
        holders.entry(*sum).or_default().push(*member);
    }
    if holders.len() < 2 {
        return Verdict::Same;
    }
    let quorum = members / 2 + 1;
    let Some(right) = holders
        .iter()
        .find_map(|(sum, holders)| (holders.len() >= quorum).then_some(*sum))
    else {
        let most = holders.values().map(Vec::len).max().unwrap_or_default();
        let silent = members.saturating_sub(answers.len());
        return if most + silent >= quorum {
            Verdict::Undecided
        } else {
            Verdict::NoMajority
        };
    };
    holders.remove(&right);
    let mut at_fault: Vec<_> = holders.into_values().flatten().collect();
    at_fault.sort_unstable();
    Verdict::AtFault(at_fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_majority_of_the_cluster_is_right() {
        let at_fault = |members: &[u64]| Verdict::AtFault(members.iter().copied().map(MemberId).collect());
        let table: [(&[u64], usize, Verdict); 10] = [
            (&[], 3, Verdict::Same),
            (&[5], 3, Verdict::Same),
            (&[5, 5, 5], 3, Verdict::Same),
            (&[5, 6, 5], 3, at_fault(&[2])),
            (&[6, 5, 5], 3, at_fault(&[1])),
            (&[5, 6], 2, Verdict::NoMajority),
            (&[5, 6], 3, Verdict::Undecided),
            (&[5, 6, 7], 3, Verdict::NoMajority),
            (&[5, 6, 7, 5, 5], 5, at_fault(&[2, 3])),
            (&[5, 5, 6, 6], 5, Verdict::Undecided),
        ];
        for (sums, members, expected) in table {
            let answers: Vec<_> = (1..).map(MemberId).zip(sums.iter().copied()).collect();
            assert_eq!(judge(&answers, members), expected, "{sums:?} of {members}");
        }
    }

    #[test]
    fn those_who_are_silent_are_not_waited_for_forever() {
        let mut patience = Patience::default();
        for _ in 1..UNDECIDED_MAX {
            assert_eq!(patience.hear(Verdict::Undecided), Verdict::Undecided);
        }
        assert_eq!(patience.hear(Verdict::Same), Verdict::Same);
        for _ in 1..UNDECIDED_MAX {
            assert_eq!(patience.hear(Verdict::Undecided), Verdict::Undecided);
        }
        assert_eq!(patience.hear(Verdict::Undecided), Verdict::NoMajority);
        assert_eq!(patience.hear(Verdict::Undecided), Verdict::Undecided);
    }
}
