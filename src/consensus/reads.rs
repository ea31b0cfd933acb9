//! Linearizable reads in rounds: one question for a read index serves everybody who came before it was asked. While a
//! round is under way, later readers wait for the next one: its index may be older than their call.

use super::core::ReadContext;
use super::handle::Reader;
use crate::env::Instant;
use crate::mutants::{self, Mutant};
use std::time::Duration;

/// After this long the question is asked again, in new words: raft ignores a repeated one, and drops one silently where
/// no leader is known (etcd: `readIndexRetryTime`).
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// Who waits for a read index.
#[derive(Debug)]
pub struct Reads {
    nonce: u64,
    count: u64,
    waiting: Vec<Reader>,
    round: Option<Round>,
}

#[derive(Debug)]
struct Round {
    context: ReadContext,
    readers: Vec<Reader>,
    asked: Instant,
}

impl Reads {
    /// `nonce` is drawn at random by the process.
    pub fn new(nonce: u64) -> Self {
        Self {
            nonce,
            count: 0,
            waiting: Vec::new(),
            round: None,
        }
    }

    pub fn add(&mut self, mut readers: Vec<Reader>) {
        if self.waiting.is_empty() {
            self.waiting = readers;
        } else {
            self.waiting.append(&mut readers);
        }
    }

    /// Whether a question waits for its answer.
    pub fn is_under_way(&self) -> bool {
        self.round.is_some()
    }

    /// The question to ask now, if one is due.
    pub fn question(&mut self, now: Instant) -> Option<ReadContext> {
        if self
            .round
            .as_ref()
            .is_some_and(|round| now < round.asked + RETRY_AFTER)
        {
            return None;
        }
        let reuse = mutants::active(Mutant::ReadIndexReused) && self.round.is_some();
        self.ask_again();
        if self.waiting.is_empty() {
            return None;
        }
        if !reuse {
            self.count += 1;
        }
        let context = ReadContext {
            nonce: self.nonce,
            count: self.count,
        };
        self.round = Some(Round {
            context,
            readers: std::mem::take(&mut self.waiting),
            asked: now,
        });
        Some(context)
    }

    /// Gives up on the question under way: after a change of leader nobody will answer it.
    pub fn ask_again(&mut self) {
        if let Some(mut round) = self.round.take() {
            round.readers.append(&mut self.waiting);
            self.waiting = round.readers;
        }
    }

    /// Who gets the answer to a question; nobody if it is an old one.
    pub fn answered(&mut self, context: ReadContext) -> Vec<Reader> {
        match self.round.take_if(|round| round.context == context) {
            Some(round) => round.readers,
            None => Vec::new(),
        }
    }

    /// Takes out those whose deadline has passed.
    pub fn expire(&mut self, now: Instant) -> Vec<Reader> {
        let mut all_expired = Vec::new();
        let round = self.round.as_mut().map(|round| &mut round.readers);
        for readers in [Some(&mut self.waiting), round].into_iter().flatten() {
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
    use crate::consensus::handle::ReadError;
    use crate::env;
    use tokio::sync::oneshot;

    fn reader(deadline: Instant) -> (Reader, oneshot::Receiver<Result<(), ReadError>>) {
        let (answer, receiver) = oneshot::channel();
        (Reader { answer, deadline }, receiver)
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
    fn an_unanswered_question_is_asked_in_new_words() {
        let now = env::now();
        let (mut reads, deadline) = (Reads::new(9), now + Duration::from_secs(9));
        let (first, second) = (reader(deadline), reader(deadline));
        reads.add(vec![first.0]);
        let question = reads.question(now).expect("a question");
        reads.add(vec![second.0]);
        let again = reads.question(now + RETRY_AFTER).expect("the question again");
        assert_ne!(question, again);
        assert!(
            reads.answered(question).is_empty(),
            "an answer to the old question is of no use"
        );
        assert_eq!(reads.answered(again).len(), 2);
    }

    #[test]
    fn deadlines_are_kept() {
        let now = env::now();
        let (mut reads, (first, _), (second, _)) = (Reads::new(9), reader(now), reader(now + RETRY_AFTER));
        reads.add(vec![first]);
        reads.question(now);
        reads.add(vec![second]);
        assert_eq!(reads.expire(now).len(), 1);
        assert_eq!(reads.expire(now + RETRY_AFTER).len(), 1);
    }
}
