//! Routes a request from its path to its handler, without a router: a get must not pay for one.

use super::backend::Backend;
use super::body::Body;
use super::bounds::TxnBounds;
use super::compression::Encoding;
use super::connection::Connection;
use super::cors::Cors;
use super::counted::Counted;
use super::grpc::Reading;
use super::large_work::LargeWork;
use super::ports::{MEMBERS_PACKAGE, PEER_METHODS, PEER_SERVICES, Port};
use super::status::EtcdError;
use super::unread::{ConnectionBudget, UnreadBodies};
use super::{
    auth, check, cluster, election, grpc, health, http, json, kv, lease, lock, maintenance, monitoring,
    peer_port, ports, range_stream, snapshot, watch,
};
use crate::limits::{BACKUPS_MAX, GRPC_OVERHEAD_BYTES, HEADERS_FREE_BYTES, JSON_BYTES_PER_MESSAGE_BYTE};
use crate::metrics::CountedCall;
use crate::proto::etcdserverpb::RangeRequest;
use crate::proto::health::HealthListRequest;
use crate::requests::Caller;
use ::http::{HeaderMap, Method, Request, Response, header};
use bytes::Bytes;
use std::pin::pin;
use std::sync::Arc;
use tokio::sync::watch::Receiver;
use tokio::sync::{Mutex, Semaphore};
use tonic::{Code, Status};

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

/// A method of etcd that is not implemented yet.
const NOT_YET: &str = "/etcdserverpb.Maintenance/Downgrade";

