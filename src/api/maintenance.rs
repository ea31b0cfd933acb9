//! The Maintenance service, as far as it is implemented. Mirrors etcd's server/etcdserver/api/v3rpc/maintenance.go.

use super::backend::{Backend, header};
use super::body::Body;
use super::proposal::propose;
use super::status::{CallError, EtcdError};
use crate::env;
use crate::ids::MemberId;
use crate::limits;
use crate::mutants::{self, Mutant};
use crate::proto::etcdserverpb::{
    AlarmRequest, DefragmentRequest, DefragmentResponse, DowngradeInfo, HashKvRequest, HashKvResponse,
    HashRequest, HashResponse, MoveLeaderRequest, MoveLeaderResponse, StatusRequest, StatusResponse,
};
use crate::proto::log::AlarmCommand;
use crate::requests::Caller;
use crate::state::View;
use crate::state::mvcc::hash::KeyValueHash;
use crate::state::mvcc::range::Progress;
use crate::storage::state::alarms::RaisedAlarm;
use crate::version;
use prost::Message;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, oneshot};
use tonic::Status;

/// A transfer of leadership takes an election. The call gives up after this time (etcd: as long as the caller waits).
const LEADER_TRANSFER_TIMEOUT: Duration = Duration::from_secs(10);
const LEADER_TRANSFER_INTERVAL: Duration = Duration::from_millis(10);

pub fn status(backend: &impl Backend, _: StatusRequest) -> Body {
    let view = backend.view();
    let raft = backend.raft_status();
    let no_leader = (raft.leader.get() == 0).then(|| EtcdError::NoLeader.text().to_owned());
    let errors = no_leader.into_iter().chain(view.alarms.iter().map(alarm_text));
    let sizes = sizes(backend, &view);
    Body::message(&StatusResponse {
        header: Some(header(backend, view.revision())),
        version: version::SERVER.to_owned(),
        db_size: sizes.stored_bytes as i64,
        db_size_in_use: sizes.in_use_bytes as i64,
        leader: raft.leader.get(),
        raft_index: raft.commit_index.get(),
        raft_term: raft.term.get(),
        raft_applied_index: raft.applied_index.get(),
        errors: errors.collect(),
        is_learner: view.is_learner(backend.identity().member_id),
        storage_version: view.cluster.storage_version().to_owned(),
        db_size_quota: sizes.quota_bytes,
        downgrade_info: Some(DowngradeInfo {
            enabled: view.cluster.is_downgrading(),
            target_version: view.cluster.downgrade_target.clone(),
        }),
    })
}

/// The sizes that a member reports about its space.
#[allow(clippy::struct_field_names)] // the unit belongs to the name
pub(super) struct Sizes {
    pub(super) stored_bytes: u64,
    pub(super) in_use_bytes: u64,
    /// As configured if there is no quota, as in etcd.
    pub(super) quota_bytes: i64,
}

pub(super) fn sizes(backend: &impl Backend, view: &View) -> Sizes {
    // There is always a member, so this is never 0: etcd's file is never empty either, and clients of 3.4 leave out a 0.
    let in_use_bytes = view.applied.usage.live_bytes() + view.cluster.encoded_len() as u64;
    let rules = backend.space().rules();
    Sizes {
        // The engine can store little data in less space than its parts are counted with.
        stored_bytes: view.state.disk_bytes().max(in_use_bytes),
        in_use_bytes,
        quota_bytes: rules.quota().map_or(rules.quota_bytes, |quota| quota as i64),
    }
}

/// In protobuf's text form.
fn alarm_text(alarm: RaisedAlarm) -> String {
    let name = alarm.name();
    match alarm.member_id {
        0 => format!("alarm:{name}"),
        id => format!("memberID:{id} alarm:{name}"),
    }
}

