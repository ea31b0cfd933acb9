//! The Lock service: a lock belongs to the oldest key under its name.
//!
//! Mirrors etcd's server/etcdserver/api/v3lock/lock.go: who calls without a lease gets one of 60 seconds that nobody
//! keeps alive; who goes away while it waits leaves no key behind; the lock lasts until its key is deleted, by Unlock or
//! with its lease. What is before a caller is looked up in `queue.rs`.

use super::backend::{Backend, fill};
use super::body::Body;
use super::check;
use super::kv::{propose, unexpected};
use super::queue::{Entered, Place, session, status};
use super::status::{ApiError, Failure};
use crate::proto::etcdserverpb::DeleteRangeRequest;
use crate::proto::log::command::Request;
use crate::proto::v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse};
use crate::state::machine::Outcome;
use bytes::Bytes;
use tonic::Status;

/// Answers when the caller has the lock.
pub async fn lock(backend: &impl Backend, request: LockRequest) -> Result<Body, Status> {
    let response = acquired(backend, request).await.map_err(status)?;
    Ok(Body::message(&response))
}

async fn acquired(backend: &impl Backend, request: LockRequest) -> Result<LockResponse, Failure> {
    // In boxes, which go before the waiting begins.
    let lease = Box::pin(session(backend, request.lease)).await?;
    let Entered { place, .. } = Box::pin(Place::enter(backend, &request.name, lease, Bytes::new())).await?;
    // It is a part of what came from the network, which would stay as long as the caller waits.
    drop(request);
    let key = place.key.clone();
    let header = Some(place.reach_front(backend, ApiError::SessionExpired).await?);
    Ok(LockResponse { header, key })
}

/// Deletes the key of a lock, whether it is there or not.
pub async fn unlock(backend: &impl Backend, request: UnlockRequest) -> Result<Body, Status> {
    let response = released(backend, request).await.map_err(status)?;
    Ok(Body::message(&response))
}

async fn released(backend: &impl Backend, request: UnlockRequest) -> Result<UnlockResponse, Failure> {
    let delete = DeleteRangeRequest {
        key: request.key,
        ..DeleteRangeRequest::default()
    };
    check::delete_range(&delete)?;
    match propose(backend, Request::DeleteRange(delete)).await? {
        Outcome::DeleteRange(mut deleted) => {
            fill(backend, &mut deleted.header);
            Ok(UnlockResponse {
                header: deleted.header,
            })
        }
        other => Err(unexpected(&other)),
    }
}
