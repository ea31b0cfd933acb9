//! Decides which member answers a question about leases, what the question waits for, and whether it is asked again.
//!
//! They are answered in rounds: one confirmation of leadership, or one call to the leader, serves all questions that came
//! before it began. The lessor keeps the time.

use super::handle::{Answer, AskError, Asked};
use super::lessor::{Lessor, Renewal};
use crate::env::Instant;
use crate::limits::LEASE_FORWARD_MAX;
use crate::proto::log::LeaseCheckpoint;
use std::collections::BTreeMap;

/// See the head of the file.
#[derive(Debug, Default)]
pub(super) struct Questions {
    /// Questions for the next round.
    waiting: Vec<Asked>,
    /// Questions for a round after the next tick.
    later: Vec<Asked>,
    /// Questions that wait until the log changes their lease.
    held: BTreeMap<i64, Vec<Asked>>,
    is_confirming: bool,
    is_forwarding: bool,
}

/// Which member answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answerer {
    /// This member, once a quorum has confirmed that it leads.
    Own,
    /// The leader.
    Leader,
    /// No leader is known.
    Nobody,
}

/// What to do next.
#[derive(Debug)]
pub(super) enum Round {
    Nothing,
    /// Have a quorum confirm that this member leads; then call [`Questions::confirmed`] or [`Questions::not_confirmed`].
    Confirm(Vec<Asked>),
    /// Ask the leader; then call [`Questions::answered`] or [`Questions::not_answered`].
    Forward(Vec<Asked>),
}

/// What follows from a round that this member answers.
#[derive(Debug, Default)]
pub(super) struct Confirmed {
    pub renewed: u64,
    /// Questions about the remaining time of leases.
    pub to_tell: Vec<Asked>,
    /// Checkpoints to clear before their leases can be kept alive.
    pub to_clear: Vec<LeaseCheckpoint>,
}

impl Questions {
    pub fn add(&mut self, asked: Vec<Asked>) {
        self.waiting.extend(asked);
    }

    /// Questions that were put off are due.
    pub fn tick(&mut self) {
        self.waiting.append(&mut self.later);
    }

    /// Repeats the questions that wait for a change of this lease.
    pub fn release(&mut self, id: i64) {
        self.waiting.extend(self.held.remove(&id).into_iter().flatten());
    }

    /// Repeats the questions that wait for a change of any lease.
    pub fn release_all(&mut self) {
        let held = std::mem::take(&mut self.held);
        self.waiting.extend(held.into_values().flatten());
    }

    /// Repeats, after the next tick, the questions that wait for a change of this lease.
    pub fn put_off_held(&mut self, id: i64) {
        self.later.extend(self.held.remove(&id).into_iter().flatten());
    }

    /// Answers questions whose deadline has passed.
    pub fn give_up_late(&mut self, now: Instant, error: AskError) {
        let late = |asked: &mut Asked| asked.deadline <= now;
        let mut all_late: Vec<Asked> = self.waiting.extract_if(.., late).collect();
        for held in self.held.values_mut() {
            all_late.extend(held.extract_if(.., late));
        }
        self.held.retain(|_, held| !held.is_empty());
        for asked in all_late {
            asked.finish(Err(error));
        }
    }

    /// Begins the next round, if there are questions and no round of the same kind is under way.
    pub fn begin_round(&mut self, answerer: Answerer) -> Round {
        if answerer != Answerer::Own {
            for asked in self.waiting.extract_if(.., |asked| asked.forwarded) {
                asked.finish(Err(AskError::NotLeading));
            }
        }
        if self.waiting.is_empty() {
            return Round::Nothing;
        }
        match answerer {
            Answerer::Own if self.is_confirming => Round::Nothing,
            Answerer::Own => {
                self.is_confirming = true;
                Round::Confirm(std::mem::take(&mut self.waiting))
            }
            Answerer::Leader if self.is_forwarding => Round::Nothing,
            Answerer::Leader => {
                self.is_forwarding = true;
                let count = self.waiting.len().min(LEASE_FORWARD_MAX);
                Round::Forward(self.waiting.drain(..count).collect())
            }
            Answerer::Nobody => {
                self.later.append(&mut self.waiting);
                Round::Nothing
            }
        }
    }

