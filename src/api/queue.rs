//! Queues: the keys under one name, of which the oldest has what all of them wait for, a lock or the lead.
//!
//! Who wants it puts `<name>/<lease in hex>`, bound to its lease, and waits for the keys with smaller create revisions to
//! go, by watching the one directly before its own. Mirrors etcd's client/v3/concurrency (key.go, mutex.go, session.go),
//! which its servers run on a client inside themselves.
//!
//! Keys older than one's own only ever become fewer, so whatever this member has applied is good enough to wait by: a
//! member that is behind keeps somebody waiting, it lets nobody in. etcd asks its leader each time.

use super::backend::{Backend, fill, header};
use super::check;
use super::kv::{propose, run, unexpected};
use super::lease;
use super::status::{ApiError, Failure};
use crate::apply::machine::Outcome;
use crate::env;
use crate::mutants::{self, Mutant};
use crate::mvcc::View;
use crate::proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::proto::etcdserverpb::request_op::Request as Operation;
use crate::proto::etcdserverpb::response_op::Response;
use crate::proto::etcdserverpb::{
    Compare, DeleteRangeRequest, LeaseGrantRequest, PutRequest, RangeRequest, RequestOp, ResponseHeader,
    TxnRequest, TxnResponse,
};
use crate::proto::log::command::Request;
use crate::proto::mvccpb::KeyValue;
use crate::watch::{Create, Ending, FollowError, Following, Wants, WatchedKeys};
use bytes::Bytes;
use tokio::sync::oneshot;
use tonic::Status;

/// How long a lease lives that a caller without one is given, in seconds. Nobody keeps it alive.
const LEASE_TTL: i64 = 60;

/// A place in a queue. Who drops it before it has reached the front leaves the queue: the key is deleted.
pub(super) struct Place<B> {
    backend: B,
    /// What all keys of the queue begin with.
    prefix: Bytes,
    pub key: Bytes,
    pub create_revision: i64,
    kept: oneshot::Sender<()>,
}

/// How a place was come by.
pub(super) struct Entered<B> {
    pub place: Place<B>,
    pub header: Option<ResponseHeader>,
    /// The lease had this place before, with this value.
    pub before: Option<Bytes>,
}

impl<B: Backend> Place<B> {
    /// Takes the last place under a name, or the one that the lease has already.
    pub async fn enter(backend: &B, name: &[u8], lease: i64, value: Bytes) -> Result<Entered<B>, Failure> {
        let prefix = prefix(name);
        let key: Bytes = [&prefix[..], hex(lease).as_bytes()].concat().into();
        let answer = commit(
            backend,
            TxnRequest {
                compare: vec![created_at(&key, 0)],
                success: vec![put(&key, value, lease)],
                failure: vec![operation(Operation::RequestRange(RangeRequest {
                    key: key.clone(),
                    ..RangeRequest::default()
                }))],
            },
        )
        .await?;
        let (create_revision, before) = match found(&answer) {
            Some(kv) => (kv.create_revision, Some(kv.value.clone())),
            None => (answer.header.unwrap_or_default().revision, None),
        };
        let (kept, given_up) = oneshot::channel();
        env::spawn(leave_unless_kept(
            backend.clone(),
            key.clone(),
            create_revision,
            given_up,
        ));
        Ok(Entered {
            place: Self {
                backend: backend.clone(),
                prefix,
                key,
                create_revision,
                kept,
            },
            header: answer.header,
            before,
        })
    }

    /// Waits until nobody is before it any more. From then on the lease decides how long it lasts. The header names a
    /// revision at which the place was at the front; `lost` is what to say if the key has gone meanwhile, with its lease
    /// or otherwise.
    pub async fn reach_front(self, lost: ApiError) -> Result<ResponseHeader, Failure> {
        let reached = self.wait(lost).await;
        if reached.is_err() {
            leave(&self.backend, &self.key, self.create_revision).await;
        }
        // Nobody listens once the member stops.
        let _ = self.kept.send(());
        reached
    }

    async fn wait(&self, lost: ApiError) -> Result<ResponseHeader, Failure> {
        let mut view = self.backend.view();
        let mut waited = false;
        while let Some(before) =
            edge(&view, &self.prefix, SortOrder::Descend, self.create_revision - 1).await?
        {
            waited = true;
            let revision = view.revision();
            // One that is held on to keeps what it shows on the disk.
            drop(view);
            self.wait_until_gone(&before.key, revision + 1).await?;
            view = self.backend.view();
            if mutants::active(Mutant::QueueAskedOnce) {
                break;
            }
        }
        if waited {
            // The lease may have ended meanwhile, and this member may be behind.
            self.backend.read_barrier().await?;
            view = self.backend.view();
        }
        if waited && mutants::active(Mutant::LockWithoutSession) {
            return Ok(header(&self.backend, view.revision()));
        }
        match view.get(&self.key)? {
            Some(kv) if kv.create_revision == self.create_revision => {
                Ok(header(&self.backend, view.revision()))
            }
            _ => Err(lost.into()),
        }
    }

