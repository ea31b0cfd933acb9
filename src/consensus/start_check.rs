//! What a member must hear from the others before it takes part in raft. After a start it neither sends nor answers raft
//! messages until enough of them have said what they remember of it. Each says so in the handshake of a link, and states its
//! disk: what a member remembers on a disk other than its own does not count.
//!
//! Once enough members are heard, the start is counted on this member's disk. Only then does it take part (`contacts`).
//!
//! Enough is one of these, provided that no other voter's last answer refuses this member:
//!
//! - all other voters;
//! - a majority of all voters, this one not counted: any vote and any committed entry that this member had a part in is then
//!   known to one of the members heard, or it was never counted;
//! - a majority together with this one, once [`PATIENCE_ELECTIONS`] election timeouts have passed. The other voters are taken
//!   for dead: a cluster that can keep running without them must be able to start without them.
//!
//! The voters are those of the newest configuration that the member knows or hears of. Its own may be older than its log: a
//! member that was promoted meanwhile would count for nothing, and the cluster could wait for ever for others that are gone.
//!
//! What follows for a member whose disk is an older copy, or blank under a known ID:
//!
//! - It stops before it takes part if any member that it hears in time has heard it since the copy was made. That member knows
//!   a later start, which it has on disk, or a promise, which it has in memory (`promises`).
//! - It can take part undetected only if all those members are down or unreachable until patience ends; or, for a copy made
//!   after its newest start had its name, if all of them have restarted since. The first case takes a second failure, of as
//!   many members as a quorum can lose. In the second case the caution below keeps acknowledged entries.
//!
//! For [`CAUTION_ELECTIONS`] election timeouts after that it votes for no log, its own included, that is behind the furthest
//! log that it has heard of. An acknowledged entry that only an older copy of its disk would lack is in one of those logs.

use crate::ids::{LogIndex, MemberId};
use crate::mutants::{self, Mutant};
use crate::proto::peer::Recollection;
use std::collections::{BTreeMap, BTreeSet};

/// How long to wait for members that do not answer.
const PATIENCE_ELECTIONS: u64 = 2;
/// How long a log that is behind gets no vote. This must end: the member with the furthest log may be gone for good, with
/// entries that were never committed.
const CAUTION_ELECTIONS: u64 = 5;

/// A member's last answer to this one.
#[derive(Clone, Debug, PartialEq)]
pub enum Word {
    /// The member is unreachable.
    Nothing,
    Refused,
    Remembers(Recollection),
}

/// Where a log ends: term and index of its last entry, in the order in which raft compares them.
pub type LogEnd = (u64, u64);

/// See the head of the file.
#[derive(Debug)]
pub struct StartCheck {
    own: MemberId,
    /// The voters, this member perhaps among them. A member that has joined and applied nothing knows none.
    voters: BTreeSet<MemberId>,
    /// The entry up to which the log was applied by the member that knows these voters.
    voters_applied_index: u64,
    /// The last answers, of voters and others.
    words: BTreeMap<MemberId, Word>,
    election_ticks: u64,
    /// Since the start, or since this member began to take part.
    ticks: u64,
    count_asked: bool,
    is_counted: bool,
    takes_part: bool,
    furthest: LogEnd,
}

impl StartCheck {
    /// `voters` are those that the member knows itself, once it has applied its log up to `applied`.
    pub fn new(
        own: MemberId,
        voters: impl IntoIterator<Item = MemberId>,
        applied: LogIndex,
        election_ticks: u64,
    ) -> Self {
        Self {
            own,
            voters: voters.into_iter().collect(),
            voters_applied_index: applied.0,
            words: BTreeMap::new(),
            election_ticks,
            ticks: 0,
            count_asked: false,
            is_counted: false,
            takes_part: false,
            furthest: LogEnd::default(),
        }
    }

    pub fn tick(&mut self) {
        self.ticks += 1;
        self.look();
    }

    pub fn hear(&mut self, member: MemberId, word: Word) {
        if let Word::Remembers(recollection) = &word
            && !self.takes_part
        {
            let end = (recollection.last_term, recollection.last_index);
            self.furthest = self.furthest.max(end);
            self.hear_of_voters(recollection);
        }
        self.words.insert(member, word);
        self.look();
    }

