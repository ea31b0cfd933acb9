//! A small gRPC client for tests: the generated stubs over one HTTP/2 connection per member, no retries.
//!
//! It tells apart what a test about lost and doubled writes must tell apart: acknowledged, certainly not sent, and
//! unknown. Nothing is ever sent twice.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use callboard::proto::etcdserverpb as pb;
use callboard::proto::etcdserverpb::kv_client::KvClient;
use callboard::proto::etcdserverpb::lease_client::LeaseClient;
use callboard::proto::etcdserverpb::maintenance_client::MaintenanceClient;
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::Status;
use tonic::body::Body;

/// One HTTP/2 connection; clones share it.
#[derive(Clone)]
pub struct Channel {
    sender: http2::SendRequest<Body>,
}

impl tower_service::Service<Request<Body>> for Channel {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.sender.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.sender.send_request(request))
    }
}

/// Connects to a member's client (or peer) port.
pub async fn connect(member: SocketAddr) -> Result<Channel, String> {
    let open = async {
        let stream = TcpStream::connect(member)
            .await
            .map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .map_err(|error| error.to_string())
    };
    let (sender, connection) = open
        .await
        .map_err(|error| format!("connect to {member}: {error}"))?;
    // Its end shows as an error of whatever is sent next.
    tokio::spawn(connection);
    Ok(Channel { sender })
}

/// What is known about a request after its answer, or after none came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome<T> {
    Acked(T),
    /// Never sent: it has no effect.
    Failed(String),
    /// Sent, and then an error or silence: it may have been, or may yet be, applied.
    Unknown(String),
}

impl<T> Outcome<T> {
    pub fn acked(self) -> Result<T, String> {
        match self {
            Self::Acked(value) => Ok(value),
            Self::Failed(why) => Err(format!("not sent: {why}")),
            Self::Unknown(why) => Err(why),
        }
    }
}

/// A client of one member at a time. A connection that failed is opened anew with the next request.
pub struct Client {
    member: SocketAddr,
    limit: Duration,
    channel: Option<Channel>,
}

impl Client {
    /// Every request, connecting included, gets `limit`.
    pub fn new(member: SocketAddr, limit: Duration) -> Self {
        Self {
            member,
            limit,
            channel: None,
        }
    }

    /// Talks to this member from now on.
    pub fn switch_to(&mut self, member: SocketAddr) {
        self.member = member;
        self.channel = None;
    }

    pub async fn put(&mut self, key: &[u8], value: &[u8]) -> Outcome<pb::PutResponse> {
        let request = put_request(key, value);
        self.call(async |channel, origin| KvClient::with_origin(channel, origin).put(request).await)
            .await
    }

    /// The newest value, linearizable.
    pub async fn get(&mut self, key: &[u8]) -> Outcome<Option<callboard::proto::mvccpb::KeyValue>> {
        let request = pb::RangeRequest {
            key: key.to_vec().into(),
            ..Default::default()
        };
        match self.range(request).await {
            Outcome::Acked(response) => Outcome::Acked(response.kvs.into_iter().next()),
            Outcome::Failed(why) => Outcome::Failed(why),
            Outcome::Unknown(why) => Outcome::Unknown(why),
        }
    }

    pub async fn range(&mut self, request: pb::RangeRequest) -> Outcome<pb::RangeResponse> {
        self.call(async |channel, origin| {
            KvClient::with_origin(channel, origin)
                .max_decoding_message_size(usize::MAX)
                .range(request)
                .await
        })
        .await
    }

    /// Puts only while the key's modification revision is `mod_revision` (0: while there is no such key).
    /// Acknowledged with `false` when it is another one.
    pub async fn put_if(&mut self, key: &[u8], mod_revision: i64, value: &[u8]) -> Outcome<pb::TxnResponse> {
        let request = pb::TxnRequest {
            compare: vec![pb::Compare {
                result: pb::compare::CompareResult::Equal.into(),
                target: pb::compare::CompareTarget::Mod.into(),
                key: key.to_vec().into(),
                target_union: Some(pb::compare::TargetUnion::ModRevision(mod_revision)),
                ..Default::default()
            }],
            success: vec![pb::RequestOp {
                request: Some(pb::request_op::Request::RequestPut(put_request(key, value))),
            }],
            failure: Vec::new(),
        };
        self.call(async |channel, origin| KvClient::with_origin(channel, origin).txn(request).await)
            .await
    }

    pub async fn status(&mut self) -> Outcome<pb::StatusResponse> {
        let request = pb::StatusRequest::default();
        self.call(async |channel, origin| {
            MaintenanceClient::with_origin(channel, origin)
                .status(request)
                .await
        })
        .await
    }

    /// The hash of everything up to `revision`; 0 for the newest.
    pub async fn hash_kv(&mut self, revision: i64) -> Outcome<pb::HashKvResponse> {
        let request = pb::HashKvRequest { revision };
        self.call(async |channel, origin| {
            MaintenanceClient::with_origin(channel, origin)
                .hash_kv(request)
                .await
        })
        .await
    }

    pub async fn lease_grant(&mut self, id: i64, ttl_seconds: i64) -> Outcome<pb::LeaseGrantResponse> {
        let request = pb::LeaseGrantRequest { id, ttl: ttl_seconds };
        self.call(async |channel, origin| {
            LeaseClient::with_origin(channel, origin)
                .lease_grant(request)
                .await
        })
        .await
    }

    async fn call<T>(
        &mut self,
        send: impl AsyncFnOnce(Channel, Uri) -> Result<tonic::Response<T>, Status>,
    ) -> Outcome<T> {
        let channel = match self.channel.clone() {
            Some(channel) => channel,
            None => match timeout(self.limit, connect(self.member)).await {
                Ok(Ok(channel)) => channel,
                Ok(Err(error)) => return Outcome::Failed(error),
                Err(_) => {
                    return Outcome::Failed(format!("no connection to {} in {:?}", self.member, self.limit));
                }
            },
        };
        self.channel = None;
        match timeout(self.limit, send(channel.clone(), origin(self.member))).await {
            Ok(Ok(response)) => {
                self.channel = Some(channel);
                Outcome::Acked(response.into_inner())
            }
            Ok(Err(status)) => Outcome::Unknown(format!("{:?}: {}", status.code(), status.message())),
            Err(_) => Outcome::Unknown(format!("no answer from {} in {:?}", self.member, self.limit)),
        }
    }
}

/// The URI that stands before the method's path.
pub fn origin(member: SocketAddr) -> Uri {
    format!("http://{member}")
        .parse()
        .expect("a socket address makes a URI")
}

pub fn put_request(key: &[u8], value: &[u8]) -> pb::PutRequest {
    pb::PutRequest {
        key: key.to_vec().into(),
        value: value.to_vec().into(),
        ..Default::default()
    }
}
