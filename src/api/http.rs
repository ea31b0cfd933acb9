//! etcd's plain HTTP paths: /version, /health, /livez and /readyz (server/etcdserver/api/etcdhttp/{version,health}.go).
//!
//! Texts, codes and headers are etcd's. The checks are printed in a fixed order, where etcd's order is that of a hash map.

use super::backend::Backend;
use super::body::Body;
use super::ports::Port;
use super::routes::Routes;
use super::status::CallError;
use super::{kv, monitoring};
use crate::proto::etcdserverpb::{AlarmType, RangeRequest};
use crate::storage::state::alarms::RaisedAlarm;
use crate::version;
use ::http::header::{self, HeaderName};
use ::http::{HeaderValue, Method, Response, StatusCode, Uri};
use bytes::Bytes;
use std::fmt::Write;

pub(super) const JSON: &str = "application/json";
pub(super) const TEXT: &str = "text/plain; charset=utf-8";
const NO_SNIFF: HeaderName = header::X_CONTENT_TYPE_OPTIONS;

/// A health check of the member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    DataCorruption,
    SerializableRead,
    LinearizableRead,
    NonLearner,
}

const LIVE: [Check; 1] = [Check::SerializableRead];
const READY: [Check; 4] = [
    Check::DataCorruption,
    Check::SerializableRead,
    Check::LinearizableRead,
    Check::NonLearner,
];

impl Check {
    fn name(self) -> &'static str {
        match self {
            Self::DataCorruption => "data_corruption",
            Self::SerializableRead => "serializable_read",
            Self::LinearizableRead => "linearizable_read",
            Self::NonLearner => "non_learner",
        }
    }

    async fn run(self, backend: &impl Backend) -> Result<(), String> {
        match self {
            Self::DataCorruption => {
                let corrupt = backend.view().alarms.any(AlarmType::Corrupt);
                let failed = || format!("alarm activated: {}", AlarmType::Corrupt.as_str_name());
                if corrupt { Err(failed()) } else { Ok(()) }
            }
            Self::SerializableRead => read(backend, true).await,
            Self::LinearizableRead => read(backend, false).await,
            Self::NonLearner => {
                if backend.view().is_learner(backend.identity().member_id) {
                    return Err("not supported for learner".to_owned());
                }
                Ok(())
            }
        }
    }
}

/// Handles one of the paths; none for any other path.
pub async fn respond<B: Backend>(routes: &Routes<B>, method: &Method, uri: &Uri) -> Option<Response<Body>> {
    let backend = routes.backend();
    let path = uri.path();
    let checks: &[Check] = match path {
        "/version" | "/health" | "/metrics" | "/debug/vars" => &[],
        "/livez" => &LIVE,
        "/readyz" => &READY,
        _ => std::slice::from_ref(single_check(path)?),
    };
    // Prometheus' handler takes any method.
    if method != Method::GET && path != "/metrics" {
        return Some(method_not_allowed("GET"));
    }
    let query = Query::of(uri);
    Some(match path {
        "/metrics" => monitoring::metrics(routes),
        "/debug/vars" => monitoring::variables(backend).await,
        "/version" => version(backend),
        "/health" => health(backend, &query).await,
        "/livez" | "/readyz" => {
            let wanted = |check: &&Check| !query.values("exclude").any(|name| name == check.name());
            let checks: Vec<Check> = checks.iter().filter(wanted).copied().collect();
            run_checks(backend, kind(path), &checks, &query).await
        }
        _ => run_checks(backend, kind(path), checks, &query).await,
    })
}

/// The response of Go's mux to an unknown path.
pub fn not_found() -> Response<Body> {
    error(StatusCode::NOT_FOUND, "404 page not found")
}

/// The response of a member that does not serve yet.
pub fn not_yet() -> Response<Body> {
    error(StatusCode::SERVICE_UNAVAILABLE, "not serving yet")
}

/// Redirects clients to the clean form of a path, as Go's mux does: without double slashes and dots.
pub fn redirect(method: &Method, uri: &Uri, port: Port, json: bool) -> Option<Response<Body>> {
    let path = uri.path();
    let is_tree = (json && path == "/v3") || (port == Port::Peers && path == "/raft/stream");
    let mut target = if is_tree {
        format!("{path}/")
    } else if path.contains("//") || path.contains("/.") {
        cleaned(path)
    } else {
        return None;
    };
    if target == path {
        return None;
    }
    if let Some(query) = uri.query() {
        target.push('?');
        target.push_str(query);
    }
    let location = HeaderValue::from_str(&target).ok()?;
    let mut response = if method == Method::GET || method == Method::HEAD {
        let link = target.replace('&', "&amp;").replace('"', "&#34;");
        let text = format!("<a href=\"{link}\">Temporary Redirect</a>.\n\n");
        plain(
            StatusCode::TEMPORARY_REDIRECT,
            Some("text/html; charset=utf-8"),
            text,
        )
    } else {
        plain(StatusCode::TEMPORARY_REDIRECT, None, String::new())
    };
    response.headers_mut().insert(header::LOCATION, location);
    Some(response)
}

fn cleaned(path: &str) -> String {
    let mut segments = vec![];
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            other => segments.push(other),
        }
    }
    let mut clean = format!("/{}", segments.join("/"));
    if path.ends_with('/') && clean != "/" {
        clean.push('/');
    }
    clean
}

