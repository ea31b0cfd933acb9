//! Observing elections: one stream, as the server sends it.

use super::connection::Channel;
use super::error::{Error, Reason};
use super::requests::Client;
use super::session::Connection;
use crate::env;
use crate::proto::v3electionpb::election_client::ElectionClient;
use crate::proto::v3electionpb::{LeaderRequest, LeaderResponse};
use bytes::Bytes;
use std::sync::Arc;
use tonic::{Request, Status, Streaming};

/// One stream of the Election service. It ends when it is dropped.
#[derive(Debug)]
pub struct ObserveStream {
    responses: Streaming<LeaderResponse>,
    connection: Arc<Connection>,
}

impl ObserveStream {
    /// The leader and its proclamation: first the current one, then each change; none once the server has ended the stream.
    pub async fn next(&mut self) -> Result<Option<LeaderResponse>, Status> {
        self.responses.message().await
    }

    /// The connection of the stream.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }
}

impl Client {
    /// Observes the election of this name.
    pub async fn observe(&self, name: Bytes) -> Result<ObserveStream, Error> {
        let connection = self.connection().await?;
        let mut request = Request::new(LeaderRequest { name });
        self.add_metadata(request.metadata_mut());
        let channel: Channel = connection.channel.clone();
        let mut service = ElectionClient::new(channel).max_decoding_message_size(usize::MAX);
        let limit = self.timeout();
        let reason = match env::timeout(limit, service.observe(request)).await {
            Ok(Ok(answer)) => {
                return Ok(ObserveStream {
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
}