/// A gRPC call without its messages.
pub(super) struct CallHead<'a> {
    pub caller: &'a Caller,
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
            unanswered(&request, services).map(axum::body::Body::new)
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
        }
    }

    /// Handles one request that has a connection of its own.
    pub async fn handle<R>(&self, request: Request<R>) -> Response<Body>
    where
        R: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        R::Error: Into<axum::BoxError> + std::fmt::Display,
    {
        let connection = self.connection(Caller::default());
        // Boxed: a future that is passed on would be held twice.
        Box::pin(self.handle_within(&connection, request)).await
    }

    pub(super) fn connection(&self, caller: Caller) -> Connection {
        Connection {
            unread: self.unread.connection(),
            caller,
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
        if self.port == Port::Metrics || !PACKAGES.iter().any(|package| path.starts_with(package)) {
            // Boxed, so that it does not enlarge the future of gRPC calls.
            return Box::pin(self.handle_http(connection, request)).await;
        }
        if self.more.is_some() && !SERVICES.iter().any(|service| path[1..].starts_with(service)) {
            return Box::pin(self.route(request)).await;
        }
        let (parts, body) = request.into_parts();
        let reading = self.reading(connection.unread.clone(), Encoding::of(&parts.headers));
        let header_bytes = header_bytes(&parts.headers);
        let _room = if header_bytes > HEADERS_FREE_BYTES {
            match reading.unread.take(header_bytes).await {
                Ok(room) => Some(room),
                Err(status) => return status.into_http(),
            }
        } else {
            None
        };
        let head = CallHead {
            caller: &connection.caller,
            path: parts.uri.path(),
            headers: &parts.headers,
        };
        grpc::response(self.invoke(&head, body, &reading).await)
    }

    /// Requests of other members, and of tools that use the paths between etcd's members.
    async fn handle_peer<R>(&self, request: Request<R>) -> Response<Body>
    where
        R: http_body::Body<Data = Bytes> + Send + 'static,
        R::Error: Into<axum::BoxError>,
    {
        let path = request.uri().path();
        if let Some(response) = http::redirect(request.method(), request.uri(), self.port, false) {
            response
        } else if ports::answers(Port::Peers, path) {
            peer_port::respond(&self.backend, request).await
        } else {
            self.route(request).await
        }
    }

    async fn handle_http<R>(&self, connection: &Connection, request: Request<R>) -> Response<Body>
    where
        R: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        R::Error: Into<axum::BoxError> + std::fmt::Display,
    {
        let path = request.uri().path();
        let is_answered = ports::answers(self.port, path);
        if self.port == Port::Metrics {
            if !is_answered {
                return http::not_found();
            }
            let answer = http::respond(self, request.method(), request.uri()).await;
            return answer.unwrap_or_else(http::not_found);
        }
        let origin = request.headers().get(header::ORIGIN).cloned();
        let path = path.to_owned();
        let mut response = if self.cors.is_some() && request.method() == Method::OPTIONS {
            Response::default()
        } else if let Some(response) = http::redirect(request.method(), request.uri(), self.port, self.json) {
            response
        } else if let Some(route) = json::route(&path).filter(|_| self.json) {
            json::respond(self, route, connection, request).await
        } else if !is_answered {
            self.route(request).await
        } else if path == monitoring::LOG_LEVEL_PATH {
            monitoring::set_log_level(request).await
        } else if let Some(response) = http::respond(self, request.method(), request.uri()).await {
            response
        } else {
            self.route(request).await
        };
        if let Some(cors) = &self.cors {
            cors.add_headers(origin, response.headers_mut());
        }
        response
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
        let result = {
            let reply = pin!(async {
                if grpc::requires_leader(headers) && self.backend.raft_status().leader.get() == 0 {
                    return Err(EtcdError::NoLeader.into());
                }
                self.call(&call, head, body, reading).await
            });
            grpc::within_deadline(headers, reply).await
        };
        grpc::counted(call, result)
    }

    async fn route_closed<R>(&self, request: Request<R>) -> Response<Body>
    where
        R: http_body::Body<Data = Bytes> + Send + 'static,
        R::Error: Into<axum::BoxError>,
    {
        if request.uri().path().starts_with(MEMBERS_PACKAGE) {
            self.route(request).await
        } else if grpc::is_grpc(request.headers()) {
            Status::unavailable("this member is still comparing its data with the others").into_http()
        } else {
            http::not_yet()
        }
    }

    async fn route<R>(&self, request: Request<R>) -> Response<Body>
    where
        R: http_body::Body<Data = Bytes> + Send + 'static,
        R::Error: Into<axum::BoxError>,
    {
        use tower_service::Service;
        let Some(mut router) = self.more.clone() else {
            return unanswered(&request, self.services());
        };
        let answer = router.call(request.map(axum::body::Body::new)).await;
        answer
            .unwrap_or_else(|never: std::convert::Infallible| match never {})
            .map(Body::routed)
    }

    async fn call(
        &self,
        call: &CountedCall,
        head: &CallHead<'_>,
        body: impl grpc::RequestBody + 'static,
        reading: &Reading,
    ) -> Result<Body, Status> {
        let (backend, caller, large) = (&self.backend, head.caller, &self.large);
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
                kv::put(backend, caller, grpc::flat_message(body, reading, call).await?).await
            }
            "/etcdserverpb.KV/Txn" => {
                let request = {
                    let (encoded, _room) = grpc::whole_message(body, reading, call).await?;
                    let bounds = TxnBounds::of(backend.limits().max_txn_ops);
                    large
                        .run(encoded.len(), move || check::read_txn(encoded, bounds))
                        .await?
                };
                kv::txn(backend, caller, large, request).await
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
        let CallHead { caller, headers, .. } = *head;
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
            NOT_YET => Err(EtcdError::NotCapable.into()),
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

/// The response to a request that has no handler, in the form of gRPC or of HTTP.
fn unanswered<R>(request: &Request<R>, services: &[&str]) -> Response<Body> {
    if grpc::is_grpc(request.headers()) {
        let status = grpc::unknown(request.uri().path(), services);
        debug_assert_eq!(status.code(), Code::Unimplemented);
        return status.into_http();
    }
    http::not_found()
}
