//! What tests ask of a cluster, over Callboard's own client library.
//!
//! It tells apart what a test about lost and doubled writes must tell apart: acknowledged, certainly without effect,
//! and unknown. The library repeats reads, but never a write that may have left.

use std::net::SocketAddr;
use std::time::Duration;

use callboard::client::{self, Error, Options, parse_endpoints};
use callboard::proto::etcdserverpb as pb;
use callboard::proto::mvccpb::KeyValue;

/// What is known about a request after its answer, or after none came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome<T> {
    Acked(T),
    /// Never sent, or refused: it has no effect.
    Failed(String),
    /// Sent, and then an error or silence: it may have been, or may yet be, applied.
    Unknown(String),
}

impl<T> Outcome<T> {
    pub fn acked(self) -> Result<T, String> {
        match self {
            Self::Acked(value) => Ok(value),
            Self::Failed(why) | Self::Unknown(why) => Err(why),
        }
    }
}

impl<T> From<Result<T, Error>> for Outcome<T> {
    fn from(answer: Result<T, Error>) -> Self {
        match answer {
            Ok(value) => Self::Acked(value),
            Err(error) if error.is_unknown_outcome() => Self::Unknown(error.to_string()),
            Err(error) => Self::Failed(error.to_string()),
        }
    }
}

/// A client of some members, with the requests that tests make.
pub struct Client {
    inner: client::Client,
}

impl Client {
    /// Every request, connecting and repeating included, gets `limit`. To be called inside [`block_on`].
    pub fn new(members: &[SocketAddr], limit: Duration) -> Self {
        let endpoints =
            parse_endpoints(members.iter().map(ToString::to_string)).expect("addresses are endpoints");
        let options = Options {
            request_timeout: limit,
            ..Options::default()
        };
        Self {
            inner: client::Client::start(endpoints, options).expect("at least one endpoint"),
        }
    }

    pub async fn put(&self, key: &[u8], value: &[u8]) -> Outcome<pb::PutResponse> {
        self.inner.put(put_request(key, value)).await.into()
    }

    /// The newest value, linearizable.
    pub async fn get(&self, key: &[u8]) -> Outcome<Option<KeyValue>> {
        let request = pb::RangeRequest {
            key: key.to_vec().into(),
            ..Default::default()
        };
        self.inner
            .range(request)
            .await
            .map(|response| response.kvs.into_iter().next())
            .into()
    }

    pub async fn range(&self, request: pb::RangeRequest) -> Outcome<pb::RangeResponse> {
        self.inner.range(request).await.into()
    }

    /// Puts only while the key's modification revision is `mod_revision` (0: while there is no such key).
    /// Acknowledged without success when it is another one.
    pub async fn put_if(&self, key: &[u8], mod_revision: i64, value: &[u8]) -> Outcome<pb::TxnResponse> {
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
        self.inner.txn(request).await.into()
    }

    /// Puts all of them in one transaction.
    pub async fn put_all(&self, puts: impl IntoIterator<Item = pb::PutRequest>) -> Outcome<pb::TxnResponse> {
        let operation = |put| pb::RequestOp {
            request: Some(pb::request_op::Request::RequestPut(put)),
        };
        let request = pb::TxnRequest {
            success: puts.into_iter().map(operation).collect(),
            ..Default::default()
        };
        self.inner.txn(request).await.into()
    }

    pub async fn status(&self) -> Outcome<pb::StatusResponse> {
        self.inner.status(pb::StatusRequest::default()).await.into()
    }

    /// The hash of everything up to `revision`; 0 for the newest.
    pub async fn hash_kv(&self, revision: i64) -> Outcome<pb::HashKvResponse> {
        self.inner.hash_kv(pb::HashKvRequest { revision }).await.into()
    }

    /// Raises an alarm by hand, in the name of a member.
    pub async fn raise_alarm(&self, member_id: u64, alarm: pb::AlarmType) -> Outcome<pb::AlarmResponse> {
        let request = pb::AlarmRequest {
            action: pb::alarm_request::AlarmAction::Activate.into(),
            member_id,
            alarm: alarm.into(),
        };
        self.inner.alarm(request).await.into()
    }

    pub async fn lease_grant(&self, id: i64, ttl_seconds: i64) -> Outcome<pb::LeaseGrantResponse> {
        self.inner
            .lease_grant(pb::LeaseGrantRequest { id, ttl: ttl_seconds })
            .await
            .into()
    }
}

/// One request to one member, on a connection of its own.
pub fn ask<T>(
    member: SocketAddr,
    limit: Duration,
    send: impl AsyncFnOnce(Client) -> Outcome<T>,
) -> Outcome<T> {
    block_on(async { send(Client::new(&[member], limit)).await })
}

/// Runs a future, and the clients started in it, on this thread.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    callboard::env::block_on(future)
}

pub fn put_request(key: &[u8], value: &[u8]) -> pb::PutRequest {
    pb::PutRequest {
        key: key.to_vec().into(),
        value: value.to_vec().into(),
        ..Default::default()
    }
}
