//! Sends requests, each with a deadline, to any endpoint that replies.
//!
//! The rule: a write is retried only if it certainly was not sent before. A read is retried, on other endpoints too, until its
//! deadline. etcd's own client follows the same rule (client/v3/retry_interceptor.go).

use super::Channel;
use super::connection::ChannelOptions;
use super::endpoint::{Endpoint, EndpointError};
use super::error::{Attempt, Error, Reason, sort};
use super::rotation::jittered;
use super::session::{ClientSession, Connect, Connection, Failed, Shared};
use crate::env;
use crate::etcd_errors::EtcdError;
use crate::mutants::{self, Mutant};
use crate::proto::{etcdserverpb as pb, v3electionpb, v3lockpb};
use actix::Addr;
use bytes::Bytes;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::oneshot;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use tonic::{Code, Request, Response, Status};

/// The default of [`Options::request_timeout`]: etcdctl's `--command-timeout`.
const REQUEST_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);
/// The pause before the second retry of a read; the first retry goes immediately to another endpoint.
const RETRY_DELAY_MIN: Duration = Duration::from_millis(10);
/// The longest pause between retries.
const RETRY_DELAY_MAX: Duration = Duration::from_millis(500);

/// The settings of a client.
#[derive(Clone, Debug)]
pub struct Options {
    /// From the call to the reply, including the wait for a connection and retries. Also sent as `grpc-timeout`.
    pub request_timeout: Duration,
    /// Sends `hasleader: true`: a member without a leader then refuses immediately instead of waiting for one.
    pub require_leader: bool,
    pub channel: ChannelOptions,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            request_timeout: REQUEST_TIMEOUT_DEFAULT,
            require_leader: false,
            channel: ChannelOptions::default(),
        }
    }
}

/// Whether a request can be retried without harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Read,
    Write,
}

/// A client of one cluster. Clones share its connection.
#[derive(Clone, Debug)]
pub struct Client {
    session: Addr<ClientSession>,
    shared: Arc<Shared>,
    request_timeout: Duration,
    require_leader: bool,
    /// Who it is, as [`Client::authenticate`] has answered.
    token: Option<MetadataValue<Ascii>>,
}

impl Client {
    /// Starts the client's session on this thread. It connects with the first request.
    pub fn start(endpoints: Vec<Endpoint>, options: Options) -> Result<Self, Error> {
        if endpoints.is_empty() {
            return Err(EndpointError::Empty.into());
        }
        let shared = Arc::new(Shared::default());
        let session_shared = Arc::clone(&shared);
        let session = env::start(|_| ClientSession::new(endpoints, options.channel, session_shared));
        let Options {
            request_timeout,
            require_leader,
            ..
        } = options;
        Ok(Self {
            session,
            shared,
            request_timeout,
            require_leader,
            token: None,
        })
    }

    /// The same client with another deadline for its requests.
    #[must_use]
    pub fn with_timeout(&self, request_timeout: Duration) -> Self {
        Self {
            request_timeout,
            ..self.clone()
        }
    }

