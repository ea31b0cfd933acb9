//! The requests that wait for the outcome of their commands, and the bytes of those commands. IDs count up, so a ring finds a
//! waiter without hashing, and the oldest deadline is at the front.

use super::deliveries::{Answer, Delivery};
use super::errors::ProposeError;
use crate::env::Instant;
use crate::state::Reply;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

/// The waiting proposals of one process.
#[derive(Debug, Default)]
pub struct Waiters {
    inner: Mutex<Ring>,
}

#[derive(Debug, Default)]
struct Ring {
    /// The ID of the first place.
    base: u64,
    /// From the oldest waiting command to the newest. Places of answered commands in between are bounded by what a member
    /// answers within one request timeout, after which the oldest command is removed.
    places: VecDeque<Option<Waiter>>,
    waiting: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Waiter {
    answer: oneshot::Sender<Answer>,
    bytes: usize,
    deadline: Instant,
    /// The leader failed meanwhile, which the error then says.
    leader_failed: bool,
}

/// How many commands may wait, and how many bytes; beyond that a new command is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitingMax {
    pub commands: usize,
    pub bytes: usize,
}

impl WaitingMax {
    /// For the member's own commands, whose number the member itself bounds.
    pub const NONE: Self = Self {
        commands: usize::MAX,
        bytes: usize::MAX,
    };
}

impl Waiters {
    /// Takes the next ID for a command of `bytes`, unless too much waits already.
    pub fn register(
        &self,
        deadline: Instant,
        bytes: usize,
        max: WaitingMax,
    ) -> Option<(u64, oneshot::Receiver<Answer>)> {
        let mut ring = self.lock();
        if ring.waiting >= max.commands || ring.bytes >= max.bytes {
            return None;
        }
        ring.bytes += bytes;
        let (answer, receiver) = oneshot::channel();
        let id = ring.base + ring.places.len() as u64;
        ring.places.push_back(Some(Waiter {
            answer,
            bytes,
            deadline,
            leader_failed: false,
        }));
        ring.waiting += 1;
        Some((id, receiver))
    }

    /// Returns the answers to commands that were applied here.
    pub fn complete(&self, replies: Vec<Reply>) -> Vec<Delivery> {
        let mut ring = self.lock();
        let answered = replies.into_iter().filter_map(|reply| {
            let waiter = ring.remove(reply.id)?;
            Some(Delivery::Proposal(
                waiter.answer,
                reply.outcome.map_err(ProposeError::Apply),
            ))
        });
        answered.collect()
    }

    /// The leader has changed: the outcome of commands in flight becomes known within `patience` or never.
    pub fn leader_failed(&self, now: Instant, patience: Duration) {
        for waiter in self.lock().places.iter_mut().flatten() {
            waiter.deadline = waiter.deadline.min(now + patience);
            waiter.leader_failed = true;
        }
    }

    /// Takes the commands whose deadline has passed, with their answers.
    pub fn expire(&self, now: Instant) -> Vec<Delivery> {
        let mut expired = Vec::new();
        let mut ring = self.lock();
        while let Some(Some(waiter)) = ring.places.front() {
            if waiter.deadline > now {
                break;
            }
            let id = ring.base;
            expired.extend(ring.remove(id));
        }
        drop(ring);
        let answer = |waiter: Waiter| {
            let error = if waiter.leader_failed {
                ProposeError::TimeoutLeaderFailure
            } else {
                ProposeError::Timeout
            };
            Delivery::Proposal(waiter.answer, Err(error))
        };
        expired.into_iter().map(answer).collect()
    }

    /// Whether a caller still waits for this command.
    pub fn is_waiting(&self, id: u64) -> bool {
        let ring = self.lock();
        let place = id
            .checked_sub(ring.base)
            .and_then(|place| usize::try_from(place).ok());
        let waiter = place.and_then(|place| ring.places.get(place)?.as_ref());
        waiter.is_some_and(|waiter| !waiter.answer.is_closed())
    }