    /// A quorum has confirmed that this member leads, and it still does.
    pub fn confirmed(&mut self, all_asked: Vec<Asked>, lessor: &mut Lessor, now_ms: u64) -> Confirmed {
        self.is_confirming = false;
        let mut confirmed = Confirmed::default();
        for asked in all_asked {
            let id = asked.question.id;
            if !asked.question.renew {
                confirmed.to_tell.push(asked);
                continue;
            }
            match lessor.renew(id, now_ms) {
                Renewal::Renewed { ttl } => {
                    confirmed.renewed += 1;
                    asked.finish(Ok(Answer {
                        found: true,
                        ttl,
                        granted_ttl: ttl,
                        ..Answer::default()
                    }));
                }
                Renewal::NotFound => asked.finish(Ok(Answer::default())),
                Renewal::NotLeading => self.later.push(asked),
                Renewal::Expired => self.hold(asked),
                Renewal::Checkpointed => {
                    confirmed.to_clear.extend(lessor.clear_checkpoint(id));
                    self.hold(asked);
                }
            }
        }
        confirmed
    }

    /// This member no longer leads, or could not find out.
    pub fn not_confirmed(&mut self, asked: Vec<Asked>) {
        self.is_confirming = false;
        self.later.extend(asked);
    }

    /// Takes the leader's answers, in the order of the questions.
    pub fn answered(&mut self, asked: Vec<Asked>, answers: Vec<Answer>) {
        self.is_forwarding = false;
        for (asked, answer) in asked.into_iter().zip(answers) {
            if answer.retry {
                self.later.push(asked);
            } else {
                asked.finish(Ok(answer));
            }
        }
    }

    /// The leader has not answered.
    pub fn not_answered(&mut self, asked: Vec<Asked>) {
        self.is_forwarding = false;
        self.later.extend(asked);
    }