    /// The same client, which shows this token with its requests; none that cannot be sent.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        Self {
            token: token.parse().ok(),
            ..self.clone()
        }
    }

    /// The current connection, or a new one. For streams: on failure the caller calls [`Client::failed`].
    pub async fn connection(&self) -> Result<Arc<Connection>, Error> {
        let limit = self.request_timeout;
        env::timeout(limit, self.connect())
            .await
            .unwrap_or_else(|env::Elapsed| Err(self.not_sent(self.shared.last_error())))
    }

    /// Tells the session that a connection no longer replies.
    pub fn failed(&self, connection: &Connection) {
        self.session.do_send(Failed(connection.generation));
    }

    async fn connect(&self) -> Result<Arc<Connection>, Error> {
        if let Some(connection) = self.shared.current() {
            return Ok(connection);
        }
        let (reply, connected) = oneshot::channel();
        let stopped = || self.not_sent("the session has stopped".to_owned());
        self.session
            .send(Connect { reply })
            .await
            .map_err(|_| stopped())?;
        connected.await.map_err(|_| stopped())
    }

    fn not_sent(&self, last: String) -> Error {
        Error::NotSent {
            limit: self.request_timeout,
            last,
        }
    }

    /// Sends a read-only request: retried on other connections until the deadline.
    pub async fn read<Q, A, S, F>(&self, request: Q, send: S) -> Result<A, Error>
    where
        Q: Clone,
        S: Fn(Channel, Request<Q>) -> F,
        F: Future<Output = Result<Response<A>, Status>>,
    {
        self.call(Kind::Read, request, send).await
    }

    /// Sends a request that changes something: never retried once it may have been sent.
    pub async fn write<Q, A, S, F>(&self, request: Q, send: S) -> Result<A, Error>
    where
        Q: Clone,
        S: Fn(Channel, Request<Q>) -> F,
        F: Future<Output = Result<Response<A>, Status>>,
    {
        self.call(Kind::Write, request, send).await
    }

    async fn call<Q, A, S, F>(&self, kind: Kind, request: Q, send: S) -> Result<A, Error>
    where
        Q: Clone,
        S: Fn(Channel, Request<Q>) -> F,
        F: Future<Output = Result<Response<A>, Status>>,
    {
        // The generation of the connection that the request was last passed to, in case the deadline ends the attempts; 0 before
        // that.
        let sent_on = AtomicU64::new(0);
        let limit = self.request_timeout;
        let outcome = env::timeout(limit, self.attempts(kind, request, send, &sent_on)).await;
        if let Ok(outcome) = outcome {
            return outcome;
        }
        match sent_on.into_inner() {
            0 => Err(self.not_sent(self.shared.last_error())),
            generation => {
                self.session.do_send(Failed(generation));
                Err(unanswered(kind, Reason::Deadline(limit)))
            }
        }
    }

    /// Retries until the server has replied. The deadline in [`Client::call`] ends it.
    async fn attempts<Q, A, S, F>(
        &self,
        kind: Kind,
        request: Q,
        send: S,
        sent_on: &AtomicU64,
    ) -> Result<A, Error>
    where
        Q: Clone,
        S: Fn(Channel, Request<Q>) -> F,
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let deadline = env::now() + self.request_timeout;
        for attempt in 0_usize.. {
            if attempt > 1 {
                let random = env::random_u64();
                env::sleep(jittered(RETRY_DELAY_MIN, RETRY_DELAY_MAX, attempt - 2, random)).await;
            }
            let connection = self.connect().await?;
            let left = deadline.saturating_duration_since(env::now());
            let mut channel = connection.channel.clone();
            let answer = match wait_ready(&mut channel).await {
                Ok(()) => {
                    sent_on.store(connection.generation, Ordering::Relaxed);
                    send(channel, self.prepare(request.clone(), left)).await
                }
                Err(status) => Err(status),
            };
            match answer.map_err(sort) {
                Ok(answer) => return Ok(answer.into_inner()),
                Err(Attempt::Refused(status)) => {
                    if status.message() == EtcdError::NotForLearner.text() {
                        // The next request goes to a voting member.
                        self.failed(&connection);
                    }
                    return Err(Error::Refused(status));
                }
                Err(Attempt::NotSent) => {
                    sent_on.store(0, Ordering::Relaxed);
                    self.failed(&connection);
                }
                Err(Attempt::Open(reason)) => {
                    let repeatable = kind == Kind::Read || mutants::active(Mutant::ClientRepeatsWrites);
                    let retry = repeatable && is_passing(&reason);
                    if is_passing(&reason) {
                        self.failed(&connection);
                    }
                    if !retry {
                        return Err(unanswered(kind, reason));
                    }
                }
            }
        }
        unreachable!("the deadline comes before the last number");
    }

    fn prepare<Q>(&self, message: Q, left: Duration) -> Request<Q> {
        let mut request = Request::new(message);
        request.set_timeout(left);
        self.add_metadata(request.metadata_mut());
        request
    }

    pub(super) fn add_metadata(&self, metadata: &mut MetadataMap) {
        if self.require_leader {
            metadata.insert("hasleader", MetadataValue::from_static("true"));
        }
        if let Some(token) = &self.token {
            metadata.insert("token", token.clone());
        }
    }

    pub(super) fn timeout(&self) -> Duration {
        self.request_timeout
    }
}

/// Waits for a slot among the requests in flight. The channel keeps it for the next request.
async fn wait_ready(channel: &mut Channel) -> Result<(), Status> {
    std::future::poll_fn(|context| tower_service::Service::poll_ready(channel, context)).await
}

fn unanswered(kind: Kind, reason: Reason) -> Error {
    match kind {
        Kind::Read => Error::Unavailable(reason),
        Kind::Write => Error::Unknown(reason),
    }
}

/// Whether another endpoint, or the same one later, may reply.
fn is_passing(reason: &Reason) -> bool {
    match reason {
        Reason::ConnectionLost(_) | Reason::Deadline(_) => true,
        Reason::Server(status) => status.code() == Code::Unavailable,
    }
}

