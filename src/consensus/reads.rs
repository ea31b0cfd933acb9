//! Linearizable reads in rounds: one ReadIndex request serves all readers that called before it was sent. While a round is
//! under way, later readers wait for the next one, since the round's index may be older than their call.
//!
//! A request without an answer is followed by another one, and both stay open. An answer serves the readers of its own round
//! and of all earlier ones, since they called before its request was sent. If a new request voided the earlier ones, no read
//! would succeed where a round trip takes longer than the retry interval.

use super::core::ReadContext;
use crate::env::Instant;
use crate::limits::READ_ROUNDS_MAX;
use crate::mutants::{self, Mutant};
use crate::requests::Reader;
use std::collections::VecDeque;
use std::time::Duration;

/// After this long another request is sent, with a new context: raft ignores a repeated one, and drops a request silently
/// while no leader is known (etcd: `readIndexRetryTime`).
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// The readers that wait for a read index.
#[derive(Debug)]
pub struct Reads {
    nonce: u64,
    count: u64,
    waiting: Vec<Reader>,
    /// Requests without an answer, oldest first.
    rounds: VecDeque<Round>,
}

#[derive(Debug)]
struct Round {
    context: ReadContext,
    /// Readers that called before this request was sent and after the one before it.
    readers: Vec<Reader>,
    asked: Instant,
}

impl Reads {
    /// `nonce` is random, one per process.
    pub fn new(nonce: u64) -> Self {
        Self {
            nonce,
            count: 0,
            waiting: Vec::new(),
            rounds: VecDeque::new(),
        }
    }

    pub fn add(&mut self, mut readers: Vec<Reader>) {
        if self.waiting.is_empty() {
            self.waiting = readers;
        } else {
            self.waiting.append(&mut readers);
        }
    }

    /// Whether a request has no answer yet.
    pub fn is_under_way(&self) -> bool {
        !self.rounds.is_empty()
    }

    /// The request to send now, if one is due.
    pub fn question(&mut self, now: Instant) -> Option<ReadContext> {
        if self
            .rounds
            .back()
            .is_some_and(|round| now < round.asked + RETRY_AFTER)
        {
            return None;
        }
        self.rounds.retain(|round| !round.readers.is_empty());
        if self.waiting.is_empty() && self.rounds.is_empty() {
            return None;
        }
        let reuse = mutants::active(Mutant::ReadIndexReused) && !self.rounds.is_empty();
        if reuse || mutants::active(Mutant::LateAnswerIgnored) || self.rounds.len() >= READ_ROUNDS_MAX {
            self.ask_again();
        }
        if !reuse {
            self.count += 1;
        }
        let context = ReadContext {
            nonce: self.nonce,
            count: self.count,
        };
        self.rounds.push_back(Round {
            context,
            readers: std::mem::take(&mut self.waiting),
            asked: now,
        });
        Some(context)
    }

    /// Gives up the open requests: after a change of leader they are not answered.
    pub fn ask_again(&mut self) {
        let rounds = self.rounds.drain(..);
        let mut readers: Vec<Reader> = rounds.flat_map(|round| round.readers).collect();
        readers.append(&mut self.waiting);
        self.waiting = readers;
    }

    /// Takes the readers that an answer serves: all that called before its request was sent; none if the request is not open.
    pub fn answered(&mut self, context: ReadContext) -> Vec<Reader> {
        match self.rounds.iter().position(|round| round.context == context) {
            Some(place) => self
                .rounds
                .drain(..=place)
                .flat_map(|round| round.readers)
                .collect(),
            None => Vec::new(),
        }
    }

