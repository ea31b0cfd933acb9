//! Messages from the hub for one stream, until the stream's own task sends them.
//!
//! The hub adds to an outbox once per batch, under a short lock and with at most one wake-up. The stream takes as much as the
//! network accepts. Events are shared between streams, so many slow streams hold them once.

use crate::metrics::WatchMetrics;
use crate::proto::etcdserverpb::WatchResponse;
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// The bytes of a message besides its events: the struct, and its head on the wire.
const MESSAGE_BYTES: usize = 96;
/// Capacity that an emptied outbox keeps.
const MESSAGES_KEPT: usize = 16;

/// One response.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// Encoded events of one watcher.
    Events {
        watch_id: i64,
        /// The revision in the header.
        revision: i64,
        /// More of the same revision follows.
        fragment: bool,
        /// The number of events.
        count: usize,
        events: Bytes,
    },
    /// Anything without events; its header holds the revision alone.
    Control(Box<WatchResponse>),
}

impl Message {
    fn events(&self) -> usize {
        match self {
            Self::Events { count, .. } => *count,
            Self::Control(_) => 0,
        }
    }

    pub fn bytes(&self) -> usize {
        match self {
            Self::Events { events, .. } => MESSAGE_BYTES + events.len(),
            Self::Control(response) => MESSAGE_BYTES + response.cancel_reason.len(),
        }
    }
}

/// Why the server ends a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The member has no leader, and the client required one.
    NoLeader,
    /// The member has reached its limit of streams.
    TooMany,
    /// The member stops.
    Stopped,
    /// The client sent something that cannot be decoded; code and text of the status.
    BadRequest(tonic::Code, Box<str>),
}

/// See the head of the file.
#[derive(Debug, Default)]
pub struct Outbox {
    inner: Mutex<OutboxState>,
    metrics: Arc<WatchMetrics>,
}

#[derive(Debug, Default)]
struct OutboxState {
    messages: VecDeque<Message>,
    bytes: usize,
    /// The hub wants to know when no more than this many bytes are left.
    low_water: Option<usize>,
    ending: Option<Ending>,
    sender: Option<Waker>,
    /// Wakes the task that waits for room before it accepts more requests.
    receiver: Option<Waker>,
}

/// What a stream has taken out.
#[derive(Debug, PartialEq)]
pub enum Taken {
    Messages {
        messages: Vec<Message>,
        /// The hub asked to be told that there is room again.
        drained: bool,
    },
    Ended(Ending),
}

impl Outbox {
    pub fn new(metrics: Arc<WatchMetrics>) -> Self {
        Self {
            inner: Mutex::default(),
            metrics,
        }
    }

    /// Adds messages. Returns the number of bytes that wait now.
    pub fn push(&self, messages: &mut Vec<Message>) -> usize {
        let events: usize = messages.iter().map(Message::events).sum();
        self.metrics.pending_events.add(events as i64);
        let mut inner = self.lock();
        for message in messages.drain(..) {
            inner.bytes += message.bytes();
            inner.messages.push_back(message);
        }
        let bytes = inner.bytes;
        let sender = inner.sender.take();
        drop(inner);
        wake(sender);
        bytes
    }

    /// Asks for a report when no more than `low_water` bytes are left; false if that is so already.
    pub fn call_when_drained(&self, low_water: usize) -> bool {
        let mut inner = self.lock();
        let waits = inner.bytes > low_water;
        inner.low_water = waits.then_some(low_water);
        waits
    }

    pub fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// Ends the stream once all messages are taken.
    pub fn end(&self, ending: Ending) {
        let mut inner = self.lock();
        inner.ending.get_or_insert(ending);
        let wakers = [inner.sender.take(), inner.receiver.take()];
        drop(inner);
        wakers.into_iter().for_each(wake);
    }

    /// Takes about `bytes_max` of messages, but at least one message.
    pub fn poll_take(&self, context: &mut Context<'_>, bytes_max: usize) -> Poll<Taken> {
        let mut inner = self.lock();
        if inner.messages.is_empty() {
            if let Some(ending) = &inner.ending {
                return Poll::Ready(Taken::Ended(ending.clone()));
            }
            inner.sender = Some(context.waker().clone());
            return Poll::Pending;
        }
        let mut messages = vec![];
        let mut taken_bytes = 0;
        while let Some(next) = inner.messages.front()
            && (messages.is_empty() || taken_bytes + next.bytes() <= bytes_max)
        {
            taken_bytes += next.bytes();
            messages.extend(inner.messages.pop_front());
        }
        inner.bytes -= taken_bytes;
        if inner.messages.is_empty() && inner.messages.capacity() > MESSAGES_KEPT {
            inner.messages = VecDeque::new();
        }
        let left = inner.bytes;
        let drained = inner.low_water.take_if(|low_water| left <= *low_water).is_some();
        let receiver = inner.receiver.take();
        drop(inner);
        let events: usize = messages.iter().map(Message::events).sum();
        self.metrics.pending_events.sub(events as i64);
        self.metrics.events.inc_by(events as u64);
        wake(receiver);
        Poll::Ready(Taken::Messages { messages, drained })
    }

    /// Ready when less than `bytes_max` wait to be sent, or the stream has ended.
    pub fn poll_room(&self, context: &mut Context<'_>, bytes_max: usize) -> Poll<()> {
        let mut inner = self.lock();
        if inner.bytes < bytes_max || inner.ending.is_some() {
            return Poll::Ready(());
        }
        inner.receiver = Some(context.waker().clone());
        Poll::Pending
    }

    fn lock(&self) -> MutexGuard<'_, OutboxState> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Outbox {
    /// Messages that are left here will never be sent.
    fn drop(&mut self) {
        let events: usize = self.lock().messages.iter().map(Message::events).sum();
        self.metrics.pending_events.sub(events as i64);
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}