/// The calls of one service: read or write, method, request and reply.
macro_rules! calls {
    ($client:ty { $($(#[$meta:meta])* $kind:ident $method:ident($request:ty) -> $answer:ty;)* }) => {
        impl Client {$(
            $(#[$meta])*
            pub async fn $method(&self, request: $request) -> Result<$answer, Error> {
                self.$kind(request, |channel, request| async move {
                    let mut client = <$client>::new(channel)
                        .max_decoding_message_size(usize::MAX);
                    client.$method(request).await
                })
                .await
            }
        )*}
    };
}

calls! { pb::kv_client::KvClient<_> {
    /// Reads keys.
    read range(pb::RangeRequest) -> pb::RangeResponse;
    /// Writes a key.
    write put(pb::PutRequest) -> pb::PutResponse;
    /// Deletes keys.
    write delete_range(pb::DeleteRangeRequest) -> pb::DeleteRangeResponse;
    /// Compares and executes one of two branches. Treated as a write even if it only reads.
    write txn(pb::TxnRequest) -> pb::TxnResponse;
    /// Compacts the revisions before one.
    write compact(pb::CompactionRequest) -> pb::CompactionResponse;
} }

calls! { pb::cluster_client::ClusterClient<_> {
    /// Lists the members.
    read member_list(pb::MemberListRequest) -> pb::MemberListResponse;
    /// Adds a member.
    write member_add(pb::MemberAddRequest) -> pb::MemberAddResponse;
    /// Removes a member.
    write member_remove(pb::MemberRemoveRequest) -> pb::MemberRemoveResponse;
    /// Changes a member's peer URLs.
    write member_update(pb::MemberUpdateRequest) -> pb::MemberUpdateResponse;
    /// Promotes a learner to a voter.
    write member_promote(pb::MemberPromoteRequest) -> pb::MemberPromoteResponse;
} }

calls! { pb::maintenance_client::MaintenanceClient<_> {
    /// The status of the member at the other end, which is any of several endpoints.
    read status(pb::StatusRequest) -> pb::StatusResponse;
    /// The hash of the member's keys and revisions.
    read hash_kv(pb::HashKvRequest) -> pb::HashKvResponse;
    /// Lists, raises or disarms alarms.
    write alarm(pb::AlarmRequest) -> pb::AlarmResponse;
    /// Frees disk space.
    write defragment(pb::DefragmentRequest) -> pb::DefragmentResponse;
    /// Asks whether a downgrade can begin, begins or cancels one.
    write downgrade(pb::DowngradeRequest) -> pb::DowngradeResponse;
    /// Transfers the leadership to another member.
    write move_leader(pb::MoveLeaderRequest) -> pb::MoveLeaderResponse;
} }

calls! { pb::lease_client::LeaseClient<_> {
    /// Grants a lease.
    write lease_grant(pb::LeaseGrantRequest) -> pb::LeaseGrantResponse;
    /// Revokes a lease and deletes its keys.
    write lease_revoke(pb::LeaseRevokeRequest) -> pb::LeaseRevokeResponse;
    /// The remaining TTL of a lease.
    read lease_time_to_live(pb::LeaseTimeToLiveRequest) -> pb::LeaseTimeToLiveResponse;
    /// Lists all leases.
    read lease_leases(pb::LeaseLeasesRequest) -> pb::LeaseLeasesResponse;
} }

calls! { v3lockpb::lock_client::LockClient<_> {
    /// Waits for a lock. A caller that gives up, as at the deadline, does not get it afterwards.
    write lock(v3lockpb::LockRequest) -> v3lockpb::LockResponse;
    /// Releases a lock.
    write unlock(v3lockpb::UnlockRequest) -> v3lockpb::UnlockResponse;
} }

calls! { v3electionpb::election_client::ElectionClient<_> {
    /// Waits to be elected; giving up works as for locks.
    write campaign(v3electionpb::CampaignRequest) -> v3electionpb::CampaignResponse;
    /// Changes the leader's proclamation.
    write proclaim(v3electionpb::ProclaimRequest) -> v3electionpb::ProclaimResponse;
    /// The leader of an election.
    read leader(v3electionpb::LeaderRequest) -> v3electionpb::LeaderResponse;
    /// Gives up the leadership.
    write resign(v3electionpb::ResignRequest) -> v3electionpb::ResignResponse;
} }

calls! { pb::auth_client::AuthClient<_> {
    /// A token for a name and its password.
    read authenticate(pb::AuthenticateRequest) -> pb::AuthenticateResponse;
} }

impl Client {
    /// Whether the member can serve a linearizable read, as `etcdctl endpoint health` checks it: a refusal for lack of permission
    /// also needs a quorum, so it counts as healthy.
    pub async fn health(&self) -> Result<(), Error> {
        let request = pb::RangeRequest {
            key: "health".into(),
            ..pb::RangeRequest::default()
        };
        match self.range(request).await {
            Err(error) if error.code() != Code::PermissionDenied => Err(error),
            _ => Ok(()),
        }
    }
}

/// The end of the range of keys with this prefix, in etcd's notation: a zero byte means the end of all keys.
pub fn prefix_end(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end.into();
        }
    }
    Bytes::from_static(&[0])
}
