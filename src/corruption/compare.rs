//! Compares HashKV of this member with that of the others, at one revision and as if all had compacted alike.

use super::ask::ask_others;
use super::handle::{HashError, HashHandle, KnownHash};
use super::verdict::{self, Verdict};
use crate::ids::MemberId;
use crate::peer::caller::PeerCaller;
use crate::proto::peer::state_question::Question;
use crate::proto::peer::{HashQuestion, StateAnswer};
use crate::state::mvcc::MvccError;
use std::time::Duration;

/// The result of a comparison.
#[derive(Debug)]
pub(super) struct Comparison {
    pub own: KnownHash,
    /// This member and all that could be compared, with numbers that are equal if the hashes are.
    pub sums: Vec<(MemberId, u64)>,
    /// The answers of all members that answered.
    pub answers: Vec<(MemberId, StateAnswer)>,
}

impl Comparison {
    /// The verdict in a cluster of `members`, on a leader whose view has this revision and compact revision. A member that is
    /// ahead of the leader is at fault, whatever the others hold.
    pub fn verdict(&self, members: usize, revision: i64, compact_revision: i64) -> Verdict {
        let ahead = self.answers.iter().filter(|(_, answer)| {
            let compacted = answer.hash.map_or(answer.compact_revision, |_| -1);
            answer.revision > revision || compacted > compact_revision
        });
        let ahead: Vec<_> = ahead.map(|(member, _)| *member).collect();
        if ahead.is_empty() {
            verdict::judge(&self.sums, members)
        } else {
            Verdict::AtFault(ahead)
        }
    }
}

fn sum(hash: u32, compact_revision: i64) -> u64 {
    u64::from(hash) | (compact_revision as u64) << 32
}

/// Compares with all members that answer in time, twice: first the history, as HashKV reads it, then the current state, as
/// HashKV reads it on members that have compacted everything. Reads use one or the other.
pub(super) async fn compare_twice(
    own: MemberId,
    hashes: &HashHandle,
    caller: &mut PeerCaller,
    question: HashQuestion,
    within: Duration,
) -> Result<Vec<Comparison>, HashError> {
    let history = compare(own, hashes, caller, question, within).await?;
    let revision = history.own.revision;
    if history.own.compact_revision == revision {
        return Ok(vec![history]);
    }
    let question = HashQuestion {
        revision,
        compact_revision: revision,
    };
    match compare(own, hashes, caller, question, within).await {
        Ok(newest) => Ok(vec![history, newest]),
        // Compacted since the first comparison.
        Err(HashError::Mvcc(MvccError::Compacted)) => Ok(vec![history]),
        Err(error) => Err(error),
    }
}

/// Compares with all members that answer in time.
async fn compare(
    own: MemberId,
    hashes: &HashHandle,
    caller: &mut PeerCaller,
    question: HashQuestion,
    within: Duration,
) -> Result<Comparison, HashError> {
    let known = hashes.hash(question).await?;
    let own_sum = sum(known.hash, known.compact_revision);
    let mut comparison = Comparison {
        own: known,
        sums: vec![(own, own_sum)],
        answers: Vec::new(),
    };
    let question = HashQuestion {
        revision: known.revision,
        compact_revision: known.compact_revision,
    };
    for (member, outcome) in ask_others(caller, Question::Hash(question), within).await {
        let answer = match outcome {
            Ok(answer) => answer,
            Err(status) => {
                tracing::warn!(
                    local_member_id = %own, requested_revision = known.revision, remote_peer_id = %member,
                    error = status.message(), "failed hash kv request"
                );
                continue;
            }
        };
        comparison.answers.push((member, answer));
        let Some(theirs) = answer.hash else {
            log_incomparable(own, member, known.revision, &answer);
            continue;
        };
        // The other member may have compacted more, never less: the question states a compact revision.
        let ours = if answer.compact_revision == known.compact_revision {
            known
        } else {
            let question = HashQuestion {
                compact_revision: answer.compact_revision,
                ..question
            };
            match hashes.hash(question).await {
                Ok(ours) if ours.compact_revision == answer.compact_revision => ours,
                // This member has compacted even more meanwhile. The next comparison decides.
                _ => continue,
            }
        };
        if ours.hash == theirs {
            comparison.sums.push((member, own_sum));
            continue;
        }
        tracing::warn!(
            local_member_id = %own, local_member_revision = known.revision,
            local_member_compact_revision = ours.compact_revision, local_member_hash = ours.hash,
            remote_peer_id = %member, remote_peer_revision = answer.revision, remote_peer_hash = theirs,
            "found different hash values from remote peer"
        );
        comparison
            .sums
            .push((member, sum(theirs, answer.compact_revision)));
    }
    Ok(comparison)
}

fn log_incomparable(own: MemberId, member: MemberId, revision: i64, answer: &StateAnswer) {
    let reason = if answer.revision < revision {
        "cannot fetch hash from slow remote peer"
    } else if answer.compact_revision > revision {
        "cannot fetch hash from remote peer; local member is behind"
    } else {
        "cannot fetch hash from remote peer"
    };
    tracing::warn!(
        local_member_id = %own, local_member_revision = revision, remote_peer_id = %member,
        remote_peer_revision = answer.revision, remote_peer_compact_revision = answer.compact_revision, "{reason}"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(revision: i64, compact_revision: i64, hash: Option<u32>) -> StateAnswer {
        StateAnswer {
            revision,
            compact_revision,
            hash,
            ..StateAnswer::default()
        }
    }

    #[test]
    fn who_is_ahead_of_the_leader_is_at_fault() {
        let own = KnownHash {
            hash: 1,
            compact_revision: 3,
            revision: 9,
        };
        // The second member's answer; the third member's hash; the verdict of a leader at revision 10, compacted to 4.
        let cases = [
            (answer(10, 4, Some(1)), 1, Verdict::Same),
            (answer(10, 4, Some(1)), 2, Verdict::AtFault(vec![MemberId(3)])),
            (answer(11, 4, Some(1)), 2, Verdict::AtFault(vec![MemberId(2)])),
            // The compact revision of a comparison does not matter, only that the member has compacted without the leader.
            (answer(9, 5, Some(1)), 1, Verdict::Same),
            (answer(9, 5, None), 1, Verdict::AtFault(vec![MemberId(2)])),
        ];
        for (theirs, third, expected) in cases {
            let comparison = Comparison {
                own,
                sums: vec![(MemberId(1), 1), (MemberId(2), 1), (MemberId(3), third)],
                answers: vec![(MemberId(2), theirs)],
            };
            assert_eq!(comparison.verdict(3, 10, 4), expected, "{theirs:?} {third}");
        }
    }
}
