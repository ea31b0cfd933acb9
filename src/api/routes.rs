//! Routes a request from its path to its handler, without a router: a get must not pay for one.

mod plain;

use super::backend::Backend;
use super::body::Body;
use super::bounds::TxnBounds;
use super::compression::Encoding;
use super::connection::Connection;
use super::cors::Cors;
use super::counted::Counted;
use super::grpc::Reading;
use super::hosts::Hosts;
use super::large_work::LargeWork;
use super::ports::{PEER_METHODS, PEER_SERVICES, Port};
use super::slow::{AnsweredCall, KeptRequest, SlowCalls};
use super::status::EtcdError;
use super::unread::{ConnectionBudget, UnreadBodies};
use super::{
    auth, check, cluster, downgrade, election, grpc, health, kv, lease, lock, maintenance, monitoring,
    range_stream, snapshot, watch,
};
use crate::limits::{BACKUPS_MAX, GRPC_OVERHEAD_BYTES, HEADERS_FREE_BYTES, JSON_BYTES_PER_MESSAGE_BYTE};
use crate::metrics::CountedCall;
use crate::proto::etcdserverpb::RangeRequest;
use crate::proto::health::HealthListRequest;
use crate::requests::Caller;
use ::http::{HeaderMap, Request, Response};
use bytes::Bytes;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch::Receiver;
use tokio::sync::{Mutex, Semaphore};
use tonic::Status;

/// Services of which at least one method is implemented.
const SERVICES: [&str; 9] = [
    "etcdserverpb.KV",
    "etcdserverpb.Watch",
    "etcdserverpb.Lease",
    "etcdserverpb.Cluster",
    "etcdserverpb.Maintenance",
    "etcdserverpb.Auth",
    "v3lockpb.Lock",
    "v3electionpb.Election",
    "grpc.health.v1.Health",
];

/// The prefixes of the paths of etcd's services.
const PACKAGES: [&str; 4] = ["/etcdserverpb.", "/v3lockpb.", "/v3electionpb.", "/grpc.health."];

/// A gRPC call without its messages.
pub(super) struct CallHead<'a> {
    pub connection: &'a Connection,
    pub path: &'a str,
    pub headers: &'a HeaderMap,
}

/// All handlers of one port. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Routes<B> {
    backend: B,
    more: Option<axum::Router>,
    cors: Option<Cors>,
    json: bool,
    large: LargeWork,
    unread: UnreadBodies,
    metrics_text: monitoring::MetricsText,
    defragmenting: Arc<Mutex<()>>,
    backups: Arc<Semaphore>,
    port: Port,
    opened: Option<Receiver<bool>>,
    slow: Arc<SlowCalls>,
    traffic: Traffic,
    hosts: Option<Hosts>,
}

/// What a port for clients takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Traffic {
    #[default]
    GrpcAndHttp,
    Grpc,
    Http,
}

impl<B: Backend> Routes<B> {
    /// The client API over `backend`.
    pub fn new(backend: B) -> Self {
        let body_bytes_max = message_bytes_max(&backend) * JSON_BYTES_PER_MESSAGE_BYTE;
        Self {
            backend,
            more: None,
            cors: None,
            json: false,
            large: LargeWork::default(),
            unread: UnreadBodies::new(body_bytes_max),
            metrics_text: monitoring::MetricsText::default(),
            defragmenting: Arc::default(),
            backups: Arc::new(Semaphore::new(BACKUPS_MAX)),
            port: Port::Clients,
            opened: None,
            slow: Arc::default(),
            traffic: Traffic::default(),
            hosts: None,
        }
    }

    /// The routes of `--listen-metrics-urls`.
    pub fn monitoring(backend: B) -> Self {
        Self {
            port: Port::Metrics,
            ..Self::new(backend)
        }
    }

    /// The routes of `--listen-peer-urls`, with the services between members in `router`.
    pub fn peers(backend: B, router: axum::Router) -> Self {
        let routes = Self {
            port: Port::Peers,
            ..Self::new(backend)
        };
        routes.with(router)
    }

