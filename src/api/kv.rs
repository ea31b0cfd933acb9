//! The KV service: reads on the request's own task, writes through the log.
//!
//! Mirrors etcd's server/etcdserver/api/v3rpc/key.go and v3_server.go. A linearizable read waits for the read barrier and then
//! reads the newest view; a serializable one reads the view immediately. A read-only transaction is not proposed.

use super::backend::{Backend, header};
use super::body::{self, Body};
use super::check;
use super::large_work::LargeWork;
use super::proposal::propose;
use super::status::CallError;
use crate::env;
use crate::limits::{REPLY_BYTES_MAX, sizes};
use crate::metrics::Operations;
use crate::proto::etcdserverpb::response_op::Response;
use crate::proto::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, PutRequest, RangeRequest, RangeResponse, TxnRequest,
    TxnResponse,
};
use crate::requests::Caller;
use crate::state::View;
use crate::state::mvcc::MvccError;
use crate::state::mvcc::range::{Progress, RangeScan};
use crate::state::mvcc::reply::{EncodedTxn, RangeReply};
use crate::state::mvcc::txn::{self, Condition};
use std::sync::Arc;
use tonic::Status;

/// Sorting a key takes as long as decoding this many bytes.
const SORT_BYTES_PER_KEY: usize = 64;

pub async fn range(backend: &impl Backend, large: &LargeWork, request: RangeRequest) -> Result<Body, Status> {
    check::range(&request)?;
    let view = view(backend, request.serializable).await?;
    backend.metrics().store.ranges.inc();
    if is_point_get(&request) {
        let kv = view.get(&request.key).map_err(CallError::from)?;
        return Ok(Body::message(&RangeResponse {
            header: Some(header(backend, view.revision())),
            count: i64::from(kv.is_some()),
            kvs: kv.into_iter().collect(),
            more: false,
        }));
    }
    let scan = view.range(&request).map_err(CallError::from)?;
    // Boxed, so that point gets need no memory for it.
    let reply = Box::pin(run_large(scan, large, 0)).await?;
    let header = header(backend, reply.header_revision);
    let (pieces, bytes) = reply.into_encoded(&header);
    Ok(Body::pieces(pieces, bytes))
}

pub async fn put(backend: &impl Backend, caller: &Caller, request: PutRequest) -> Result<Body, Status> {
    check::put(&request)?;
    Ok(Body::message(&propose(backend, caller, request).await?))
}

pub async fn delete_range(
    backend: &impl Backend,
    caller: &Caller,
    request: DeleteRangeRequest,
) -> Result<Body, Status> {
    check::delete_range(&request)?;
    Ok(Body::message(&propose(backend, caller, request).await?))
}

/// A transaction that has been checked ([`super::check::read_txn`]).
pub async fn txn(
    backend: &impl Backend,
    caller: &Caller,
    large: &LargeWork,
    request: TxnRequest,
) -> Result<Body, Status> {
    if txn::is_read_only(&request) {
        // Boxed, so that other transactions need no memory for it.
        return Box::pin(read_only(backend, large, request)).await;
    }
    let response = propose(backend, caller, request).await?;
    debug_assert!(
        nested_headers_carry_revisions_only(&response),
        "etcd leaves the rest empty"
    );
    Ok(Body::message(&response))
}

/// Executes a transaction for which [`txn::is_read_only`] holds, in slices.
async fn read_only(backend: &impl Backend, large: &LargeWork, request: TxnRequest) -> Result<Body, Status> {
    let view = view(backend, txn::is_serializable(&request)).await?;
    let mut succeeded = true;
    for compare in &request.compare {
        succeeded = holds(&view, compare).await.map_err(CallError::from)?;
        if !succeeded {
            break;
        }
    }
    let branch = if succeeded {
        &request.success
    } else {
        &request.failure
    };
    for range in txn::ranges(branch) {
        txn::check_range(&view.keys, range).map_err(CallError::from)?;
    }
    let mut response = EncodedTxn::new(&header(backend, view.revision()), succeeded);
    for range in txn::ranges(branch) {
        let scan = RangeScan::new(&view.keys, range).map_err(CallError::from)?;
        response.push(run_large(scan, large, response.bytes()).await?);
        env::yield_now().await;
    }
    let mut done = Operations {
        ranges: branch.len() as u64,
        ..Operations::default()
    };
    done.end_request(&Operations::default());
    backend.metrics().store.add(&done);
    let bytes = response.bytes();
    Ok(Body::pieces(response.into_pieces(), bytes))
}

async fn holds(view: &View, compare: &Compare) -> Result<bool, MvccError> {
    let mut condition = Condition::new(&view.keys, compare)?;
    loop {
        if let Some(holds) = condition.advance(sizes().scan_slice_keys)? {
            return Ok(holds);
        }
        env::yield_now().await;
    }
}

pub async fn compact(
    backend: &impl Backend,
    caller: &Caller,
    request: CompactionRequest,
) -> Result<Body, Status> {
    Ok(Body::message(&propose(backend, caller, request).await?))
}

/// The state to read from.
pub(super) async fn view(backend: &impl Backend, serializable: bool) -> Result<Arc<View>, CallError> {
    if !serializable {
        backend.read_barrier().await?;
    }
    Ok(backend.view())
}

/// Executes a scan in slices, so that other requests of the thread are not delayed.
pub(super) async fn run(mut scan: RangeScan<'static>) -> Result<RangeReply, MvccError> {
    while scan.advance(sizes().scan_slice_keys)? == Progress::More {
        env::yield_now().await;
    }
    Ok(scan.into_reply())
}

/// The same for a part of a reply that already has `before_bytes`. A reply that becomes too large ends early, and large sorts run
/// on another thread.
async fn run_large(
    mut scan: RangeScan<'static>,
    large: &LargeWork,
    before_bytes: usize,
) -> Result<RangeReply, Status> {
    while scan.advance(sizes().scan_slice_keys).map_err(CallError::from)? == Progress::More {
        let bytes = before_bytes + scan.reply_bytes();
        if bytes > REPLY_BYTES_MAX {
            return Err(body::too_large(bytes));
        }
        env::yield_now().await;
    }
    let bytes = scan.unsorted() * SORT_BYTES_PER_KEY;
    large.run(bytes, move || Ok(scan.into_reply())).await
}

/// A get of one key at the newest revision, without options.
fn is_point_get(request: &RangeRequest) -> bool {
    request.range_end.is_empty()
        && request.revision <= 0
        && !request.keys_only
        && !request.count_only
        && request.min_mod_revision == 0
        && request.max_mod_revision == 0
        && request.min_create_revision == 0
        && request.max_create_revision == 0
}

fn nested_headers_carry_revisions_only(response: &TxnResponse) -> bool {
    response.responses.iter().all(|nested| {
        let header = match &nested.response {
            Some(Response::ResponseRange(range)) => &range.header,
            Some(Response::ResponsePut(put)) => &put.header,
            Some(Response::ResponseDeleteRange(delete)) => &delete.header,
            Some(Response::ResponseTxn(_)) | None => return true,
        };
        header.is_none_or(|header| (header.cluster_id, header.member_id, header.raft_term) == (0, 0, 0))
    })
}