    fn hear_of_voters(&mut self, recollection: &Recollection) {
        if !recollection.voters.is_empty() && !mutants::active(Mutant::HeardVotersIgnored) {
            let voters = recollection.voters.iter().map(|id| MemberId(*id)).collect();
            self.know_voters(voters, LogIndex(recollection.applied_index));
        }
    }

    /// Takes in the voters of the log up to `applied`, unless newer ones are known.
    pub fn know_voters(&mut self, voters: BTreeSet<MemberId>, applied: LogIndex) {
        if applied.0 > self.voters_applied_index {
            self.voters = voters;
            self.voters_applied_index = applied.0;
        }
    }

    /// Whether the start is to be counted on disk now. Returns true once.
    pub fn take_count_request(&mut self) -> bool {
        let asks = !self.count_asked && self.is_enough();
        self.count_asked |= asks;
        asks
    }

    /// The start is counted on disk. The answers are looked at again: a member may have refused this one meanwhile.
    pub fn counted(&mut self) {
        self.is_counted = true;
        self.look();
    }

    /// Whether this member may take part.
    pub fn takes_part(&self) -> bool {
        self.takes_part
    }

    /// Takes part without waiting for answers.
    pub fn take_part(&mut self) {
        self.takes_part = true;
        self.ticks = self.election_ticks * CAUTION_ELECTIONS;
    }

    /// Whether a candidate whose log ends there may get a vote.
    pub fn may_vote_for(&self, end: LogEnd) -> bool {
        self.takes_part && (end >= self.furthest || self.ticks >= self.election_ticks * CAUTION_ELECTIONS)
    }

    fn look(&mut self) {
        if !self.takes_part && self.is_counted && self.is_enough() {
            self.takes_part = true;
            self.ticks = 0;
        }
    }