    /// Refuses all requests until `opened` is true, except those for services of the added router.
    #[must_use]
    pub fn closed_until(mut self, opened: Receiver<bool>) -> Self {
        self.opened = Some(opened);
        self
    }

    /// Adds the services of a router, such as from tonic's `Routes::into_axum_router`. It gets the requests that are not handled
    /// here.
    #[must_use]
    pub fn with(mut self, router: axum::Router) -> Self {
        let services = self.services();
        self.more = Some(router.fallback(async move |request: Request<axum::body::Body>| {
            plain::unanswered(&request, services).map(axum::body::Body::new)
        }));
        self
    }

    /// Permits web pages of other origins to use everything except gRPC.
    #[must_use]
    pub fn with_cors(mut self, cors: Cors) -> Self {
        self.cors = Some(cors);
        self
    }

    /// Serves the JSON form of the API as well.
    #[must_use]
    pub fn with_json(mut self, json: bool) -> Self {
        self.json = json;
        self
    }

    /// Logs calls that take longer.
    #[must_use]
    pub fn with_slow_calls(mut self, limit: Duration) -> Self {
        self.slow = Arc::new(SlowCalls::new(limit));
        self
    }

    /// Takes only gRPC, or all else.
    #[must_use]
    pub fn with_traffic(mut self, traffic: Traffic) -> Self {
        self.traffic = traffic;
        self
    }

    /// Answers plain HTTP requests without TLS only under these names.
    #[must_use]
    pub fn with_hosts(mut self, hosts: Hosts) -> Self {
        self.hosts = Some(hosts);
        self
    }

