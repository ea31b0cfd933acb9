//! The plain HTTP paths of the peer port, besides our own service between members.
//!
//! Mirrors etcd's server/etcdserver/api/etcdhttp/peer.go, lease/leasehttp/http.go and the hashkv and downgrade handlers of
//! server/etcdserver: tools use these paths. Requests of etcd members under `/raft` are refused as etcd refuses an incompatible
//! version, so that an etcd member logs why it cannot take part.

use super::backend::Backend;
use super::body::Body;
use super::cluster;
use super::http::{JSON, TEXT, error, method_not_allowed, not_found, plain, version};
use super::maintenance;
use super::status::{CallError, EtcdError};
use crate::env;
use crate::ids::MemberId;
use crate::lease::Question;
use crate::proto::etcdserverpb::{
    LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
    ResponseHeader,
};
use crate::requests::Caller;
use crate::version;
use ::http::header::HeaderName;
use ::http::{HeaderValue, Method, Request, Response, StatusCode};
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use prost::Message;
use serde_json::{Value, json};

/// Requests here carry one or two numbers (etcd: `maxLeaseHTTPRequestSize`).
const REQUEST_BYTES_MAX: usize = 64 * 1024;
const PROTOBUF: &str = "application/protobuf";
const CLUSTER_ID: HeaderName = HeaderName::from_static("x-etcd-cluster-id");
const SERVER_VERSION: HeaderName = HeaderName::from_static("x-server-version");
const INCOMPATIBLE: &str = "incompatible version";

/// The request of `/leases/internal` (etcd: leasepb.LeaseInternalRequest).
#[derive(Clone, PartialEq, Message)]
struct LeaseInternalRequest {
    #[prost(message, optional, tag = "1")]
    time_to_live: Option<LeaseTimeToLiveRequest>,
}

#[derive(Clone, PartialEq, Message)]
struct LeaseInternalResponse {
    #[prost(message, optional, tag = "1")]
    time_to_live: Option<LeaseTimeToLiveResponse>,
}

/// Handles a request for one of this port's paths.
pub(super) async fn respond<R>(backend: &impl Backend, request: Request<R>) -> Response<Body>
where
    R: http_body::Body<Data = Bytes>,
    R::Error: Into<axum::BoxError>,
{
    let path = request.uri().path().to_owned();
    if let Some(refusal) = check_method(&path, request.method()) {
        return refusal;
    }
    match path.as_str() {
        "/version" => version(backend),
        "/members" => with_cluster_id(backend, members(backend)),
        "/members/hashkv" => hash_kv(backend, request).await,
        "/leases" => renew(backend, request).await,
        "/leases/internal" => time_to_live(backend, request).await,
        "/downgrade/enabled" => with_cluster_id(
            backend,
            plain(
                StatusCode::OK,
                Some("text/plain"),
                backend.view().cluster.is_downgrading().to_string(),
            ),
        ),
        "/raft/probing" => probing(),
        "/raft" | "/raft/snapshot" => {
            with_cluster_id(backend, error(StatusCode::PRECONDITION_FAILED, INCOMPATIBLE))
        }
        _ if path.starts_with("/raft/stream/") => stream(backend),
        _ => match path.strip_prefix("/members/promote/") {
            Some(id) => with_cluster_id(backend, promote(backend, id).await),
            None => not_found(),
        },
    }
}

