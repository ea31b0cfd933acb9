//! Queues: the keys under one name. The owner of the oldest key holds what the others wait for, a lock or the leadership.
//!
//! A caller puts `<name>/<lease in hex>`, attached to its lease, and waits until the keys with smaller create revisions are
//! deleted. Mirrors etcd's client/v3/concurrency (key.go, mutex.go, session.go), which etcd's servers run on a client inside
//! themselves: there every caller reads the whole queue, and watches the key directly before its own. Here a member follows each
//! queue once for all its callers ([`follower`], with the pure [`order`]), so that ten thousand callers do not each read ten
//! thousand keys. [`place`] is the path of one caller through a queue, and [`leaving`] deletes the keys of callers that have
//! disconnected.

mod follower;
mod leaving;
mod order;
mod place;

pub use follower::Queues;
pub(super) use place::{Entered, Place};

use super::backend::Backend;
use super::bounds::TxnBounds;
use super::check;
use super::lease;
use super::proposal::propose;
use super::status::{CallError, EtcdError};
use crate::proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::proto::etcdserverpb::request_op::Request as Operation;
use crate::proto::etcdserverpb::{
    Compare, DeleteRangeRequest, LeaseGrantRequest, PutRequest, RequestOp, TxnRequest, TxnResponse,
};
use crate::proto::mvccpb::KeyValue;
use crate::requests::Caller;
use crate::state::View;
use crate::watch::{Create, Ending, FollowError, Wants};
use bytes::Bytes;
use std::sync::Arc;
use tonic::Status;

/// The TTL of the lease for a caller without one, in seconds. The lease is not kept alive.
const LEASE_TTL: i64 = 60;

/// Deletes a key if it is still the one created at this revision.
async fn leave(
    backend: &impl Backend,
    caller: &Caller,
    key: &Bytes,
    create_revision: i64,
) -> Result<(), CallError> {
    let delete = TxnRequest {
        compare: vec![created_at(key, create_revision)],
        success: vec![delete(key)],
        failure: vec![],
    };
    commit(backend, caller, delete).await.map(drop)
}

/// The lease of a caller: its own, or a new one if it has none.
pub(super) async fn session(backend: &impl Backend, caller: &Caller, lease: i64) -> Result<i64, CallError> {
    if lease != 0 {
        return Ok(lease);
    }
    let request = LeaseGrantRequest {
        ttl: LEASE_TTL,
        id: 0,
    };
    Ok(lease::granted(backend, caller, request).await?.id)
}

/// The newest state, and the oldest key under a name in it, if there is one.
pub(super) async fn front(
    backend: &impl Backend,
    name: &[u8],
) -> Result<(Arc<View>, Option<KeyValue>), CallError> {
    let prefix = prefix(name);
    let known = backend.queues().front(&prefix);
    let view = super::kv::view(backend, false).await?;
    if let Some((key, create_revision)) = known
        && let Some(kv) = view.get(&key)?
        && kv.create_revision == create_revision
    {
        return Ok((view, Some(kv)));
    }
    let mut oldest: Option<(i64, Bytes)> = None;
    follower::walk(&view, &prefix, |key, created| {
        if oldest.as_ref().is_none_or(|(before, _)| created < *before) {
            oldest = Some((created, key.clone()));
        }
        true
    })
    .await?;
    let kv = match oldest {
        Some((_, key)) => view.get(&key)?,
        None => None,
    };
    Ok((view, kv))
}

/// The common prefix of all keys under a name.
pub(super) fn prefix(name: &[u8]) -> Bytes {
    [name, b"/"].concat().into()
}

/// The end of the range of keys with this prefix, which ends with a slash.
pub(super) fn end(prefix: &[u8]) -> Bytes {
    let (last, before) = prefix.split_last().expect("it ends with a slash");
    [before, &[last + 1]].concat().into()
}

/// In Go's format of a signed number in hex.
fn hex(lease: i64) -> String {
    let sign = if lease < 0 { "-" } else { "" };
    format!("{sign}{:x}", lease.unsigned_abs())
}

/// Checks and proposes a transaction.
pub(super) async fn commit(
    backend: &impl Backend,
    caller: &Caller,
    request: TxnRequest,
) -> Result<TxnResponse, CallError> {
    check::txn(&request, TxnBounds::of(backend.limits().max_txn_ops))?;
    propose(backend, caller, request).await
}

/// True for a key that was created at this revision, or with 0 for a key that does not exist.
pub(super) fn created_at(key: &Bytes, revision: i64) -> Compare {
    Compare {
        result: CompareResult::Equal as i32,
        target: CompareTarget::Create as i32,
        key: key.clone(),
        target_union: Some(TargetUnion::CreateRevision(revision)),
        ..Compare::default()
    }
}

pub(super) fn put(key: &Bytes, value: Bytes, lease: i64) -> RequestOp {
    operation(Operation::RequestPut(PutRequest {
        key: key.clone(),
        value,
        lease,
        ..PutRequest::default()
    }))
}

pub(super) fn delete(key: &Bytes) -> RequestOp {
    operation(Operation::RequestDeleteRange(DeleteRangeRequest {
        key: key.clone(),
        ..DeleteRangeRequest::default()
    }))
}

fn operation(request: Operation) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}

/// A watcher that starts at a revision.
pub(super) fn create(start_revision: i64) -> Create {
    Create {
        watch_id: 0,
        keys: None,
        start_revision,
        wants: Wants {
            puts: true,
            deletes: true,
            previous: false,
        },
        progress_notify: false,
        fragment: false,
    }
}

/// etcd's services are clients of its other services and pass on their errors, so clients get etcd's texts without their codes.
pub(super) fn status(failure: CallError) -> Status {
    match failure {
        CallError::Known(error @ (EtcdError::Stopped | EtcdError::NoLeader)) => error.into(),
        other => Status::unknown(other.to_string()),
    }
}

impl From<FollowError> for CallError {
    fn from(error: FollowError) -> Self {
        match error {
            FollowError::Compacted => EtcdError::Compacted.into(),
            FollowError::Refused(reason) => Self::Other(reason),
            FollowError::Ended(Ending::NoLeader) => EtcdError::NoLeader.into(),
            FollowError::Ended(Ending::TooMany) => EtcdError::TooManyRequests.into(),
            FollowError::Ended(_) => EtcdError::Stopped.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_as_etcd_has_them() {
        let cases = [
            (1, "1"),
            (0x694d_7c2b_0a1b_2c3d, "694d7c2b0a1b2c3d"),
            (-1, "-1"),
            (i64::MIN, "-8000000000000000"),
        ];
        for (lease, text) in cases {
            assert_eq!(hex(lease), text);
        }
        assert_eq!(prefix(b"a"), "a/");
        assert_eq!(end(b"a/"), "a0");
        assert_eq!(end(&prefix(b"")), "0");
    }
}
