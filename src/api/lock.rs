//! The Lock service: a lock belongs to the oldest key under its name.
//!
//! Mirrors etcd's server/etcdserver/api/v3lock/lock.go. A caller without a lease gets one of 60 seconds that is not kept alive. A
//! caller that disconnects while it waits leaves no key behind. The lock is held until its key is deleted, by Unlock or with its
//! lease. `queue/` finds the keys before a caller's.

use super::backend::Backend;
use super::body::Body;
use super::check;
use super::proposal::propose;
use super::queue::{Entered, Place, session, status};
use super::status::{CallError, EtcdError};
use crate::proto::etcdserverpb::{DeleteRangeRequest, ResponseHeader};
use crate::proto::v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse};
use crate::requests::Caller;
use bytes::Bytes;
use tonic::Status;

/// Returns when the caller has the lock.
pub async fn lock(backend: &impl Backend, caller: &Caller, request: LockRequest) -> Result<Body, Status> {
    let response = acquired(backend, caller, request).await.map_err(status)?;
    Ok(Body::message(&response))
}

async fn acquired(
    backend: &impl Backend,
    caller: &Caller,
    request: LockRequest,
) -> Result<LockResponse, CallError> {
    // Boxed, so that their memory is freed before the wait begins.
    let lease = Box::pin(session(backend, caller, request.lease)).await?;
    let entering = Place::enter(backend, caller, &request.name, lease, Bytes::new());
    let Entered { place, .. } = Box::pin(entering).await?;
    // Dropped, since it keeps a network buffer alive as long as the caller waits.
    drop(request);
    let key = place.key.clone();
    let header = Some(place.reach_front(backend, EtcdError::SessionExpired).await?);
    Ok(LockResponse { header, key })
}

/// Deletes the key of a lock, whether it exists or not.
pub async fn unlock(backend: &impl Backend, caller: &Caller, request: UnlockRequest) -> Result<Body, Status> {
    let header = released(backend, caller, request).await.map_err(status)?;
    Ok(Body::message(&UnlockResponse { header }))
}

async fn released(
    backend: &impl Backend,
    caller: &Caller,
    request: UnlockRequest,
) -> Result<Option<ResponseHeader>, CallError> {
    let delete = DeleteRangeRequest {
        key: request.key,
        ..DeleteRangeRequest::default()
    };
    check::delete_range(&delete)?;
    Ok(propose(backend, caller, delete).await?.header)
}