    /// Waits until this key is deleted at this revision or later.
    async fn wait_until_gone(&self, key: &[u8], start_revision: i64) -> Result<(), Failure> {
        let deletes = Create {
            keys: WatchedKeys::new(key, &[]),
            wants: Wants {
                puts: false,
                deletes: true,
                previous: false,
            },
            ..create(start_revision)
        };
        let told = Following::start(self.backend.watches(), deletes, false)
            .next()
            .await;
        match told {
            // The newest state tells what has happened in revisions that are compacted.
            Ok(_) | Err(FollowError::Compacted) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

async fn leave_unless_kept(
    backend: impl Backend,
    key: Bytes,
    create_revision: i64,
    kept: oneshot::Receiver<()>,
) {
    if kept.await.is_err() {
        leave(&backend, &key, create_revision).await;
    }
}

async fn leave(backend: &impl Backend, key: &Bytes, create_revision: i64) {
    let delete = TxnRequest {
        compare: vec![created_at(key, create_revision)],
        success: vec![delete(key)],
        failure: vec![],
    };
    if let Err(error) = commit(backend, delete).await {
        // It goes with its lease.
        tracing::debug!(%error, "cannot delete the key of somebody who has given up");
    }
}

/// The lease of a caller: its own, or a new one if it has none.
pub(super) async fn session(backend: &impl Backend, lease: i64) -> Result<i64, Failure> {
    if lease != 0 {
        return Ok(lease);
    }
    let request = LeaseGrantRequest {
        ttl: LEASE_TTL,
        id: 0,
    };
    Ok(lease::granted(backend, request).await?.id)
}

/// Who is at the front: the oldest key under a name, if there is one.
pub(super) async fn front(view: &View, name: &[u8]) -> Result<Option<KeyValue>, Failure> {
    edge(view, &prefix(name), SortOrder::Ascend, 0).await
}

/// The oldest key of a queue, or the youngest; none that was created after a revision, unless that is 0.
async fn edge(
    view: &View,
    prefix: &Bytes,
    order: SortOrder,
    max_create_revision: i64,
) -> Result<Option<KeyValue>, Failure> {
    let range = RangeRequest {
        key: prefix.clone(),
        range_end: end(prefix),
        sort_order: order as i32,
        sort_target: SortTarget::Create as i32,
        limit: 1,
        max_create_revision,
        ..RangeRequest::default()
    };
    let reply = run(view.range(&range)?).await?;
    Ok(reply.into_response(None).kvs.pop())
}

/// What all keys under a name begin with.
pub(super) fn prefix(name: &[u8]) -> Bytes {
    [name, b"/"].concat().into()
}

/// Behind all keys that begin with this prefix, which ends with a slash.
pub(super) fn end(prefix: &[u8]) -> Bytes {
    let (last, before) = prefix.split_last().expect("it ends with a slash");
    [before, &[last + 1]].concat().into()
}

/// As Go prints a signed number in hex.
fn hex(lease: i64) -> String {
    let sign = if lease < 0 { "-" } else { "" };
    format!("{sign}{:x}", lease.unsigned_abs())
}

/// Has a transaction agreed on.
pub(super) async fn commit(backend: &impl Backend, request: TxnRequest) -> Result<TxnResponse, Failure> {
    check::txn(&request, backend.limits().max_txn_ops)?;
    match propose(backend, Request::Txn(request)).await? {
        Outcome::Txn(mut response) => {
            fill(backend, &mut response.header);
            Ok(response)
        }
        other => Err(unexpected(&other)),
    }
}

/// True of a key that was created at this revision, or with 0 of one that is not there.
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

/// What the only read of a transaction has found.
fn found(response: &TxnResponse) -> Option<&KeyValue> {
    match &response.responses.first()?.response {
        Some(Response::ResponseRange(range)) => range.kvs.first(),
        _ => None,
    }
}

/// A watcher from a revision on.
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

/// Since etcd's services are clients of its other services, and pass on their errors, clients get the texts of the table
/// without their codes.
pub(super) fn status(failure: Failure) -> Status {
    match failure {
        Failure::Known(error @ (ApiError::Stopped | ApiError::NoLeader)) => error.into(),
        other => Status::unknown(other.to_string()),
    }
}

impl From<FollowError> for Failure {
    fn from(error: FollowError) -> Self {
        match error {
            FollowError::Compacted => ApiError::Compacted.into(),
            FollowError::Refused(reason) => Self::Other(reason),
            FollowError::Ended(Ending::NoLeader) => ApiError::NoLeader.into(),
            FollowError::Ended(_) => ApiError::Stopped.into(),
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
