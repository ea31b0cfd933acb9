//! Answers on their way to the requests that wait for them. The applier and the consensus actor answer many requests at
//! once, from threads of their own; waking each request from there would wake the network thread as many times. So
//! answers are queued, and one task on the network thread hands them out: one wake-up per batch. In the other
//! direction, the same task wakes the consensus actor once for all requests that arrived together.

use super::errors::{ProposeError, ReadError};
use super::reader::Reader;
use super::sink::RequestSink;
use crate::env;
use crate::state::Outcome;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Notify, oneshot};

/// What a proposal is answered.
pub type Answer = Result<Outcome, ProposeError>;

/// One answer. Whoever asked may have gone: then it is dropped.
#[derive(Debug)]
pub enum Delivery {
    Proposal(oneshot::Sender<Answer>, Answer),
    Read(Reader, Result<(), ReadError>),
}

/// The queue of answers. Its bound is that of the requests that wait.
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

    /// The same answer for many readers.
    pub fn answer_reads(&self, readers: Vec<Reader>, outcome: Result<(), ReadError>) {
        self.extend(readers.into_iter().map(|reader| Delivery::Read(reader, outcome)));
    }

    /// Says that the consensus actor's inbox holds something and nobody has woken it.
    pub fn request_wake(&self) {
        self.notify.notify_one();
    }

    fn take(&self) -> Vec<Delivery> {
        std::mem::take(&mut self.queue.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Hands out answers and passes wake-ups on, for ever. To be spawned where the requests run.
    pub async fn run(self: Arc<Self>, sink: Arc<dyn RequestSink>) {
        loop {
            self.notify.notified().await;
            for delivery in self.take() {
                match delivery {
                    Delivery::Proposal(asked, answer) => drop(asked.send(answer)),
                    Delivery::Read(reader, outcome) => reader.finish(outcome),
                }
            }
            // The requests that became ready together run first, so that one wake-up serves all of them.
            env::yield_now().await;
            sink.wake();
        }
    }
}
