//! Answers on their way to the requests that wait for them. The applier and the consensus actor answer many requests at once,
//! on their own threads; waking each request from there would wake the network thread as many times. So answers are queued,
//! and one task on the network thread hands them out: one wake-up per batch. The same task wakes the consensus actor, once for
//! all requests that arrived together.

use super::errors::{ProposeError, ReadError};
use super::reader::Reader;
use super::sink::RequestSink;
use crate::env;
use crate::state::Outcome;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Notify, oneshot};

/// The answer to a proposal.
pub type Answer = Result<Outcome, ProposeError>;

/// One answer. It is dropped if the caller has stopped waiting.
#[derive(Debug)]
pub enum Delivery {
    Proposal(oneshot::Sender<Answer>, Answer),
    Read(Reader, Result<(), ReadError>),
}

/// The queue of answers. It is bounded by the number of waiting requests.
#[derive(Debug, Default)]
pub struct Deliveries {
    queue: Mutex<Vec<Delivery>>,
    notify: Notify,
}

impl Deliveries {
    pub fn extend(&self, deliveries: impl IntoIterator<Item = Delivery>) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let before = queue.len();
        queue.extend(deliveries);
        let first = before == 0 && !queue.is_empty();
        drop(queue);
        if first {
            self.notify.notify_one();
        }
    }

    /// Gives the same answer to many readers.
    pub fn answer_reads(&self, readers: Vec<Reader>, outcome: Result<(), ReadError>) {
        self.extend(readers.into_iter().map(|reader| Delivery::Read(reader, outcome)));
    }

    /// Asks for a wake-up of the consensus actor, whose inbox holds requests that it was not woken for.
    pub fn request_wake(&self) {
        self.notify.notify_one();
    }

    fn take(&self) -> Vec<Delivery> {
        std::mem::take(&mut self.queue.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Hands out answers and passes on wake-ups, for ever. To be spawned where the requests run.
    pub async fn run(self: Arc<Self>, sink: Arc<dyn RequestSink>) {
        loop {
            self.notify.notified().await;
            for delivery in self.take() {
                match delivery {
                    Delivery::Proposal(asked, answer) => drop(asked.send(answer)),
                    Delivery::Read(reader, outcome) => reader.finish(outcome),
                }
            }
            // Other requests that are ready run first, so that one wake-up serves all of them.
            env::yield_now().await;
            sink.wake();
        }
    }
}
