//! The checks that etcd makes before it proposes (server/etcdserver/api/v3rpc/key.go), in its order.

use super::bounds::{self, Refused, TxnBounds};
use super::grpc;
use super::status::EtcdError;
use crate::limits::KEY_BYTES_MAX;
use crate::proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::proto::etcdserverpb::request_op::Request;
use crate::proto::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest};
use bytes::Bytes;
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};
use tonic::Status;

pub fn range(request: &RangeRequest) -> Result<(), EtcdError> {
    keys(&request.key, &request.range_end)?;
    let order = SortOrder::try_from(request.sort_order);
    let target = SortTarget::try_from(request.sort_target);
    if order.is_err() || target.is_err() {
        return Err(EtcdError::InvalidSortOption);
    }
    Ok(())
}

/// A range that is streamed: neither sorted nor filtered.
pub fn range_stream(request: &RangeRequest) -> Result<(), EtcdError> {
    range(request)?;
    // Without a sort order, the target does not matter (unlike in a range that is not streamed).
    let key_order = request.sort_order == SortOrder::None as i32
        || (request.sort_target == SortTarget::Key as i32 && request.sort_order == SortOrder::Ascend as i32);
    if !key_order {
        return Err(EtcdError::StreamSort);
    }
    let filters = [
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    ];
    if filters != [0; 4] {
        return Err(EtcdError::StreamFilters);
    }
    Ok(())
}

pub fn put(request: &PutRequest) -> Result<(), EtcdError> {
    keys(&request.key, &[])?;
    if request.ignore_value && !request.value.is_empty() {
        return Err(EtcdError::ValueProvided);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(EtcdError::LeaseProvided);
    }
    Ok(())
}

pub fn delete_range(request: &DeleteRangeRequest) -> Result<(), EtcdError> {
    keys(&request.key, &request.range_end)
}

/// Decodes a transaction if it is within bounds, and checks it.
pub fn read_txn(encoded: Bytes, bounds: TxnBounds) -> Result<TxnRequest, Status> {
    bounds::txn(&encoded, bounds).map_err(|refused| match refused {
        Refused::OutOfBounds(error) => error.into(),
        Refused::Malformed => grpc::undecodable(&"the message is malformed"),
    })?;
    let request = TxnRequest::decode(encoded).map_err(|error| grpc::undecodable(&error))?;
    txn(&request, bounds)?;
    Ok(request)
}

/// A transaction, nested ones included.
pub fn txn(request: &TxnRequest, mut bounds: TxnBounds) -> Result<(), EtcdError> {
    txn_operations(request, &mut bounds)?;
    Changes::of(&request.success)?;
    Changes::of(&request.failure)?;
    Ok(())
}

fn keys(key: &[u8], range_end: &[u8]) -> Result<(), EtcdError> {
    if key.is_empty() {
        return Err(EtcdError::EmptyKey);
    }
    if key.len().max(range_end.len()) > KEY_BYTES_MAX {
        return Err(EtcdError::KeyTooLong);
    }
    Ok(())
}

fn txn_operations(request: &TxnRequest, bounds: &mut TxnBounds) -> Result<(), EtcdError> {
    if bounds.levels == 0 {
        return Err(EtcdError::TooManyLevels);
    }
    let lengths = [
        request.compare.len(),
        request.success.len(),
        request.failure.len(),
    ];
    let [compares, success, failure] = lengths;
    let mut inner = bounds.enter(compares.max(success).max(failure), lengths.iter().sum())?;
    for compare in &request.compare {
        keys(&compare.key, &compare.range_end)?;
    }
    for operation in request.success.iter().chain(&request.failure) {
        match &operation.request {
            Some(Request::RequestRange(request)) => range(request)?,
            Some(Request::RequestPut(request)) => put(request)?,
            Some(Request::RequestDeleteRange(request)) => delete_range(request)?,
            Some(Request::RequestTxn(request)) => {
                inner.parts = bounds.parts;
                txn_operations(request, &mut inner)?;
                bounds.parts = inner.parts;
            }
            None => return Err(EtcdError::KeyNotFound),
        }
    }
    Ok(())
}

/// The changes of one branch of a transaction: no key may be put twice, or both put and deleted. The branches of a nested
/// transaction exclude one another, so both may put the same key.
#[derive(Default)]
struct Changes {
    puts: BTreeSet<Bytes>,
    deletes: Deleted,
}

impl Changes {
    fn of(operations: &[RequestOp]) -> Result<Self, EtcdError> {
        let mut changes = Self::default();
        for operation in operations {
            if let Some(Request::RequestDeleteRange(delete)) = &operation.request {
                changes.deletes.insert_range(&delete.key, &delete.range_end);
            }
        }
        for operation in operations {
            if let Some(Request::RequestTxn(nested)) = &operation.request {
                let then = Self::of(&nested.success)?;
                let otherwise = Self::of(&nested.failure)?;
                let put = &then.puts | &otherwise.puts;
                put.into_iter().try_for_each(|key| changes.put(key))?;
                changes.deletes.join(then.deletes);
                changes.deletes.join(otherwise.deletes);
            }
        }
        for operation in operations {
            if let Some(Request::RequestPut(put)) = &operation.request {
                changes.put(put.key.clone())?;
            }
        }
        Ok(changes)
    }

    fn put(&mut self, key: Bytes) -> Result<(), EtcdError> {
        if self.deletes.contains(&key) || !self.puts.insert(key) {
            return Err(EtcdError::DuplicateKey);
        }
        Ok(())
    }
}

/// Half-open ranges that do not touch: start to end.
#[derive(Default)]
struct Deleted(BTreeMap<Bytes, Bytes>);

impl Deleted {
    /// A range that ends at or before its start is empty. So is one with the end `\0`: etcd's interval tree does not know "from
    /// key on".
    fn insert_range(&mut self, key: &Bytes, range_end: &Bytes) {
        if range_end.is_empty() {
            self.insert(key.clone(), [key.as_ref(), &[0]].concat().into());
        } else if range_end > key {
            self.insert(key.clone(), range_end.clone());
        }
    }

    fn insert(&mut self, mut start: Bytes, mut end: Bytes) {
        while let Some((other_start, other_end)) = self.0.range(..=end.clone()).next_back() {
            if *other_end < start {
                break;
            }
            let other_start = other_start.clone();
            let other_end = self.0.remove(&other_start).expect("it was just seen");
            start = start.min(other_start);
            end = end.max(other_end);
        }
        self.0.insert(start, end);
    }

    fn contains(&self, key: &Bytes) -> bool {
        let last = self.0.range::<Bytes, _>(..=key).next_back();
        last.is_some_and(|(_, end)| key < end)
    }

    fn join(&mut self, other: Self) {
        for (start, end) in other.0 {
            self.insert(start, end);
        }
    }
}
