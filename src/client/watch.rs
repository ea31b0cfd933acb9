//! Watching. [`WatchStream`] is one plain stream of the Watch service, with any number of watchers. [`Watcher`] is one watcher
//! that outlives its connection: it resumes behind what it has seen, so that its caller gets every change once and in order, or
//! is told that some were compacted.
//!
//! etcd's own client does the same (client/v3/watch.go).

use super::connection::Channel;
use super::error::{Error, Reason};
use super::requests::Client;
use super::rotation::jittered;
use super::session::Connection;
use crate::env;
use crate::proto::etcdserverpb as pb;
use crate::proto::mvccpb::Event;
use pb::watch_request::RequestUnion;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Request, Status, Streaming};

/// The pauses between attempts to resume after a lost connection.
const RESUME_DELAY_MIN: Duration = Duration::from_millis(10);
const RESUME_DELAY_MAX: Duration = Duration::from_secs(1);

/// One stream. It ends when it is dropped.
#[derive(Debug)]
pub struct WatchStream {
    /// Bounded by its user: one request for each watcher that is created or cancelled.
    requests: mpsc::UnboundedSender<pb::WatchRequest>,
    responses: Streaming<pb::WatchResponse>,
    connection: Arc<Connection>,
}

impl WatchStream {
    /// The next response; none once the server has ended the stream.
    pub async fn next(&mut self) -> Result<Option<pb::WatchResponse>, Status> {
        self.responses.message().await
    }

    /// Requests another watcher.
    pub fn create(&self, request: pb::WatchCreateRequest) {
        self.request(RequestUnion::CreateRequest(request));
    }

    /// Cancels a watcher.
    pub fn cancel(&self, watch_id: i64) {
        self.request(RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id }));
    }

    /// Requests a progress notification for all watchers of the stream.
    pub fn request_progress(&self) {
        self.request(RequestUnion::ProgressRequest(pb::WatchProgressRequest {}));
    }

    fn request(&self, request: RequestUnion) {
        let request = pb::WatchRequest {
            request_union: Some(request),
        };
        // If the stream has ended, `next` reports it.
        let _ = self.requests.send(request);
    }

    /// The connection of the stream.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }
}

impl Client {
    /// Opens a stream with its first watcher. Servers may not reply before the first request.
    pub async fn watch_stream(&self, first: pb::WatchCreateRequest) -> Result<WatchStream, Error> {
        let connection = self.connection().await?;
        let (requests, receiver) = mpsc::unbounded_channel();
        let mut request = Request::new(UnboundedReceiverStream::new(receiver));
        self.add_metadata(request.metadata_mut());
        let channel: Channel = connection.channel.clone();
        let mut service = pb::watch_client::WatchClient::new(channel).max_decoding_message_size(usize::MAX);
        let create = pb::WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(first)),
        };
        let _ = requests.send(create); // the receiver is right here
        let limit = self.timeout();
        let answer = env::timeout(limit, service.watch(request)).await;
        let outcome = match answer {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(Reason::Server(status)),
            Err(env::Elapsed) => Err(Reason::Deadline(limit)),
        };
        match outcome {
            Ok(responses) => Ok(WatchStream {
                requests,
                responses,
                connection,
            }),
            Err(reason) => {
                self.failed(&connection);
                Err(Error::Unavailable(reason))
            }
        }
    }

    /// A watcher that survives lost connections.
    pub fn watcher(&self, request: pb::WatchCreateRequest) -> Watcher {
        Watcher {
            client: self.clone(),
            next_revision: request.start_revision,
            request,
            stream: None,
            attempts: 0,
            resume_at: None,
            fragments: Vec::new(),
        }
    }
}

/// What a watcher receives.
#[derive(Clone, Debug, PartialEq)]
pub enum Watched {
    /// The watcher exists: changes from this revision on follow. Repeated after every lost connection.
    Created { next_revision: i64 },
    /// Whole revisions of changes.
    Events { revision: i64, events: Vec<Event> },
    /// All changes up to this revision have been received.
    Progress { revision: i64 },
    /// The watcher has ended: changes before this revision are compacted.
    Compacted { compact_revision: i64 },
    /// The watcher has ended: the server cancelled it.
    Canceled { reason: String },
}

/// See the head of the file.
#[derive(Debug)]
pub struct Watcher {
    client: Client,
    request: pb::WatchCreateRequest,
    /// 0 until the server has confirmed the start revision.
    next_revision: i64,
    stream: Option<WatchStream>,
    attempts: usize,
    resume_at: Option<env::Instant>,
    fragments: Vec<Event>,
}

impl Watcher {
    /// The next event for this watcher, over any number of connections. Nothing is lost if the future is dropped.
    pub async fn next(&mut self) -> Watched {
        loop {
            if self.stream.is_none() {
                self.open().await;
            }
            let Some(stream) = &mut self.stream else { continue };
            match stream.next().await {
                Ok(Some(response)) => {
                    if let Some(watched) = self.take(response) {
                        return watched;
                    }
                }
                Ok(None) | Err(_) => self.lose_stream(),
            }
        }
    }

    /// Requests a progress notification. It arrives as [`Watched::Progress`], if the server has no more changes for the watcher.
    pub fn request_progress(&self) {
        if let Some(stream) = &self.stream {
            stream.request_progress();
        }
    }

    /// Gives up the connection and continues on another one.
    pub fn lose_stream(&mut self) {
        if let Some(stream) = self.stream.take() {
            self.client.failed(stream.connection());
            self.back_off();
        }
    }

    fn back_off(&mut self) {
        let delay = jittered(
            RESUME_DELAY_MIN,
            RESUME_DELAY_MAX,
            self.attempts,
            env::random_u64(),
        );
        self.resume_at = Some(env::now() + delay);
        self.attempts += 1;
    }

    async fn open(&mut self) {
        // The deadline is kept, so that a caller that drops the future and calls again does not wait from the start.
        if let Some(resume_at) = self.resume_at {
            env::sleep_until(resume_at).await;
        }
        // An incomplete revision will be sent again as a whole.
        self.fragments.clear();
        let request = pb::WatchCreateRequest {
            start_revision: self.next_revision,
            ..self.request.clone()
        };
        self.stream = self.client.watch_stream(request).await.ok();
        if self.stream.is_none() {
            self.back_off();
        }
    }

    fn take(&mut self, response: pb::WatchResponse) -> Option<Watched> {
        let revision = response.header.unwrap_or_default().revision;
        if response.canceled {
            self.stream = None;
            return Some(if response.compact_revision != 0 {
                Watched::Compacted {
                    compact_revision: response.compact_revision,
                }
            } else {
                Watched::Canceled {
                    reason: response.cancel_reason,
                }
            });
        }
        if response.created {
            self.attempts = 0;
            self.resume_at = None;
            if self.next_revision == 0 {
                self.next_revision = revision + 1;
            }
            return Some(Watched::Created {
                next_revision: self.next_revision,
            });
        }
        if response.events.is_empty() {
            self.next_revision = self.next_revision.max(revision + 1);
            return Some(Watched::Progress { revision });
        }
        self.fragments.extend(response.events);
        if response.fragment {
            return None;
        }
        let events = std::mem::take(&mut self.fragments);
        let last = events.last().and_then(|event| event.kv.as_ref());
        self.next_revision = last.map_or(self.next_revision, |kv| kv.mod_revision + 1);
        Some(Watched::Events { revision, events })
    }
}