    /// etcd's services of which this port serves a method.
    fn services(&self) -> &'static [&'static str] {
        match self.port {
            Port::Clients => &SERVICES,
            Port::Peers => &PEER_SERVICES,
            Port::Metrics => &[],
        }
    }

    pub(super) fn metrics_text(&self) -> &monitoring::MetricsText {
        &self.metrics_text
    }

    pub(super) fn backend(&self) -> &B {
        &self.backend
    }

    /// How a request of a connection is read.
    pub(super) fn reading(&self, unread: ConnectionBudget, encoding: Encoding) -> Reading {
        Reading {
            encoding,
            bytes_max: message_bytes_max(&self.backend),
            unread,
            large: self.large.clone(),
            kept: KeptRequest::default(),
        }
    }

    /// Handles one request that has a connection of its own.
    pub async fn handle<R>(&self, request: Request<R>) -> Response<Body>
    where
        R: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        R::Error: Into<axum::BoxError> + std::fmt::Display,
    {
        let connection = self.connection(Caller::default(), None, false);
        // Boxed: a future that is passed on would be held twice.
        Box::pin(self.handle_within(&connection, request)).await
    }

    /// A new connection.
    pub(super) fn connection(
        &self,
        caller: Caller,
        remote: Option<SocketAddr>,
        is_secure: bool,
    ) -> Connection {
        Connection {
            unread: self.unread.connection(),
            caller,
            remote,
            is_secure,
        }
    }

    /// Handles one request of a connection, on the task of the request.
    pub(super) async fn handle_within<R>(
        &self,
        connection: &Connection,
        request: Request<R>,
    ) -> Response<Body>
    where
        R: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        R::Error: Into<axum::BoxError> + std::fmt::Display,
    {
        if let Some(opened) = &self.opened
            && !*opened.borrow()
        {
            return Box::pin(self.route_closed(request)).await;
        }
        let path = request.uri().path();
        if self.port == Port::Peers && !PEER_METHODS.contains(&path) {
            return Box::pin(self.handle_peer(request)).await;
        }
        let is_call = self.port != Port::Metrics && self.traffic != Traffic::Http;
        if !is_call || !PACKAGES.iter().any(|package| path.starts_with(package)) {
            // Boxed, so that it does not enlarge the future of gRPC calls.
            return Box::pin(self.handle_http(connection, request)).await;
        }
        if self.more.is_some() && !SERVICES.iter().any(|service| path[1..].starts_with(service)) {
            return Box::pin(self.route(request)).await;
        }
        let (uri, headers, body) = {
            // What is not needed goes at once: a call shall carry little.
            let (parts, body) = request.into_parts();
            (parts.uri, parts.headers, body)
        };
        let reading = self.reading(connection.unread.clone(), Encoding::of(&headers));
        let header_bytes = header_bytes(&headers);
        let _room = if header_bytes > HEADERS_FREE_BYTES {
            match reading.unread.take(header_bytes).await {
                Ok(room) => Some(room),
                Err(status) => return status.into_http(),
            }
        } else {
            None
        };
        let head = CallHead {
            connection,
            path: uri.path(),
            headers: &headers,
        };
        grpc::response(self.invoke(&head, body, &reading).await)
    }

    /// Executes a gRPC call, whatever form its messages came in.
    pub(super) async fn invoke(
        &self,
        head: &CallHead<'_>,
        body: impl grpc::RequestBody + 'static,
        reading: &Reading,
    ) -> Result<Body, Status> {
        let headers = head.headers;
        let call = self.backend.metrics().grpc.begin(head.path);
        let (result, wait_begun) = {
            let reply = pin!(async {
                if grpc::requires_leader(headers) && self.backend.raft_status().leader.get() == 0 {
                    return Err(EtcdError::NoLeader.into());
                }
                self.call(&call, head, body, reading).await
            });
            grpc::within_deadline(headers, reply).await
        };
        if let Some(begun) = wait_begun {
            self.slow.note(&AnsweredCall {
                path: head.path,
                remote: head.connection.remote,
                begun,
                request: &reading.kept,
                reply: &result,
            });
        }
        grpc::counted(call, result)
    }

    async fn call(
        &self,
        call: &CountedCall,
        head: &CallHead<'_>,
        body: impl grpc::RequestBody + 'static,
        reading: &Reading,
    ) -> Result<Body, Status> {
        let (backend, large) = (&self.backend, &self.large);
        let is_learner = self.more.is_none() && backend.view().is_learner(backend.identity().member_id);
        if is_learner && !ANSWERED_BY_LEARNERS.contains(&head.path) {
            return Err(EtcdError::NotForLearner.into());
        }
        match head.path {
            "/etcdserverpb.KV/Range" => {
                let request = grpc::flat_message::<RangeRequest>(body, reading, call).await?;
                if is_learner && !request.serializable {
                    return Err(EtcdError::NotForLearner.into());
                }
                kv::range(backend, large, request).await
            }
            "/etcdserverpb.KV/Put" => {
                let request = grpc::flat_message(body, reading, call).await?;
                kv::put(backend, &head.connection.caller, request).await
            }
            "/etcdserverpb.KV/Txn" => {
                let request = {
                    let (encoded, _room) = grpc::whole_message(body, reading, call).await?;
                    let bounds = TxnBounds::of(backend.limits().max_txn_ops);
                    large
                        .run(encoded.len(), move || check::read_txn(encoded, bounds))
                        .await?
                };
                kv::txn(backend, &head.connection.caller, large, request).await
            }
            // Boxed, since every call would need memory for it.
            _ => Box::pin(self.call_other(call, head, body, reading)).await,
        }
    }

    async fn call_other(
        &self,
        call: &CountedCall,
        head: &CallHead<'_>,
        body: impl grpc::RequestBody + 'static,
        reading: &Reading,
    ) -> Result<Body, Status> {
        let (backend, path) = (&self.backend, head.path);
        let (caller, headers) = (&head.connection.caller, head.headers);
        macro_rules! message {
            () => {
                grpc::message(body, reading, call).await?
            };
        }
        match path {
            "/etcdserverpb.KV/DeleteRange" => kv::delete_range(backend, caller, message!()).await,
            "/etcdserverpb.KV/Compact" => kv::compact(backend, caller, message!()).await,
            "/etcdserverpb.KV/RangeStream" => range_stream::range_stream(backend, message!()).await,
            "/etcdserverpb.Watch/Watch" => {
                let body = Counted::new(body, call);
                Ok(watch::watch(backend, caller, headers, body, reading))
            }
            "/etcdserverpb.Lease/LeaseGrant" => lease::grant(backend, caller, message!()).await,
            "/etcdserverpb.Lease/LeaseRevoke" => lease::revoke(backend, caller, message!()).await,
            "/etcdserverpb.Lease/LeaseKeepAlive" => {
                let body = Counted::new(body, call);
                Ok(lease::keep_alive(backend, headers, body, reading))
            }
            "/etcdserverpb.Lease/LeaseTimeToLive" => lease::time_to_live(backend, message!()).await,
            "/etcdserverpb.Lease/LeaseLeases" => lease::leases(backend, message!()).await,
            "/etcdserverpb.Cluster/MemberList" => cluster::member_list(backend, message!()).await,
            "/etcdserverpb.Cluster/MemberAdd" => cluster::member_add(backend, caller, message!()).await,
            "/etcdserverpb.Cluster/MemberRemove" => cluster::member_remove(backend, caller, message!()).await,
            "/etcdserverpb.Cluster/MemberPromote" => {
                cluster::member_promote(backend, caller, message!()).await
            }
            "/etcdserverpb.Cluster/MemberUpdate" => cluster::member_update(backend, caller, message!()).await,
            "/etcdserverpb.Maintenance/MoveLeader" => maintenance::move_leader(backend, message!()).await,
            "/etcdserverpb.Maintenance/Downgrade" => downgrade::downgrade(backend, caller, message!()).await,
            "/etcdserverpb.Maintenance/Status" => Ok(maintenance::status(backend, message!())),
            "/etcdserverpb.Maintenance/Alarm" => maintenance::alarm(backend, caller, message!()).await,
            "/etcdserverpb.Maintenance/HashKV" => maintenance::hash_kv(backend, message!()).await,
            "/etcdserverpb.Maintenance/Hash" => maintenance::hash_all(backend, message!()).await,
            "/etcdserverpb.Maintenance/Defragment" => {
                maintenance::defragment(backend, message!(), &self.defragmenting).await
            }
            "/etcdserverpb.Maintenance/Snapshot" => snapshot::snapshot(backend, message!(), &self.backups),
            _ if path.starts_with("/etcdserverpb.Auth/") => {
                Box::pin(auth::call(backend, call, path, body, reading)).await
            }
            // Boxed separately: they wait for a long time, and the other calls here would need memory for them.
            "/v3lockpb.Lock/Lock" => Box::pin(lock::lock(backend, caller, message!())).await,
            "/v3lockpb.Lock/Unlock" => lock::unlock(backend, caller, message!()).await,
            "/v3electionpb.Election/Campaign" => {
                Box::pin(election::campaign(backend, caller, message!())).await
            }
            "/v3electionpb.Election/Proclaim" => election::proclaim(backend, caller, message!()).await,
            "/v3electionpb.Election/Leader" => Box::pin(election::leader(backend, message!())).await,
            "/v3electionpb.Election/Observe" => Ok(election::observe(backend, headers, message!())),
            "/v3electionpb.Election/Resign" => election::resign(backend, caller, message!()).await,
            "/grpc.health.v1.Health/Check" => health::check(&message!()),
            "/grpc.health.v1.Health/List" => {
                let _: HealthListRequest = message!();
                Ok(health::list())
            }
            "/grpc.health.v1.Health/Watch" => Ok(health::watch(backend, headers, &message!())),
            _ => Err(grpc::unknown(path, &SERVICES)),
        }
    }
}

/// The methods that a learner serves (etcd: `isRPCSupportedForLearner`); of ranges, the serializable ones.
const ANSWERED_BY_LEARNERS: [&str; 3] = [
    "/etcdserverpb.KV/Range",
    "/etcdserverpb.Maintenance/Status",
    "/etcdserverpb.Maintenance/Snapshot",
];

/// The longest message that a client may send.
fn message_bytes_max(backend: &impl Backend) -> usize {
    backend.limits().max_request_bytes + GRPC_OVERHEAD_BYTES
}

/// The bytes of names and values.
fn header_bytes(headers: &HeaderMap) -> usize {
    let bytes = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len());
    bytes.sum()
}
