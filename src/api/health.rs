//! gRPC's health service for probes and load balancers: the health of the server as a whole, under the empty name.
//!
//! Mirrors what etcd registers in server/etcdserver/api/v3rpc/grpc.go. A server that can reply is serving. `/health` and
//! `/readyz` tell whether there is a leader and space on the disk.

use super::backend::Backend;
use super::body::{Body, frame};
use super::grpc::requires_leader;
use crate::proto::health::health_check_response::ServingStatus;
use crate::proto::health::{HealthCheckRequest, HealthCheckResponse, HealthListResponse};
use crate::watch::HubStream;
use ::http::HeaderMap;
use futures_util::StreamExt;
use futures_util::stream::{once, poll_fn};
use tonic::Status;

/// The name of the server as a whole.
const SERVER: &str = "";

fn answer(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: status.into(),
    }
}

pub fn check(request: &HealthCheckRequest) -> Result<Body, Status> {
    if request.service == SERVER {
        Ok(Body::message(&answer(ServingStatus::Serving)))
    } else {
        Err(Status::not_found("unknown service"))
    }
}

pub fn list() -> Body {
    let server = (SERVER.to_owned(), answer(ServingStatus::Serving));
    Body::message(&HealthListResponse {
        statuses: [server].into(),
    })
}

/// Sends the status as of now, and nothing more until the member stops. `headers` are those of the call.
pub fn watch(backend: &impl Backend, headers: &HeaderMap, request: &HealthCheckRequest) -> Body {
    let status = if request.service == SERVER {
        ServingStatus::Serving
    } else {
        ServingStatus::ServiceUnknown
    };
    let now = frame(&answer(status));
    let end = HubStream::open(backend.watches(), requires_leader(headers));
    let ended = poll_fn(move |context| super::watch::poll_end(&end, context));
    Body::messages(Box::pin(once(async { now }).chain(ended)))
}