    /// Holds a question until the log changes its lease. If another member forwarded it, that member asks again instead.
    fn hold(&mut self, asked: Asked) {
        if asked.forwarded {
            asked.finish(Ok(Answer {
                retry: true,
                ..Answer::default()
            }));
        } else {
            self.held.entry(asked.question.id).or_default().push(asked);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bound::Bound;
    use crate::env;
    use crate::ids::Term;
    use crate::lease::Question;
    use crate::lease::lessor::LessorOptions;
    use crate::state::leases::LeaseChange;
    use crate::storage::state::leases::LeaseRecord;
    use std::time::Duration;
    use tokio::sync::oneshot::Receiver;

    type Answered = Receiver<Result<Answer, AskError>>;

    fn ask(id: i64, renew: bool, forwarded: bool) -> (Asked, Answered) {
        let question = Question {
            id,
            renew,
            keys: false,
        };
        let admitted = Bound::new(1).admit().expect("it is the first");
        Asked::new(question, forwarded, env::now() + Duration::from_secs(1), admitted)
    }

    fn renewal(id: i64) -> (Asked, Answered) {
        ask(id, true, false)
    }

    fn leading_lessor() -> Lessor {
        let mut lessor = Lessor::new(LessorOptions::new(1_000));
        lessor.lead(Some(Term(1)), 0);
        let record = LeaseRecord {
            ttl: 10,
            ..LeaseRecord::default()
        };
        lessor.apply(LeaseChange::Granted { id: 1, record }, 0);
        lessor
    }

    #[test]
    fn one_confirmation_serves_all_that_came_before_it_began() {
        let mut questions = Questions::default();
        let (first, mut first_answer) = renewal(1);
        questions.add(vec![first]);
        let Round::Confirm(asked) = questions.begin_round(Answerer::Own) else {
            panic!("it is asked for");
        };
        let (second, mut second_answer) = renewal(1);
        let (unknown, mut unknown_answer) = renewal(2);
        questions.add(vec![second, unknown]);
        assert!(
            matches!(questions.begin_round(Answerer::Own), Round::Nothing),
            "one is under way, which began before these came"
        );
        let mut lessor = leading_lessor();
        assert_eq!(questions.confirmed(asked, &mut lessor, 1).renewed, 1);
        assert!(matches!(
            first_answer.try_recv(),
            Ok(Ok(Answer {
                found: true,
                ttl: 10,
                ..
            }))
        ));
        assert!(second_answer.try_recv().is_err());
        let Round::Confirm(asked) = questions.begin_round(Answerer::Own) else {
            panic!("now it is their turn");
        };
        questions.confirmed(asked, &mut lessor, 2);
        assert!(second_answer.try_recv().is_ok());
        assert_eq!(unknown_answer.try_recv(), Ok(Ok(Answer::default())));
    }

    #[test]
    fn what_is_not_confirmed_waits_for_the_next_tick() {
        let mut questions = Questions::default();
        let (asked, mut answer) = renewal(1);
        questions.add(vec![asked]);
        let Round::Confirm(asked) = questions.begin_round(Answerer::Own) else {
            panic!("it is asked for");
        };
        questions.not_confirmed(asked);
        assert!(matches!(questions.begin_round(Answerer::Own), Round::Nothing));
        questions.tick();
        assert!(matches!(questions.begin_round(Answerer::Nobody), Round::Nothing));
        questions.tick();
        let Round::Forward(asked) = questions.begin_round(Answerer::Leader) else {
            panic!("there is a leader");
        };
        questions.not_answered(asked);
        questions.tick();
        let Round::Forward(asked) = questions.begin_round(Answerer::Leader) else {
            panic!("it is asked again");
        };
        let retry = Answer {
            retry: true,
            ..Answer::default()
        };
        questions.answered(asked, vec![retry]);
        assert!(answer.try_recv().is_err(), "it is asked again later");
        questions.tick();
        let now = env::now() + Duration::from_secs(2);
        questions.give_up_late(now, AskError::Timeout);
        assert_eq!(answer.try_recv(), Ok(Err(AskError::Timeout)));
    }

    #[test]
    fn an_expired_lease_is_not_renewed_before_the_log_says_what_became_of_it() {
        let mut questions = Questions::default();
        let mut lessor = leading_lessor();
        assert_eq!(lessor.expired(60_000, 9).len(), 1);
        let (own, mut own_answer) = renewal(1);
        let (forwarded, mut forwarded_answer) = ask(1, true, true);
        questions.add(vec![own, forwarded]);
        let Round::Confirm(asked) = questions.begin_round(Answerer::Own) else {
            panic!("it is asked for");
        };
        assert_eq!(questions.confirmed(asked, &mut lessor, 60_000).renewed, 0);
        assert!(matches!(
            forwarded_answer.try_recv(),
            Ok(Ok(Answer { retry: true, .. }))
        ));
        questions.tick();
        assert!(matches!(questions.begin_round(Answerer::Own), Round::Nothing));
        assert!(own_answer.try_recv().is_err());
        lessor.apply(LeaseChange::Revoked { id: 1 }, 60_001);
        questions.release(1);
        let Round::Confirm(asked) = questions.begin_round(Answerer::Own) else {
            panic!("the log has spoken");
        };
        questions.confirmed(asked, &mut lessor, 60_002);
        assert_eq!(own_answer.try_recv(), Ok(Ok(Answer::default())));
    }

    #[test]
    fn who_does_not_lead_does_not_answer_for_others() {
        for answerer in [Answerer::Leader, Answerer::Nobody] {
            let mut questions = Questions::default();
            let (asked, mut answer) = ask(1, true, true);
            questions.add(vec![asked]);
            assert!(matches!(questions.begin_round(answerer), Round::Nothing));
            assert_eq!(answer.try_recv(), Ok(Err(AskError::NotLeading)));
        }
    }
}
