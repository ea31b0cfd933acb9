//! HashKV of this member beside that of the others, at one revision and as if all had compacted the same.

use super::ask::ask_others;
use super::handle::{HashError, HashHandle, KnownHash};
use super::verdict::{self, Verdict};
use crate::ids::MemberId;
use crate::peer::caller::PeerCaller;
use crate::proto::peer::state_question::Question;
use crate::proto::peer::{HashQuestion, StateAnswer};
use crate::state::mvcc::MvccError;
use std::time::Duration;

/// What came of it.
#[derive(Debug)]
pub(super) struct Comparison {
    pub own: KnownHash,
    /// This member and all that could be compared, with numbers that are equal where the hashes are.
    pub sums: Vec<(MemberId, u64)>,
    /// What all that answered said.
    pub answers: Vec<(MemberId, StateAnswer)>,
}

impl Comparison {
    /// What it comes to in a cluster of so many members, on a leader whose view has this revision and compact revision: who holds
    /// what the leader has never had is at fault, whatever the others say.
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

/// Compares with whoever answers in time, twice: what the history holds, as HashKV has it, and what is held now, as
/// HashKV has it for members that have compacted everything. Reads take the one or the other.
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
        // Compacted in between.
        Err(HashError::Mvcc(MvccError::Compacted)) => Ok(vec![history]),
        Err(error) => Err(error),
    }
}

/// Compares with whoever answers in time.
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
        // They may have compacted more than this member; it can never be less, since they were told.
        let ours = if answer.compact_revision == known.compact_revision {
            known
        } else {
            let question = HashQuestion {
                compact_revision: answer.compact_revision,
                ..question
            };
            match hashes.hash(question).await {
                Ok(ours) if ours.compact_revision == answer.compact_revision => ours,
                // This member has compacted even more meanwhile: the next comparison will tell.
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
        // What the second member answers, and what the third has as its hash, on a leader at revision 10 that has compacted to 4.
        let cases = [
            (answer(10, 4, Some(1)), 1, Verdict::Same),
            (answer(10, 4, Some(1)), 2, Verdict::AtFault(vec![MemberId(3)])),
            (answer(11, 4, Some(1)), 2, Verdict::AtFault(vec![MemberId(2)])),
            // What it could be compared at is no matter, only what it has compacted without the leader.
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
