//! Puts, deletes and transactions on the state.
//!
//! Mirrors etcd's server/etcdserver/txn: a command is checked completely before its first change, so a refused command has
//! changed nothing.

use bytes::Bytes;

use crate::limits::KEY_BYTES_MAX;
use crate::proto::etcdserverpb::request_op::Request;
use crate::proto::etcdserverpb::response_op::Response;
use crate::proto::etcdserverpb::{
    DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, ResponseHeader, ResponseOp, TxnRequest,
    TxnResponse,
};
use crate::state::components::State;
use crate::state::mvcc::records::RecordsAt;
use crate::state::mvcc::txn::{self, Plan, Planned};
use crate::state::{ApplyError, ApplyFailure};
use crate::storage::state::error::StateError;
use crate::storage::state::keys::KeyRange;
use crate::storage::state::record::{Header, Record};

pub(crate) fn put(state: &mut State, request: &PutRequest) -> Result<PutResponse, ApplyFailure> {
    let previous = check_put(state, request)?;
    Ok(put_checked(state, request, previous.as_ref())?)
}

/// Returns the header of the key's newest record.
fn check_put(state: &State, request: &PutRequest) -> Result<Option<Header>, ApplyFailure> {
    if request.key.is_empty() {
        return Err(ApplyError::EmptyKey.into());
    }
    if request.key.len() > KEY_BYTES_MAX {
        return Err(ApplyError::KeyTooLong.into());
    }
    if request.lease != 0 && state.leases.get(request.lease)?.is_none() {
        return Err(ApplyError::LeaseNotFound.into());
    }
    let previous = state.keys.newest_header(&request.key)?;
    if (request.ignore_value || request.ignore_lease) && previous.is_none() {
        return Err(ApplyError::KeyNotFound.into());
    }
    Ok(previous)
}

fn put_checked(
    state: &mut State,
    request: &PutRequest,
    previous: Option<&Header>,
) -> Result<PutResponse, StateError> {
    let replaced = if request.ignore_value || request.prev_kv {
        state.keys.newest_record(&request.key)?
    } else {
        None
    };
    // There is no previous record only if an earlier operation deleted the key, which the API refuses.
    let value = match &replaced {
        Some(replaced) if request.ignore_value => replaced.value(),
        _ => request.value.clone(),
    };
    let lease = match previous {
        Some(previous) if request.ignore_lease => previous.lease,
        _ => request.lease,
    };
    state.keys.done.puts += 1;
    state.keys.done.put_bytes += (request.key.len() + value.len()) as u64;
    state.put(&request.key, &value, lease, previous)?;
    let prev_kv = replaced
        .filter(|_| request.prev_kv)
        .map(|replaced| replaced.key_value(request.key.clone()));
    Ok(PutResponse {
        header: Some(state.header()),
        prev_kv,
    })
}

pub(crate) fn delete_range(
    state: &mut State,
    request: &DeleteRangeRequest,
) -> Result<DeleteRangeResponse, StateError> {
    state.keys.done.deletes += 1;
    let range = KeyRange::new(request.key.clone(), request.range_end.clone());
    let mut response = DeleteRangeResponse::default();
    for (key, record) in newest_in(state, &range)? {
        state.delete(&key, &record.header)?;
        response.deleted += 1;
        if request.prev_kv {
            response.prev_kvs.push(record.key_value(key));
        }
    }
    response.header = Some(state.header());
    Ok(response)
}

/// The newest records of a range, copied out of the database's blocks.
fn newest_in(state: &State, range: &KeyRange) -> Result<Vec<(Bytes, Record)>, StateError> {
    if let KeyRange::Single(key) = range {
        let record = state.keys.newest_record(key)?;
        return Ok(record
            .map(|record| (Bytes::copy_from_slice(key), record))
            .into_iter()
            .collect());
    }
    let mut found = vec![];
    let mut records = RecordsAt::newest(&state, range)?;
    while let Some((key, record)) = records.next_record()? {
        found.push((Bytes::copy_from_slice(&key), record.detached()));
    }
    Ok(found)
}

/// Carries out a transaction. Its ranges change nothing, so they are read only on the member that answers the client.
pub(crate) fn txn(
    state: &mut State,
    request: &TxnRequest,
    is_answered: bool,
) -> Result<TxnResponse, ApplyFailure> {
    let plan = txn::plan(&&*state, request)?;
    check(state, &plan)?;
    let before = state.keys.done;
    let mut response = execute(state, &plan, is_answered)?;
    state.keys.done.end_request(&before);
    response.header = Some(state.header());
    Ok(response)
}

fn check(state: &State, plan: &Plan<'_>) -> Result<(), ApplyFailure> {
    for operation in &plan.operations {
        match operation {
            Planned::Operation(Request::RequestRange(range)) => txn::check_range(&state, range)?,
            Planned::Operation(Request::RequestPut(put)) => {
                check_put(state, put)?;
            }
            Planned::Txn(nested) => check(state, nested)?,
            Planned::Operation(_) | Planned::Empty => {}
        }
    }
    Ok(())
}

fn execute(state: &mut State, plan: &Plan<'_>, is_answered: bool) -> Result<TxnResponse, ApplyFailure> {
    let mut responses = Vec::with_capacity(plan.operations.len());
    for operation in &plan.operations {
        let response = match operation {
            Planned::Operation(Request::RequestRange(range)) => {
                state.keys.done.ranges += 1;
                let found = is_answered.then(|| txn::range(&&*state, range)).transpose()?;
                Some(Response::ResponseRange(found.unwrap_or_default()))
            }
            Planned::Operation(Request::RequestPut(put)) => {
                let previous = state.keys.newest_header(&put.key)?;
                Some(Response::ResponsePut(put_checked(state, put, previous.as_ref())?))
            }
            Planned::Operation(Request::RequestDeleteRange(delete)) => {
                Some(Response::ResponseDeleteRange(delete_range(state, delete)?))
            }
            Planned::Txn(nested) => {
                let mut response = execute(state, nested, is_answered)?;
                response.header = Some(ResponseHeader::default());
                Some(Response::ResponseTxn(response))
            }
            Planned::Operation(Request::RequestTxn(_)) | Planned::Empty => None,
        };
        responses.push(ResponseOp { response });
    }
    Ok(TxnResponse {
        header: None,
        succeeded: plan.succeeded,
        responses,
    })
}