    fn is_enough(&self) -> bool {
        let others = || self.voters.iter().filter(|voter| **voter != self.own);
        let words = || others().filter_map(|voter| self.words.get(voter));
        if self.voters.is_empty() || words().any(|word| *word == Word::Refused) {
            return false;
        }
        let heard = words().filter(|word| matches!(word, Word::Remembers(_))).count();
        let others = others().count();
        let majority = others.div_ceil(2) + 1;
        let is_late = self.ticks >= self.election_ticks * PATIENCE_ELECTIONS;
        heard == others || heard >= majority || (is_late && heard + 1 >= majority)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ELECTION_TICKS: u64 = 10;

    fn remembers(last_term: u64, last_index: u64) -> Word {
        Word::Remembers(Recollection {
            last_term,
            last_index,
            ..Recollection::default()
        })
    }

    /// The last of these voters.
    fn check(voters: u64) -> StartCheck {
        StartCheck::new(
            MemberId(voters),
            (1..=voters).map(MemberId),
            LogIndex(5),
            ELECTION_TICKS,
        )
    }

    /// A check whose start is counted.
    fn among(voters: u64) -> StartCheck {
        let mut check = check(voters);
        check.counted();
        check
    }

    #[test]
    fn a_start_is_counted_once_enough_was_heard_and_takes_part_after_that() {
        for voters in [1, 2, 3] {
            let mut check = check(voters);
            for member in 1..voters {
                assert!(!check.take_count_request(), "{voters} voters");
                check.hear(MemberId(member), remembers(1, 1));
            }
            assert!(check.take_count_request(), "{voters} voters");
            check.tick();
            assert!(
                !check.take_count_request() && !check.takes_part(),
                "{voters} voters"
            );
            check.counted();
            assert!(check.takes_part(), "{voters} voters");
        }
    }

    #[test]
    fn a_refusal_while_the_start_is_counted_stands() {
        let mut check = check(3);
        for member in 1..3 {
            check.hear(MemberId(member), remembers(1, 1));
        }
        assert!(check.take_count_request());
        check.hear(MemberId(2), Word::Refused);
        check.counted();
        assert!(!check.takes_part());
        check.hear(MemberId(2), remembers(1, 1));
        assert!(check.takes_part());
    }

    #[test]
    fn enough_is_all_or_a_majority_of_the_others_or_patience() {
        // Voters; how many of the others are heard; whether that is enough at once; whether it is after a while.
        let cases = [
            (1, 0, true, true),
            (2, 0, false, false),
            (2, 1, true, true),
            (3, 0, false, false),
            (3, 1, false, true),
            (3, 2, true, true),
            (4, 1, false, false),
            (4, 2, false, true),
            (4, 3, true, true),
            (5, 1, false, false),
            (5, 2, false, true),
            (5, 3, true, true),
            (7, 2, false, false),
            (7, 3, false, true),
            (7, 4, true, true),
        ];
        for (voters, heard, at_once, in_time) in cases {
            let mut check = among(voters);
            for member in 1..=heard {
                check.hear(MemberId(member), remembers(1, 1));
            }
            assert_eq!(check.takes_part(), at_once, "{heard} of {voters}");
            for _ in 0..PATIENCE_ELECTIONS * ELECTION_TICKS {
                check.tick();
            }
            assert_eq!(check.takes_part(), in_time, "{heard} of {voters}, later");
        }
    }

    #[test]
    fn a_refusal_stands_until_the_member_says_something_else_or_is_gone() {
        for next in [Word::Nothing, remembers(1, 1)] {
            let mut check = among(3);
            check.hear(MemberId(1), Word::Refused);
            check.hear(MemberId(2), remembers(1, 1));
            for _ in 0..10 * ELECTION_TICKS {
                check.tick();
            }
            assert!(!check.takes_part());
            check.hear(MemberId(1), next);
            assert!(check.takes_part());
        }
    }

    #[test]
    fn for_a_while_only_the_furthest_log_gets_a_vote() {
        let mut check = among(3);
        check.hear(MemberId(1), remembers(2, 9));
        assert!(!check.may_vote_for((5, 5)), "it takes no part");
        check.hear(MemberId(2), remembers(3, 7));
        check.hear(MemberId(1), remembers(9, 9));
        for _ in 0..CAUTION_ELECTIONS * ELECTION_TICKS {
            assert!(!check.may_vote_for((2, 9)) && !check.may_vote_for((3, 6)));
            assert!(check.may_vote_for((3, 7)) && check.may_vote_for((4, 1)));
            check.tick();
        }
        assert!(
            check.may_vote_for((2, 9)),
            "the furthest log may have gone for good"
        );
    }

    #[test]
    fn the_newest_configuration_that_is_heard_of_counts() {
        let knows = |voters: &[u64], applied_index| {
            Word::Remembers(Recollection {
                voters: voters.to_vec(),
                applied_index,
                ..Recollection::default()
            })
        };
        let passes = |check: &mut StartCheck| {
            for _ in 0..PATIENCE_ELECTIONS * ELECTION_TICKS {
                check.tick();
            }
            check.takes_part()
        };
        // Member 4 knows voters 1 to 4. 1 and 2 are gone, 5 has become a voter since, and 3 knows that.
        for (applied_index, expected) in [(4, false), (5, false), (6, true)] {
            let mut check = among(4);
            check.hear(MemberId(5), knows(&[], 0));
            check.hear(MemberId(3), knows(&[1, 2, 3, 4, 5], applied_index));
            assert_eq!(passes(&mut check), expected, "applied up to {applied_index}");
        }
        // One that has joined and knows nobody waits until it hears of a configuration, and heeds a refusal.
        let mut check = StartCheck::new(MemberId(2), [], LogIndex(0), ELECTION_TICKS);
        check.counted();
        check.hear(MemberId(1), Word::Refused);
        assert!(!passes(&mut check) && !check.take_count_request());
        check.hear(MemberId(1), knows(&[1], 6));
        assert!(check.takes_part());
        // A voter that has been removed since is waited for no more, whatever it said.
        let mut check = among(3);
        check.hear(MemberId(1), Word::Refused);
        check.hear(MemberId(2), knows(&[2, 3], 6));
        assert!(check.takes_part());
    }
}