    pub fn waiting(&self) -> usize {
        self.lock().waiting
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Ring> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    fn remove(&mut self, id: u64) -> Option<Waiter> {
        let place = usize::try_from(id.checked_sub(self.base)?).ok()?;
        let waiter = self.places.get_mut(place)?.take()?;
        self.waiting -= 1;
        self.bytes -= waiter.bytes;
        while matches!(self.places.front(), Some(None)) {
            self.places.pop_front();
            self.base += 1;
        }
        Some(waiter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env;
    use crate::state::Outcome;

    fn reply(id: u64) -> Reply {
        Reply {
            id,
            outcome: Ok(Outcome::Done),
        }
    }

    fn deliver(deliveries: Vec<Delivery>) {
        for delivery in deliveries {
            match delivery {
                Delivery::Proposal(asked, answer) => drop(asked.send(answer)),
                Delivery::Read(reader, outcome) => reader.finish(outcome),
            }
        }
    }

    #[test]
    fn answers_find_their_waiters_in_any_order() {
        let waiters = Waiters::default();
        let deadline = env::now() + Duration::from_mins(1);
        let max = WaitingMax {
            commands: 5,
            bytes: usize::MAX,
        };
        let mut receivers: Vec<_> = (0..5)
            .filter_map(|_| waiters.register(deadline, 7, max))
            .collect();
        assert!(
            waiters.register(deadline, 7, max).is_none(),
            "a sixth may not wait"
        );
        deliver(waiters.complete(vec![reply(3), reply(0), reply(99)]));
        deliver(waiters.complete(vec![reply(3)]));
        assert_eq!(waiters.waiting(), 3);
        for (id, receiver) in &mut receivers {
            assert_eq!(receiver.try_recv().is_ok(), *id == 0 || *id == 3);
        }
        let (id, _receiver) = waiters.register(deadline, 7, max).expect("there is room again");
        assert_eq!(id, 5);
    }

    #[test]
    fn whoever_has_gone_or_was_answered_does_not_wait() {
        let waiters = Waiters::default();
        let deadline = env::now() + Duration::from_mins(1);
        let register = || waiters.register(deadline, 1, WaitingMax::NONE).expect("room");
        let (answered, _one) = register();
        let (gone, receiver) = register();
        let (waiting, _three) = register();
        deliver(waiters.complete(vec![reply(answered)]));
        drop(receiver);
        let found = [answered, gone, waiting, waiting + 1, u64::MAX].map(|id| waiters.is_waiting(id));
        assert_eq!(found, [false, false, true, false, false]);
    }

    #[test]
    fn what_waits_is_bounded_in_bytes_until_it_is_answered_or_expires() {
        let waiters = Waiters::default();
        let now = env::now();
        let max = WaitingMax {
            commands: usize::MAX,
            bytes: 10,
        };
        let register = || waiters.register(now, 6, max);
        let (first, _one) = register().expect("room");
        let (_, _two) = register().expect("what is there counts, not what comes");
        assert!(register().is_none());
        let (_, _own) = waiters
            .register(now, 100, WaitingMax::NONE)
            .expect("the member's own commands go on");
        drop(waiters.complete(vec![reply(first)]));
        assert!(register().is_none(), "its own count for others");
        drop(waiters.expire(now));
        assert_eq!((waiters.waiting(), waiters.lock().bytes), (0, 0));
        assert!(register().is_some());
    }

    #[test]
    fn deadlines_are_kept_and_shortened_by_a_leader_failure() {
        let waiters = Waiters::default();
        let now = env::now();
        let (_, mut first) = waiters.register(now, 1, WaitingMax::NONE).expect("room");
        let (_, mut second) = waiters
            .register(now + Duration::from_mins(1), 1, WaitingMax::NONE)
            .expect("room");
        deliver(waiters.expire(now));
        assert!(matches!(first.try_recv(), Ok(Err(ProposeError::Timeout))));
        assert!(second.try_recv().is_err());
        waiters.leader_failed(now, Duration::from_secs(1));
        deliver(waiters.expire(now + Duration::from_secs(1)));
        assert!(matches!(
            second.try_recv(),
            Ok(Err(ProposeError::TimeoutLeaderFailure))
        ));
    }
}
