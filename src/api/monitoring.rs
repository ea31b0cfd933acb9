//! Plain HTTP for operators' tools: `/metrics`, `/debug/vars`, and the log level.
//!
//! Mirrors etcd's server/etcdserver/api/etcdhttp/{metrics,debug}.go, and 3.4's `/config/local/log`, which later versions do not
//! have. `/debug/pprof` and `/debug/requests` show the inside of a Go program and are not here.

use super::backend::Backend;
use super::body::Body;
use super::http::{JSON, method_not_allowed, plain};
use super::maintenance;
use super::routes::Routes;
use crate::env::{self, ProcessUsage};
use crate::limits::METRICS_TEXT_AGE_MAX;
use crate::logging;
use crate::metrics::{CONTENT_TYPE, Observed};
use crate::requests::RaftDetails;
use crate::version;
use ::http::{Method, Request, Response, StatusCode};
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, PoisonError};

/// The path that sets the log level.
pub const LOG_LEVEL_PATH: &str = "/config/local/log";
/// The longest request to set it.
const LOG_LEVEL_BYTES_MAX: usize = 1024;

/// The newest text of `/metrics` and when it was made. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct MetricsText(Arc<Mutex<Option<(env::Instant, Bytes)>>>);

impl MetricsText {
    /// Returns the newest text if it is recent enough, else makes a new one. Concurrent callers wait for it.
    fn get(&self, make: impl FnOnce() -> String) -> Bytes {
        let mut newest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = env::now();
        match &*newest {
            Some((made, text)) if now - *made < METRICS_TEXT_AGE_MAX => text.clone(),
            _ => {
                let text = Bytes::from(make());
                *newest = Some((now, text.clone()));
                text
            }
        }
    }
}

/// `/metrics`.
pub fn metrics<B: Backend>(routes: &Routes<B>) -> Response<Body> {
    let backend = routes.backend();
    let text = routes
        .metrics_text()
        .get(|| backend.metrics().text(&observe(backend)));
    plain(StatusCode::OK, Some(CONTENT_TYPE), text)
}

fn observe(backend: &impl Backend) -> Observed {
    let view = backend.view();
    let raft = backend.raft_status();
    let own = backend.identity().member_id;
    let sizes = maintenance::sizes(backend, &view);
    Observed {
        member: own,
        version: version::SERVER,
        cluster_version: view.cluster.version.clone(),
        has_leader: raft.leader.get() != 0,
        is_leader: raft.leader == own,
        is_learner: view.is_learner(own),
        committed: raft.commit_index.get(),
        applied: raft.applied_index.get(),
        proposals_pending: backend.proposals_pending() as u64,
        quota_bytes: sizes.quota_bytes,
        state_bytes: sizes.stored_bytes,
        state_in_use_bytes: sizes.in_use_bytes,
        revision: view.revision(),
        compact_revision: view.compact_revision(),
        keys: view.applied.keys,
        compacted_records: view.state.dropped_records(),
        members: view
            .cluster
            .members
            .iter()
            .map(|member| member.id.into())
            .collect(),
        process: env::process_usage(),
    }
}

/// `/debug/vars` in the form of Go's expvar. `memstats` holds what the operating system reports.
pub async fn variables(backend: &impl Backend) -> Response<Body> {
    let details = backend.raft_details().await.unwrap_or_default();
    let usage = env::process_usage();
    let memory = usage.map_or(json!({}), |usage| {
        json!({ "Alloc": usage.resident_bytes, "HeapAlloc": usage.resident_bytes, "Sys": usage.virtual_bytes })
    });
    let open_files_max = usage.map_or(0, |usage: ProcessUsage| usage.open_files_max);
    let variables = [
        ("cmdline", json!(env::arguments())),
        ("file_descriptor_limit", json!(open_files_max)),
        ("memstats", memory),
        ("raft.status", raft_status(backend, &details)),
    ];
    let lines: Vec<String> = variables
        .iter()
        .map(|(name, value)| format!("\"{name}\": {value}"))
        .collect();
    let text = format!("{{\n{}\n}}\n", lines.join(",\n"));
    plain(StatusCode::OK, Some("application/json; charset=utf-8"), text)
}

fn raft_status(backend: &impl Backend, details: &RaftDetails) -> Value {
    let raft = backend.raft_status();
    let hex = |id: u64| format!("{id:x}");
    let progress: serde_json::Map<String, Value> = details
        .progress
        .iter()
        .map(|member| {
            let progress =
                json!({ "match": member.matched.get(), "next": member.next.get(), "state": member.state });
            (member.id.to_string(), progress)
        })
        .collect();
    json!({
        "id": backend.identity().member_id.to_string(),
        "term": raft.term.get(),
        "vote": hex(details.vote.get()),
        "commit": raft.commit_index.get(),
        "lead": hex(raft.leader.get()),
        "raftState": details.role,
        "applied": raft.applied_index.get(),
        "progress": progress,
        "leadtransferee": hex(details.transferee.get()),
    })
}

/// Sets the log level until the next start: `{"Level":"DEBUG"}`.
pub async fn set_log_level<R>(request: Request<R>) -> Response<Body>
where
    R: http_body::Body<Data = Bytes>,
    R::Error: Into<axum::BoxError>,
{
    if request.method() != Method::PUT {
        return method_not_allowed("PUT");
    }
    let refused = |message: String| {
        let text = json!({ "message": message }).to_string();
        plain(StatusCode::BAD_REQUEST, Some(JSON), text)
    };
    let Ok(body) = Limited::new(request.into_body(), LOG_LEVEL_BYTES_MAX)
        .collect()
        .await
    else {
        return refused("Invalid json body".to_owned());
    };
    let Ok(Value::Object(asked)) = serde_json::from_slice(&body.to_bytes()) else {
        return refused("Invalid json body".to_owned());
    };
    // Go ignores the case of field names, and a missing field is empty.
    let mut fields = asked.iter();
    let level = fields.find(|(name, _)| name.eq_ignore_ascii_case("level"));
    let level = level.map_or("", |(_, value)| value.as_str().unwrap_or_default());
    let Some(parsed) = log_level(level) else {
        return refused(format!("Invalid log level {level}"));
    };
    tracing::warn!(level = parsed.as_str(), "changing the log level");
    logging::set_level(parsed);
    plain(StatusCode::NO_CONTENT, None, String::new())
}

/// 3.4 uses capnslog's level names here; each maps to a level of zap.
fn log_level(name: &str) -> Option<logging::Level> {
    use logging::Level;
    Some(match name.to_ascii_uppercase().as_str() {
        "CRITICAL" | "C" | "FATAL" => Level::Fatal,
        "PANIC" => Level::Panic,
        "ERROR" | "E" | "0" => Level::Error,
        "WARNING" | "WARN" | "W" | "1" => Level::Warn,
        "NOTICE" | "N" | "2" | "INFO" | "I" | "3" => Level::Info,
        "DEBUG" | "D" | "4" | "TRACE" | "T" | "5" => Level::Debug,
        _ => return None,
    })
}
