//! Streams of the hub for use inside the member: one follows keys, and one only tells when a stream that its client would leave
//! open has to end.
//!
//! Neither accumulates changes: while its outbox is full, the hub parks the watcher and reads from the disk later.

use super::handle::{Request, WatchHandle};
use super::hub::{Create, OpenedStream, StreamId};
use super::outbox::{Ending, Message, Outbox, Taken};
use crate::limits::sizes;
use crate::proto::etcdserverpb::WatchResponse;
use crate::proto::mvccpb::Event;
use prost::Message as _;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

/// Why following has ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FollowError {
    /// The next changes have been compacted.
    #[error("required revision has been compacted")]
    Compacted,
    /// The hub refuses the watcher; its error text.
    #[error("{0}")]
    Refused(String),
    #[error("the stream has ended: {0:?}")]
    Ended(Ending),
}

/// A stream of the hub. It is closed when this is dropped.
#[derive(Debug)]
pub struct HubStream {
    hub: WatchHandle,
    id: StreamId,
    outbox: Arc<Outbox>,
}

impl HubStream {
    /// With `require_leader`, the stream ends after some time without a leader.
    pub fn open(hub: &WatchHandle, require_leader: bool) -> Self {
        let stream = Self {
            hub: hub.clone(),
            id: hub.next_stream(),
            outbox: Arc::default(),
        };
        stream.request(Request::Open(OpenedStream {
            outbox: Arc::clone(&stream.outbox),
            require_leader,
            permission: None,
            progress_due_ms: 0,
        }));
        stream
    }

    /// Ready when the stream has to end. For streams without watchers only.
    pub fn poll_ended(&self, context: &mut Context<'_>) -> Poll<Ending> {
        match self.outbox.poll_take(context, sizes().watch_chunk_bytes) {
            Poll::Ready(Taken::Ended(ending)) => Poll::Ready(ending),
            Poll::Ready(Taken::Messages { .. }) => unreachable!("there are no watchers"),
            Poll::Pending => Poll::Pending,
        }
    }

    fn request(&self, request: Request) {
        self.hub.request(self.id, request);
    }
}

impl Drop for HubStream {
    fn drop(&mut self) {
        self.request(Request::Close);
    }
}

/// Changes that arrived together.
#[derive(Clone, Debug, PartialEq)]
pub struct Followed {
    /// The store's revision when they were sent.
    pub revision: i64,
    pub events: Vec<Event>,
}

/// One watcher on a stream of its own.
#[derive(Debug)]
pub struct Following {
    stream: HubStream,
    waiting: VecDeque<Message>,
}

impl Following {
    pub fn start(hub: &WatchHandle, create: Create, require_leader: bool) -> Self {
        let stream = HubStream::open(hub, require_leader);
        stream.request(Request::Create(create));
        Self {
            stream,
            waiting: VecDeque::new(),
        }
    }

    /// The next changes, without a gap. Nothing is lost if the future is dropped.
    pub async fn next(&mut self) -> Result<Followed, FollowError> {
        loop {
            while let Some(message) = self.waiting.pop_front() {
                if let Some(followed) = read(message)? {
                    return Ok(followed);
                }
            }
            match poll_fn(|context| self.stream.outbox.poll_take(context, sizes().watch_chunk_bytes)).await {
                Taken::Messages { messages, drained } => {
                    if drained {
                        self.stream.request(Request::Drained);
                    }
                    self.waiting.extend(messages);
                }
                Taken::Ended(ending) => return Err(FollowError::Ended(ending)),
            }
        }
    }
}

/// None if the message only confirms the watcher.
fn read(message: Message) -> Result<Option<Followed>, FollowError> {
    match message {
        Message::Events { revision, events, .. } => {
            let response = WatchResponse::decode(events).expect("the hub has encoded it");
            Ok(Some(Followed {
                revision,
                events: response.events,
            }))
        }
        Message::Control(response) if response.compact_revision != 0 => Err(FollowError::Compacted),
        Message::Control(response) if response.canceled => Err(FollowError::Refused(response.cancel_reason)),
        Message::Control(_) => Ok(None),
    }
}