/// The refusal of a method that a path does not allow.
fn check_method(path: &str, method: &Method) -> Option<Response<Body>> {
    let leases = ["/leases", "/leases/internal"].contains(&path);
    let posts = ["/raft", "/raft/snapshot"].contains(&path) || path.starts_with("/members/promote/");
    let wanted = if posts || leases {
        Method::POST
    } else {
        Method::GET
    };
    if path == "/raft/probing" || *method == wanted {
        return None;
    }
    Some(if leases {
        // As in etcd, without naming the allowed method.
        error(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed")
    } else {
        method_not_allowed(if posts { "POST" } else { "GET" })
    })
}

fn with_cluster_id(backend: &impl Backend, mut response: Response<Body>) -> Response<Body> {
    let id = backend.identity().cluster_id.to_string();
    let id = HeaderValue::from_str(&id).expect("hexadecimal digits");
    response.headers_mut().insert(CLUSTER_ID, id);
    response
}

fn members(backend: &impl Backend) -> Response<Body> {
    let view = backend.view();
    let mut members: Vec<_> = view.cluster.members.iter().collect();
    members.sort_by_key(|member| member.id);
    // Go leaves out empty fields. The order is that of its struct.
    let members = members.into_iter().map(|member| {
        let mut fields = vec![
            format!("\"id\":{}", member.id),
            format!("\"peerURLs\":{}", json!(member.peer_urls)),
        ];
        if member.is_learner {
            fields.push("\"isLearner\":true".to_owned());
        }
        if !member.name.is_empty() {
            fields.push(format!("\"name\":{}", json!(member.name)));
        }
        if !member.client_urls.is_empty() {
            fields.push(format!("\"clientURLs\":{}", json!(member.client_urls)));
        }
        format!("{{{}}}", fields.join(","))
    });
    let members: Vec<String> = members.collect();
    plain(StatusCode::OK, Some(JSON), format!("[{}]\n", members.join(",")))
}

/// Promotes a learner to a voter; returns all members.
async fn promote(backend: &impl Backend, id: &str) -> Response<Body> {
    let Ok(number) = id.parse::<u64>() else {
        return error(
            StatusCode::NOT_FOUND,
            &format!("member {id} not found in cluster"),
        );
    };
    let view = backend.view();
    match view.member(MemberId(number)) {
        None => error(StatusCode::NOT_FOUND, EtcdError::MemberIdNotFound.text()),
        Some(member) if !member.is_learner => error(
            StatusCode::PRECONDITION_FAILED,
            EtcdError::MemberNotLearner.text(),
        ),
        Some(_) => match cluster::promote(backend, &Caller::default(), number).await {
            Ok(_) => members(backend),
            Err(CallError::Known(EtcdError::LearnerNotReady)) => {
                error(StatusCode::PRECONDITION_FAILED, EtcdError::LearnerNotReady.text())
            }
            Err(failure) => error(StatusCode::INTERNAL_SERVER_ERROR, &failure.to_string()),
        },
    }
}

fn probing() -> Response<Body> {
    let now = crate::logging::utc(env::unix_time());
    plain(
        StatusCode::OK,
        Some(TEXT),
        format!("{{\"OK\":true,\"Now\":\"{now}\"}}\n"),
    )
}

fn stream(backend: &impl Backend) -> Response<Body> {
    let mut response = with_cluster_id(backend, error(StatusCode::PRECONDITION_FAILED, INCOMPATIBLE));
    let version = HeaderValue::from_static(version::SERVER);
    response.headers_mut().insert(SERVER_VERSION, version);
    response
}

async fn body<R>(request: Request<R>) -> Result<Bytes, Response<Body>>
where
    R: http_body::Body<Data = Bytes>,
    R::Error: Into<axum::BoxError>,
{
    let body = Limited::new(request.into_body(), REQUEST_BYTES_MAX);
    match body.collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(failure) if failure.is::<http_body_util::LengthLimitError>() => {
            Err(error(StatusCode::PAYLOAD_TOO_LARGE, "request body too large"))
        }
        Err(_) => Err(error(StatusCode::BAD_REQUEST, "error reading body")),
    }
}

fn undecodable() -> Response<Body> {
    error(StatusCode::BAD_REQUEST, "error unmarshalling request")
}