/// Goes through the log even to list alarms: so the list holds every alarm that was raised before on any member.
pub async fn alarm(backend: &impl Backend, caller: &Caller, request: AlarmRequest) -> Result<Body, Status> {
    let command = AlarmCommand {
        request: Some(request),
        by_member: false,
    };
    Ok(Body::message(&propose(backend, caller, command).await?))
}

/// Transfers the leadership to the target, if this member leads, and returns once the target leads.
pub async fn move_leader(backend: &impl Backend, request: MoveLeaderRequest) -> Result<Body, Status> {
    let target = MemberId(request.target_id);
    if backend.raft_status().leader != backend.identity().member_id {
        return Err(EtcdError::NotLeader.into());
    }
    let view = backend.view();
    if view.member(target).is_none_or(|member| member.is_learner) {
        return Err(EtcdError::BadLeaderTransferee.into());
    }
    drop(view);
    backend.hand_over_leadership(target);
    let deadline = env::now() + LEADER_TRANSFER_TIMEOUT;
    while backend.raft_status().leader != target && !mutants::active(Mutant::TransferNotAwaited) {
        if env::now() > deadline {
            return Err(EtcdError::LeaderTransferTimeout.into());
        }
        env::sleep(LEADER_TRANSFER_INTERVAL).await;
    }
    Ok(Body::message(&MoveLeaderResponse {
        header: Some(header(backend, backend.view().revision())),
    }))
}

pub async fn hash_kv(backend: &impl Backend, request: HashKvRequest) -> Result<Body, Status> {
    let timer = &backend.metrics().store.hash_revision_seconds;
    let begin = env::now();
    let view = backend.view();
    let hashed = hash_of(&view, request.revision).await?;
    timer.observe((env::now() - begin).as_secs_f64());
    Ok(Body::message(&HashKvResponse {
        header: Some(header(backend, view.revision())),
        hash: hashed.hash,
        compact_revision: hashed.compact_revision,
        hash_revision: hashed.hash_revision,
    }))
}

/// Hashes all of the replicated state: keys, leases with their keys, members, alarms. Equal on all members with the same state.
/// etcd hashes its file's buckets here, so the numbers differ from etcd's.
pub async fn hash_all(backend: &impl Backend, _: HashRequest) -> Result<Body, Status> {
    let timer = &backend.metrics().store.hash_seconds;
    let begin = env::now();
    let view = backend.view();
    let mut hash = hash_of(&view, 0).await?.hash;
    for (number, stored) in view.lease_records().enumerate() {
        let (key, value) = stored.map_err(CallError::from)?;
        hash = crc32c::crc32c_append(crc32c::crc32c_append(hash, &key), &value);
        if number % limits::sizes().scan_slice_keys == limits::sizes().scan_slice_keys - 1 {
            env::yield_now().await;
        }
    }
    hash = crc32c::crc32c_append(hash, &view.cluster.encode_to_vec());
    hash = crc32c::crc32c_append(hash, &view.alarms.encode_to_vec());
    timer.observe((env::now() - begin).as_secs_f64());
    Ok(Body::message(&HashResponse {
        header: Some(header(backend, view.revision())),
        hash,
    }))
}

pub(super) async fn hash_of(view: &View, revision: i64) -> Result<KeyValueHash, CallError> {
    let mut scan = view.hash_scan(revision)?;
    while scan.advance(limits::sizes().scan_slice_keys)? == Progress::More {
        env::yield_now().await;
    }
    Ok(scan.into_hash())
}

/// Rewrites small keyspaces of the state, on a separate thread, one request at a time. Reads and writes continue meanwhile. Large
/// keyspaces do not need it: the engine merges their tables all the time, and frees space.
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
    // The thread reports through the channel; the receiver is gone if the caller has left.
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
        Ok(Ok(all)) => {
            tracing::info!(all, "finished defragment");
            Ok(Body::message(&DefragmentResponse::default()))
        }
        Ok(Err(error)) => {
            tracing::warn!(error = %error, "failed to defragment");
            Err(CallError::from(error).into())
        }
        Err(_) => Err(EtcdError::Stopped.into()),
    }
}