    /// Takes the readers whose deadline has passed. Discards those whose callers have given up, which would take room from new
    /// ones.
    pub fn expire(&mut self, now: Instant) -> Vec<Reader> {
        let mut all_expired = Vec::new();
        let rounds = self.rounds.iter_mut().map(|round| &mut round.readers);
        for readers in rounds.chain([&mut self.waiting]) {
            readers.retain(|reader| !reader.is_abandoned());
            // Deadlines are in the order of arrival.
            let expired = readers.iter().take_while(|reader| reader.deadline <= now).count();
            all_expired.extend(readers.drain(..expired));
        }
        all_expired
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bound::Bound;
    use crate::env;
    use crate::requests::ReadError;
    use tokio::sync::oneshot;

    fn reader(deadline: Instant) -> (Reader, oneshot::Receiver<Result<(), ReadError>>) {
        bounded_reader(&Bound::new(1), deadline).expect("one fits")
    }

    type Asked = (Reader, oneshot::Receiver<Result<(), ReadError>>);

    fn bounded_reader(bound: &Bound, deadline: Instant) -> Option<Asked> {
        let (answer, receiver) = oneshot::channel();
        let reader = Reader {
            answer,
            deadline,
            _admitted: bound.admit()?,
        };
        Some((reader, receiver))
    }

    #[test]
    fn those_that_wait_here_count_and_those_that_were_given_up_do_not() {
        let now = env::now();
        let (mut reads, bound, deadline) = (Reads::new(9), Bound::new(3), now + Duration::from_secs(9));
        let ask = || bounded_reader(&bound, deadline);
        let (first, stays) = ask().expect("room");
        reads.add(vec![first]);
        // One is asked for, the others come during its round.
        reads.question(now).expect("a question");
        let (second, gone) = ask().expect("room");
        let (third, also_gone) = ask().expect("room");
        reads.add(vec![second, third]);
        assert!(
            ask().is_none(),
            "what the actor has counts like what it has not seen yet"
        );
        drop((gone, also_gone));
        assert!(reads.expire(now).is_empty());
        assert_eq!(bound.admitted(), 1);
        assert_eq!(reads.expire(deadline).len(), 1);
        assert_eq!(bound.admitted(), 0);
        drop(stays);
    }

    #[test]
    fn who_comes_during_a_round_waits_for_the_next() {
        let now = env::now();
        let (mut reads, deadline) = (Reads::new(9), now + Duration::from_secs(9));
        let (first, second) = (reader(deadline), reader(deadline));
        reads.add(vec![first.0]);
        let question = reads.question(now).expect("a question");
        reads.add(vec![second.0]);
        assert_eq!(reads.question(now), None);
        assert_eq!(reads.answered(question).len(), 1);
        assert!(reads.answered(question).is_empty(), "an answer counts once");
        let next = reads.question(now).expect("the next question");
        assert_ne!(next, question);
        assert_eq!(reads.answered(next).len(), 1);
    }

    #[test]
    fn an_unanswered_question_is_followed_by_another_and_both_stay_open() {
        let now = env::now();
        let deadline = now + Duration::from_secs(9);
        for answers in [vec![0, 1], vec![1, 0], vec![1]] {
            let mut reads = Reads::new(9);
            let (first, second, late) = (reader(deadline), reader(deadline), reader(deadline));
            reads.add(vec![first.0]);
            let question = reads.question(now).expect("a question");
            reads.add(vec![second.0]);
            let again = reads
                .question(now + RETRY_AFTER)
                .expect("the question in new words");
            assert_ne!(question, again);
            reads.add(vec![late.0]);
            let (mut served, mut newest) = (0, 0);
            for answer in answers {
                served += reads.answered([question, again][answer]).len();
                newest = newest.max(answer);
                assert_eq!(
                    served,
                    newest + 1,
                    "an answer serves those who came before its question"
                );
            }
            assert_eq!(served, 2);
            let next = reads
                .question(now + RETRY_AFTER)
                .expect("for the one who came late");
            assert_eq!(reads.answered(next).len(), 1);
        }
    }

    #[test]
    fn an_answer_that_always_takes_longer_than_the_next_question_serves() {
        let now = env::now();
        let mut reads = Reads::new(9);
        let mut asked = VecDeque::new();
        let mut served = 0;
        for count in 0..20 {
            let (reader, _) = reader(now + Duration::from_mins(1));
            reads.add(vec![reader]);
            asked.extend(reads.question(now + count * RETRY_AFTER));
            if asked.len() > 3 {
                served += asked
                    .pop_front()
                    .map_or(0, |question| reads.answered(question).len());
            }
        }
        assert_eq!(served, 17);
    }

    #[test]
    fn questions_that_are_never_answered_are_bounded() {
        let now = env::now();
        let mut reads = Reads::new(9);
        let mut last = None;
        for count in 0..3 * READ_ROUNDS_MAX as u32 {
            let (reader, _) = reader(now + Duration::from_mins(1));
            reads.add(vec![reader]);
            last = reads.question(now + count * RETRY_AFTER);
            assert!(reads.rounds.len() <= READ_ROUNDS_MAX);
        }
        let all = reads.answered(last.expect("a question"));
        assert_eq!(all.len(), 3 * READ_ROUNDS_MAX, "nobody is forgotten");
        assert_eq!(reads.question(now + Duration::from_mins(1)), None, "nobody waits");
    }

    #[test]
    fn deadlines_are_kept() {
        let now = env::now();
        let (mut reads, (first, _one), (second, _two)) =
            (Reads::new(9), reader(now), reader(now + RETRY_AFTER));
        reads.add(vec![first]);
        reads.question(now);
        reads.add(vec![second]);
        assert_eq!(reads.expire(now).len(), 1);
        assert_eq!(reads.expire(now + RETRY_AFTER).len(), 1);
    }
}