async fn hash_kv<R>(backend: &impl Backend, request: Request<R>) -> Response<Body>
where
    R: http_body::Body<Data = Bytes>,
    R::Error: Into<axum::BoxError>,
{
    let own = backend.identity().cluster_id.to_string();
    let asked = request.headers().get(CLUSTER_ID).cloned();
    if asked.is_some_and(|id| !id.is_empty() && id.as_bytes() != own.as_bytes()) {
        return error(StatusCode::PRECONDITION_FAILED, "cluster ID mismatch");
    }
    let body = match body(request).await {
        Ok(body) => body,
        Err(refusal) => return refusal,
    };
    let Ok(Value::Object(asked)) = serde_json::from_slice(&body) else {
        return undecodable();
    };
    let revision = match asked.get("revision") {
        None | Some(Value::Null) => 0,
        Some(revision) => match revision.as_i64() {
            Some(revision) => revision,
            None => return undecodable(),
        },
    };
    let view = backend.view();
    let hashed = match maintenance::hash_of(&view, revision).await {
        Ok(hashed) => hashed,
        Err(failure) => return error(StatusCode::BAD_REQUEST, &failure.to_string()),
    };
    let mut fields = vec![format!("\"header\":{{\"revision\":{}}}", view.revision())];
    for (name, number) in [
        ("hash", i64::from(hashed.hash)),
        ("compact_revision", hashed.compact_revision),
        ("hash_revision", hashed.hash_revision),
    ] {
        if number != 0 {
            fields.push(format!("\"{name}\":{number}"));
        }
    }
    let answer = plain(StatusCode::OK, Some(JSON), format!("{{{}}}", fields.join(",")));
    with_cluster_id(backend, answer)
}

async fn renew<R>(backend: &impl Backend, request: Request<R>) -> Response<Body>
where
    R: http_body::Body<Data = Bytes>,
    R::Error: Into<axum::BoxError>,
{
    let request = match body(request).await.map(LeaseKeepAliveRequest::decode) {
        Ok(Ok(request)) => request,
        Ok(Err(_)) => return undecodable(),
        Err(refusal) => return refusal,
    };
    let question = Question {
        id: request.id,
        renew: true,
        keys: false,
    };
    match backend.leases().ask(question).await {
        Ok(answer) if answer.found => protobuf(&LeaseKeepAliveResponse {
            header: None,
            id: request.id,
            ttl: answer.ttl,
        }),
        Ok(_) => error(StatusCode::NOT_FOUND, "lease not found"),
        Err(failure) => error(StatusCode::BAD_REQUEST, &failure.to_string()),
    }
}

async fn time_to_live<R>(backend: &impl Backend, request: Request<R>) -> Response<Body>
where
    R: http_body::Body<Data = Bytes>,
    R::Error: Into<axum::BoxError>,
{
    let asked = match body(request).await.map(LeaseInternalRequest::decode) {
        Ok(Ok(LeaseInternalRequest {
            time_to_live: Some(asked),
        })) => asked,
        Ok(_) => return undecodable(),
        Err(refusal) => return refusal,
    };
    let question = Question {
        id: asked.id,
        renew: false,
        keys: asked.keys,
    };
    match backend.leases().ask(question).await {
        Ok(answer) if answer.found => protobuf(&LeaseInternalResponse {
            time_to_live: Some(LeaseTimeToLiveResponse {
                header: Some(ResponseHeader::default()),
                id: asked.id,
                ttl: answer.ttl,
                granted_ttl: answer.granted_ttl,
                keys: answer.keys,
            }),
        }),
        Ok(_) => error(StatusCode::NOT_FOUND, "lease not found"),
        Err(failure) => error(StatusCode::BAD_REQUEST, &failure.to_string()),
    }
}

fn protobuf(message: &impl Message) -> Response<Body> {
    let mut response = Response::new(Body::plain(message.encode_to_vec()));
    let headers = response.headers_mut();
    headers.insert(::http::header::CONTENT_TYPE, HeaderValue::from_static(PROTOBUF));
    response
}
