//! The Watch service: one task reads a stream's requests and passes them to the hub; the body of the reply sends what the hub has
//! put into the stream's outbox.
//!
//! Mirrors etcd's server/etcdserver/api/v3rpc/watch.go. Responses are written directly into chunks of the body: a head of some
//! forty bytes each, then the events, which are already encoded.

use super::backend::Backend;
use super::body::{Body, PREFIX_BYTES, put_prefix};
use super::grpc::{Reading, RequestBody, Requests};
use super::status::EtcdError;
use crate::env;
use crate::limits::sizes;
use crate::proto::etcdserverpb::watch_create_request::FilterType;
use crate::proto::etcdserverpb::watch_request::RequestUnion;
use crate::proto::etcdserverpb::{ResponseHeader, WatchCreateRequest, WatchRequest, WatchResponse};
use crate::requests::Caller;
use crate::watch::{
    Create, Ending, Message, OpenedStream, Outbox, Request, StreamId, Taken, Wants, WatchHandle, WatchedKeys,
};
use ::http::HeaderMap;
use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use prost::Message as _;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tonic::Status;

/// Opens a stream. `headers` are those of the call.
pub fn watch<B: Backend>(
    backend: &B,
    caller: &Caller,
    headers: &HeaderMap,
    body: impl RequestBody + 'static,
    reading: &Reading,
) -> Body {
    let hub = backend.watches().clone();
    let stream = hub.next_stream();
    let outbox = Arc::new(Outbox::new(Arc::clone(&backend.metrics().watch)));
    hub.request(
        stream,
        Request::Open(OpenedStream {
            outbox: Arc::clone(&outbox),
            require_leader: super::grpc::requires_leader(headers),
            permission: backend.watch_permission(caller),
            progress_due_ms: 0,
        }),
    );
    let receiver = Receiver {
        hub: hub.clone(),
        stream,
        outbox: Arc::clone(&outbox),
    };
    env::spawn(receiver.run(Requests::new(body, reading.clone())));
    Body::messages(Box::pin(Replies {
        backend: backend.clone(),
        hub,
        stream,
        outbox,
        chunks: VecDeque::new(),
    }))
}

/// Reads the requests of a stream until the client has no more. The stream itself continues.
struct Receiver {
    hub: WatchHandle,
    stream: StreamId,
    outbox: Arc<Outbox>,
}

impl Receiver {
    async fn run(self, mut requests: Requests<impl RequestBody>) {
        loop {
            // Backpressure: no further request is read while the client does not take responses.
            std::future::poll_fn(|context| self.outbox.poll_room(context, 2 * sizes().watch_outbox_bytes))
                .await;
            match requests.next::<WatchRequest>().await {
                Ok(Some(request)) => self.handle(request).await,
                Ok(None) => return,
                Err(status) => {
                    tracing::debug!(%status, "failed to receive watch request from gRPC stream");
                    return self
                        .outbox
                        .end(Ending::BadRequest(status.code(), status.message().into()));
                }
            }
        }
    }

    async fn handle(&self, request: WatchRequest) {
        let request = match request.request_union {
            Some(RequestUnion::CreateRequest(create)) => Request::Create(creation(create)),
            Some(RequestUnion::CancelRequest(cancel)) => Request::Cancel(cancel.watch_id),
            Some(RequestUnion::ProgressRequest(_)) => Request::Progress,
            // etcd ignores unknown requests.
            None => return,
        };
        self.hub.request_in_turn(self.stream, request).await;
    }
}

fn creation(request: WatchCreateRequest) -> Create {
    let filtered = |kind: FilterType| request.filters.contains(&(kind as i32));
    Create {
        watch_id: request.watch_id,
        keys: WatchedKeys::new(&request.key, &request.range_end),
        start_revision: request.start_revision,
        wants: Wants {
            puts: !filtered(FilterType::Noput),
            deletes: !filtered(FilterType::Nodelete),
            previous: request.prev_kv,
        },
        progress_notify: request.progress_notify,
        fragment: request.fragment,
    }
}

/// The replies of a stream, framed.
struct Replies<B> {
    backend: B,
    hub: WatchHandle,
    stream: StreamId,
    outbox: Arc<Outbox>,
    chunks: VecDeque<Result<Bytes, Status>>,
}

// Contains nothing that must stay pinned.
impl<B> Unpin for Replies<B> {}

impl<B> Drop for Replies<B> {
    fn drop(&mut self) {
        self.hub.request(self.stream, Request::Close);
    }
}

impl<B: Backend> Stream for Replies<B> {
    type Item = Result<Bytes, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(chunk) = self.chunks.pop_front() {
            return Poll::Ready(Some(chunk));
        }
        match ready!(self.outbox.poll_take(context, sizes().watch_chunk_bytes)) {
            Taken::Messages { messages, drained } => {
                if drained {
                    self.hub.request(self.stream, Request::Drained);
                }
                let header = super::backend::header(&self.backend, 0);
                self.chunks = chunks(messages, &header).into();
                Poll::Ready(self.chunks.pop_front())
            }
            Taken::Ended(ending) => Poll::Ready(Some(Err(status(&ending)))),
        }
    }
}

/// The end of a stream without watchers, as a status for its client.
pub(super) fn poll_end<T>(
    stream: &crate::watch::HubStream,
    context: &mut Context<'_>,
) -> Poll<Option<Result<T, Status>>> {
    stream
        .poll_ended(context)
        .map(|ending| Some(Err(status(&ending))))
}

/// The status at the end of a stream.
fn status(ending: &Ending) -> Status {
    match ending {
        Ending::NoLeader => EtcdError::NoLeader.into(),
        Ending::TooMany => EtcdError::TooManyRequests.into(),
        Ending::Stopped => EtcdError::Stopped.into(),
        Ending::BadRequest(code, text) => Status::new(*code, text.as_ref()),
    }
}

/// Messages in as few pieces as possible. Large events are sent without a copy. A message that is too large for gRPC ends the
/// stream.
fn chunks(messages: Vec<Message>, header: &ResponseHeader) -> Vec<Result<Bytes, Status>> {
    let mut chunks = vec![];
    let mut buffer = BytesMut::with_capacity(messages.iter().map(copied_bytes).sum());
    for message in messages {
        let (head, events) = match message {
            Message::Events {
                watch_id,
                revision,
                fragment,
                events,
                ..
            } => (
                WatchResponse {
                    header: Some(ResponseHeader { revision, ..*header }),
                    watch_id,
                    fragment,
                    ..WatchResponse::default()
                },
                events,
            ),
            Message::Control(mut response) => {
                let revision = response.header.unwrap_or_default().revision;
                response.header = Some(ResponseHeader { revision, ..*header });
                (*response, Bytes::new())
            }
        };
        if let Err(status) = put_prefix(&mut buffer, head.encoded_len() + events.len()) {
            chunks.extend([Ok(buffer.freeze()), Err(status)]);
            return chunks;
        }
        head.encode(&mut buffer).expect("a buffer grows");
        if events.len() < sizes().watch_chunk_bytes {
            buffer.extend_from_slice(&events);
        } else {
            chunks.extend([Ok(buffer.split().freeze()), Ok(events)]);
        }
    }
    if !buffer.is_empty() {
        chunks.push(Ok(buffer.freeze()));
    }
    chunks
}

fn copied_bytes(message: &Message) -> usize {
    let bytes = message.bytes() + PREFIX_BYTES;
    if bytes < sizes().watch_chunk_bytes {
        bytes
    } else {
        128
    }
}
