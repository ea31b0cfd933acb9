//! The Maintenance service, as far as it exists. Mirrors etcd's server/etcdserver/api/v3rpc/maintenance.go.
//!
//! There are no alarms and no quota yet: the list of alarms is empty and the quota is reported as 0.

use super::backend::{Backend, header};
use super::body::Body;
use super::status::{ApiError, Failure};
use crate::config;
use crate::env;
use crate::limits::SCAN_SLICE_KEYS;
use crate::mvcc::hash::KeyValueHash;
use crate::mvcc::range::Progress;
use crate::proto::etcdserverpb::alarm_request::AlarmAction;
use crate::proto::etcdserverpb::{
    AlarmRequest, AlarmResponse, DefragmentRequest, DefragmentResponse, DowngradeInfo, HashKvRequest,
    HashKvResponse, HashRequest, HashResponse, StatusRequest, StatusResponse,
};
use prometheus::Histogram;
use std::sync::Arc;
use tokio::sync::{Mutex, oneshot};
use tonic::Status;

pub fn status(backend: &impl Backend, _: StatusRequest) -> Body {
    let view = backend.view();
    let raft = backend.raft_status();
    let own_id = backend.identity().member_id.get();
    let mut members = view.cluster.members.iter();
    let errors = if raft.leader.get() == 0 {
        vec![ApiError::NoLeader.text().to_owned()]
    } else {
        vec![]
    };
    // The engine reclaims space by itself: what it takes is what it needs.
    let bytes = view.state.disk_bytes() as i64;
    Body::message(&StatusResponse {
        header: Some(header(backend, view.revision())),
        version: config::VERSION.to_owned(),
        db_size: bytes,
        db_size_in_use: bytes,
        leader: raft.leader.get(),
        raft_index: raft.commit_index.get(),
        raft_term: raft.term.get(),
        raft_applied_index: raft.applied_index.get(),
        errors,
        is_learner: members.any(|member| member.id == own_id && member.is_learner),
        storage_version: config::CLUSTER_VERSION.to_owned(),
        db_size_quota: 0,
        downgrade_info: Some(DowngradeInfo::default()),
    })
}

pub fn alarm(backend: &impl Backend, request: &AlarmRequest) -> Result<Body, Status> {
    match AlarmAction::try_from(request.action) {
        // Nothing can be raised, so there is nothing to list, and nothing left to disarm.
        Ok(AlarmAction::Get | AlarmAction::Deactivate) => Ok(Body::message(&AlarmResponse {
            header: Some(header(backend, backend.view().revision())),
            alarms: vec![],
        })),
        _ => Err(ApiError::NotCapable.into()),
    }
}

pub async fn hash_kv(backend: &impl Backend, request: HashKvRequest) -> Result<Body, Status> {
    let timer = &backend.metrics().store.hash_revision_seconds;
    let (hashed, revision) = hash(backend, request.revision, timer).await?;
    Ok(Body::message(&HashKvResponse {
        header: Some(header(backend, revision)),
        hash: hashed.hash,
        compact_revision: hashed.compact_revision,
        hash_revision: hashed.hash_revision,
    }))
}

/// etcd hashes its file's buckets here; there is no such file, so the key space has to do.
pub async fn hash_all(backend: &impl Backend, _: HashRequest) -> Result<Body, Status> {
    let timer = &backend.metrics().store.hash_seconds;
    let (hashed, revision) = hash(backend, 0, timer).await?;
    Ok(Body::message(&HashResponse {
        header: Some(header(backend, revision)),
        hash: hashed.hash,
    }))
}

async fn hash(
    backend: &impl Backend,
    revision: i64,
    timer: &Histogram,
) -> Result<(KeyValueHash, i64), Failure> {
    let begin = env::now();
    let view = backend.view();
    let mut scan = view.hash_scan(revision)?;
    while scan.advance(SCAN_SLICE_KEYS)? == Progress::More {
        env::yield_now().await;
    }
    timer.observe((env::now() - begin).as_secs_f64());
    Ok((scan.into_hash(), view.revision()))
}

/// Rewrites the state on a thread of its own, one request at a time. Reads and writes go on meanwhile.
pub async fn defragment(
    backend: &impl Backend,
    _: DefragmentRequest,
    one_at_a_time: &Mutex<()>,
) -> Result<Body, Status> {
    let _turn = one_at_a_time.lock().await;
    tracing::info!("starting defragment");
    let metrics = Arc::clone(&backend.metrics().store);
    let state = Arc::clone(&backend.view().state);
    let (done, result) = oneshot::channel();
    // The thread reports by the channel; if the caller has left, nobody listens.
    let _detached = env::thread("defragment", 1, move || async move {
        metrics.defragmenting.set(1);
        let begin = env::now();
        let outcome = state.rewrite();
        metrics
            .defragment_seconds
            .observe((env::now() - begin).as_secs_f64());
        metrics.defragmenting.set(0);
        let _ = done.send(outcome);
    });
    match result.await {
        Ok(Ok(())) => {
            tracing::info!("finished defragment");
            Ok(Body::message(&DefragmentResponse::default()))
        }
        Ok(Err(error)) => {
            tracing::warn!(error = %error, "failed to defragment");
            Err(Failure::from(error).into())
        }
        Err(_) => Err(ApiError::Stopped.into()),
    }
}
