//! Who is at fault when members do not agree.

use crate::ids::MemberId;
use std::collections::BTreeMap;

/// What a comparison comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All that could be compared are the same.
    Same,
    /// These differ from a majority of the cluster.
    AtFault(Vec<MemberId>),
    /// They differ, and no majority holds the same, nor will with those that have not answered.
    NoMajority,
    /// They differ, and those that have not answered decide who is right.
    Undecided,
}

/// Comparisons in a row that may be undecided. What differs then does so for long enough to call the cluster corrupt,
/// without whoever is down.
const UNDECIDED_MAX: u32 = 5;

/// How long to wait for those that decide.
#[derive(Debug, Default)]
pub struct Patience {
    undecided: u32,
}

impl Patience {
    /// What to report of a comparison, given those before it.
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

/// Compares what members have answered, of a cluster of `members`.
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
