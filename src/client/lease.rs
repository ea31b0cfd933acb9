//! Keeping leases alive: one stream, for any number of leases.

use super::connection::Channel;
use super::error::{Error, Reason};
use super::requests::Client;
use super::session::Connection;
use crate::env;
use crate::proto::etcdserverpb as pb;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Request, Status, Streaming};

/// Interval between attempts to keep a lease alive.
const RETRY_AFTER: Duration = Duration::from_millis(50);

/// One stream of the Lease service. It ends when it is dropped.
#[derive(Debug)]
pub struct KeepAliveStream {
    /// Bounded by its user, which knows the number of leases and asks for each at intervals.
    requests: mpsc::UnboundedSender<pb::LeaseKeepAliveRequest>,
    responses: Streaming<pb::LeaseKeepAliveResponse>,
    connection: Arc<Connection>,
}

impl KeepAliveStream {
    pub fn ask(&self, id: i64) {
        // If the stream has ended, `next` reports it.
        let _ = self.requests.send(pb::LeaseKeepAliveRequest { id });
    }

    /// The next reply, in the order of the requests; an expired lease has a TTL of 0. None once the server has ended the stream.
    pub async fn next(&mut self) -> Result<Option<pb::LeaseKeepAliveResponse>, Status> {
        self.responses.message().await
    }

    /// The connection of the stream.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }
}

impl Client {
    /// Opens a stream with a request for its first lease.
    pub async fn keep_alive_stream(&self, first: i64) -> Result<KeepAliveStream, Error> {
        let connection = self.connection().await?;
        let (requests, receiver) = mpsc::unbounded_channel();
        let mut request = Request::new(UnboundedReceiverStream::new(receiver));
        self.add_metadata(request.metadata_mut());
        let channel: Channel = connection.channel.clone();
        let mut service = pb::lease_client::LeaseClient::new(channel);
        let _ = requests.send(pb::LeaseKeepAliveRequest { id: first }); // the receiver is right here
        let limit = self.timeout();
        let reason = match env::timeout(limit, service.lease_keep_alive(request)).await {
            Ok(Ok(answer)) => {
                return Ok(KeepAliveStream {
                    requests,
                    responses: answer.into_inner(),
                    connection,
                });
            }
            Ok(Err(status)) => Reason::Server(status),
            Err(env::Elapsed) => Reason::Deadline(limit),
        };
        self.failed(&connection);
        Err(Error::Unavailable(reason))
    }

    /// Keeps a lease alive once. Returns its TTL in seconds, or 0 if it does not exist. Retried on other connections until the
    /// deadline, since a repeated keep-alive does no harm.
    pub async fn keep_alive_once(&self, id: i64) -> Result<i64, Error> {
        let limit = self.timeout();
        let attempts = async {
            loop {
                let Ok(mut stream) = self.keep_alive_stream(id).await else {
                    env::sleep(RETRY_AFTER).await;
                    continue;
                };
                if let Ok(Some(answer)) = stream.next().await {
                    return answer.ttl;
                }
                self.failed(stream.connection());
                env::sleep(RETRY_AFTER).await;
            }
        };
        let outcome = env::timeout(limit, attempts).await;
        outcome.map_err(|env::Elapsed| Error::Unavailable(Reason::Deadline(limit)))
    }
}