fn single_check(path: &str) -> Option<&'static Check> {
    let (checks, name): (&'static [Check], _) = match path.strip_prefix("/livez/") {
        Some(name) => (&LIVE, name),
        None => (&READY, path.strip_prefix("/readyz/")?),
    };
    checks.iter().find(|check| check.name() == name)
}

pub(super) fn version(backend: &impl Backend) -> Response<Body> {
    let view = backend.view();
    let cluster = match view.cluster.version.as_str() {
        "" => "not_decided",
        version => version,
    };
    let text = format!(
        "{{\"etcdserver\":\"{}\",\"etcdcluster\":\"{cluster}\",\"storage\":\"{}\"}}",
        version::SERVER,
        view.cluster.storage_version()
    );
    plain(StatusCode::OK, Some(JSON), text)
}

async fn health(backend: &impl Backend, query: &Query) -> Response<Body> {
    let serializable = query.values("serializable").next() == Some("true");
    let reason = if let Some(alarm) = alarm(backend, query) {
        Some(alarm)
    } else if !serializable && backend.raft_status().leader.get() == 0 {
        Some("RAFT NO LEADER".to_owned())
    } else {
        let outcome = read(backend, serializable).await;
        outcome.err().map(|error| format!("RANGE ERROR:{error}"))
    };
    let text = |health, reason: &str| {
        let reason = serde_json::Value::from(reason);
        format!("{{\"health\":\"{health}\",\"reason\":{reason}}}")
    };
    let metrics = &backend.metrics().health;
    match reason {
        None => {
            metrics.successes.inc();
            plain(StatusCode::OK, Some(TEXT), text("true", ""))
        }
        Some(reason) => {
            metrics.failures.inc();
            let output = text("false", &reason);
            tracing::warn!(output, "status-code" = 503, "/health error");
            error(StatusCode::SERVICE_UNAVAILABLE, &output)
        }
    }
}

/// The first part of a path: `livez` or `readyz`.
fn kind(path: &str) -> &str {
    path.split('/').nth(1).unwrap_or_default()
}

/// The first alarm that the caller does not exclude.
fn alarm(backend: &impl Backend, query: &Query) -> Option<String> {
    let view = backend.view();
    let counts = |name: &String| !query.values("exclude").any(|excluded| excluded == name);
    let name = view.alarms.iter().map(RaisedAlarm::name).find(counts)?;
    let known = ["NOSPACE", "CORRUPT"].contains(&name.as_str());
    Some(format!("ALARM {}", if known { &name } else { "UNKNOWN" }))
}

async fn run_checks(backend: &impl Backend, kind: &str, checks: &[Check], query: &Query) -> Response<Body> {
    let mut report = String::new();
    let mut failed = false;
    for check in checks {
        let name = check.name();
        let outcome = check.run(backend).await;
        backend.metrics().health.checked(name, kind, outcome.is_ok());
        // Writing to a string cannot fail.
        let _ = match outcome {
            Ok(()) => writeln!(report, "[+]{name} ok"),
            Err(error) => {
                failed = true;
                writeln!(report, "[-]{name} failed: {error}")
            }
        };
    }
    if failed {
        tracing::warn!(reason = report, "status-code" = 503, "Health check error");
        return error(StatusCode::SERVICE_UNAVAILABLE, &report);
    }
    if query.values("verbose").next().is_none() {
        report.clear();
    }
    report.push_str("ok\n");
    no_sniff(plain(StatusCode::OK, Some(TEXT), report))
}

/// etcd reads an arbitrary key here.
async fn read(backend: &impl Backend, serializable: bool) -> Result<(), String> {
    let text = |failure: CallError| failure.to_string();
    let view = kv::view(backend, serializable).await.map_err(text)?;
    let request = RangeRequest {
        key: bytes::Bytes::from_static(b"health"),
        keys_only: true,
        limit: 1,
        ..RangeRequest::default()
    };
    backend.metrics().store.ranges.inc();
    let scan = view.range(&request).map_err(|error| text(error.into()))?;
    kv::run(scan).await.map_err(|error| text(error.into()))?;
    Ok(())
}

pub(super) fn plain(
    status: StatusCode,
    content_type: Option<&'static str>,
    text: impl Into<Bytes>,
) -> Response<Body> {
    let mut response = Response::new(Body::plain(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let mut insert = |name, value| headers.insert(name, HeaderValue::from_static(value));
    if let Some(content_type) = content_type {
        insert(header::CONTENT_TYPE, content_type);
    }
    response
}

pub(super) fn method_not_allowed(allowed: &'static str) -> Response<Body> {
    let mut response = error(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    let allowed = HeaderValue::from_static(allowed);
    response.headers_mut().insert(header::ALLOW, allowed);
    response
}

/// In the form of Go's `http.Error`.
pub(super) fn error(status: StatusCode, text: &str) -> Response<Body> {
    no_sniff(plain(status, Some(TEXT), format!("{text}\n")))
}

fn no_sniff(mut response: Response<Body>) -> Response<Body> {
    response
        .headers_mut()
        .insert(NO_SNIFF, HeaderValue::from_static("nosniff"));
    response
}

struct Query(Vec<(String, String)>);

impl Query {
    fn of(uri: &Uri) -> Self {
        let query = uri.query().unwrap_or_default().as_bytes();
        Self(url::form_urlencoded::parse(query).into_owned().collect())
    }

    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let named = move |(key, value): &'a (String, String)| (key == name).then_some(value.as_str());
        self.0.iter().filter_map(named)
    }
}
