//! From the path of a request to what answers it, without a router: a get must not pay for one.

use super::backend::Backend;
use super::body::Body;
use super::status::ApiError;
use super::{cluster, grpc, http, kv, lease, maintenance, range_stream, watch};
use crate::limits::GRPC_OVERHEAD_BYTES;
use ::http::{Request, Response};
use bytes::Bytes;
use std::sync::Arc;
use tokio::sync::Mutex;
use tokio::sync::watch::Receiver;
use tonic::{Code, Status};

/// Services of which at least one method is answered here.
const SERVICES: [&str; 5] = [
    "etcdserverpb.KV",
    "etcdserverpb.Watch",
    "etcdserverpb.Lease",
    "etcdserverpb.Cluster",
    "etcdserverpb.Maintenance",
];

/// Methods that exist in etcd and do not exist here yet.
const NOT_YET: [&str; 7] = [
    "/etcdserverpb.Cluster/MemberAdd",
    "/etcdserverpb.Cluster/MemberRemove",
    "/etcdserverpb.Cluster/MemberUpdate",
    "/etcdserverpb.Cluster/MemberPromote",
    "/etcdserverpb.Maintenance/Snapshot",
    "/etcdserverpb.Maintenance/MoveLeader",
    "/etcdserverpb.Maintenance/Downgrade",
];

/// Everything that one port answers. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Routes<B> {
    backend: B,
    more: Option<axum::Router>,
    defragmenting: Arc<Mutex<()>>,
    opened: Option<Receiver<bool>>,
}

impl<B: Backend> Routes<B> {
    /// The client API over `backend`.
    pub fn new(backend: B) -> Self {
        Self {
            backend,
            more: None,
            defragmenting: Arc::default(),
            opened: None,
        }
    }

    /// Answers nobody before `opened` is true, but who asks for the services of the added router.
    #[must_use]
    pub fn closed_until(mut self, opened: Receiver<bool>) -> Self {
        self.opened = Some(opened);
        self
    }

    /// Adds services of a router, such as tonic's `Routes::into_axum_router` makes. They get what is not answered here.
    #[must_use]
    pub fn with(mut self, router: axum::Router) -> Self {
        self.more = Some(router.fallback(async |request: Request<axum::body::Body>| {
            unanswered(&request).map(axum::body::Body::new)
        }));
        self
    }

    /// Answers one request. Runs on the task of the request.
    pub async fn handle<R>(&self, request: Request<R>) -> Response<Body>
    where
        R: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        R::Error: Into<axum::BoxError> + std::fmt::Display,
    {
        if let Some(opened) = &self.opened
            && !*opened.borrow()
        {
            return self.route_closed(request).await;
        }
        let path = request.uri().path();
        if path.starts_with("/etcdserverpb.") {
            if self.more.is_some() && !SERVICES.iter().any(|service| path[1..].starts_with(service)) {
                return self.route(request).await;
            }
            let (parts, body) = request.into_parts();
            let reply = async {
                if grpc::requires_leader(&parts.headers) && self.backend.raft_status().leader.get() == 0 {
                    return Err(ApiError::NoLeader.into());
                }
                self.call(&parts, body).await
            };
            return grpc::response(grpc::within_deadline(&parts.headers, reply).await);
        }
        if let Some(response) = http::respond(&self.backend, request.method(), request.uri()).await {
            return response;
        }
        self.route(request).await
    }

    async fn route_closed<R>(&self, request: Request<R>) -> Response<Body>
    where
        R: http_body::Body<Data = Bytes> + Send + 'static,
        R::Error: Into<axum::BoxError>,
    {
        if request.uri().path().starts_with("/callboard.") {
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
            return unanswered(&request);
        };
        let answer = router.call(request.map(axum::body::Body::new)).await;
        answer
            .unwrap_or_else(|never: std::convert::Infallible| match never {})
            .map(Body::routed)
    }

    async fn call(
        &self,
        parts: &::http::request::Parts,
        body: impl grpc::RequestBody + 'static,
    ) -> Result<Body, Status> {
        let backend = &self.backend;
        let path = parts.uri.path();
        let bytes_max = backend.limits().max_request_bytes + GRPC_OVERHEAD_BYTES;
        macro_rules! message {
            () => {
                grpc::message(body, bytes_max).await?
            };
        }
        match path {
            "/etcdserverpb.KV/Range" => kv::range(backend, message!()).await,
            "/etcdserverpb.KV/Put" => kv::put(backend, message!()).await,
            "/etcdserverpb.KV/Txn" => kv::txn(backend, message!()).await,
            "/etcdserverpb.KV/DeleteRange" => kv::delete_range(backend, message!()).await,
            "/etcdserverpb.KV/Compact" => kv::compact(backend, message!()).await,
            "/etcdserverpb.KV/RangeStream" => range_stream::range_stream(backend, message!()).await,
            "/etcdserverpb.Watch/Watch" => Ok(watch::watch(backend, &parts.headers, body, bytes_max)),
            "/etcdserverpb.Lease/LeaseGrant" => lease::grant(backend, message!()).await,
            "/etcdserverpb.Lease/LeaseRevoke" => lease::revoke(backend, message!()).await,
            "/etcdserverpb.Lease/LeaseKeepAlive" => Ok(lease::keep_alive(backend, body, bytes_max)),
            "/etcdserverpb.Lease/LeaseTimeToLive" => lease::time_to_live(backend, message!()).await,
            "/etcdserverpb.Lease/LeaseLeases" => lease::leases(backend, message!()).await,
            "/etcdserverpb.Cluster/MemberList" => cluster::member_list(backend, message!()).await,
            "/etcdserverpb.Maintenance/Status" => Ok(maintenance::status(backend, message!())),
            "/etcdserverpb.Maintenance/Alarm" => maintenance::alarm(backend, message!()).await,
            "/etcdserverpb.Maintenance/HashKV" => maintenance::hash_kv(backend, message!()).await,
            "/etcdserverpb.Maintenance/Hash" => maintenance::hash_all(backend, message!()).await,
            "/etcdserverpb.Maintenance/Defragment" => {
                maintenance::defragment(backend, message!(), &self.defragmenting).await
            }
            _ if NOT_YET.contains(&path) => Err(ApiError::NotCapable.into()),
            _ => Err(grpc::unknown(path, &SERVICES)),
        }
    }
}

/// What nobody answers: in gRPC's way or in HTTP's.
fn unanswered<R>(request: &Request<R>) -> Response<Body> {
    if grpc::is_grpc(request.headers()) {
        let status = grpc::unknown(request.uri().path(), &SERVICES);
        debug_assert_eq!(status.code(), Code::Unimplemented);
        return status.into_http();
    }
    http::not_found()
}
