//! etcd's requests on keys, executed on a map: the expected replies. Deliberately simple, and written from etcd's documentation
//! and source, not from the code under rehearsal.
//!
//! Compares, also those of nested transactions, see the state before the first operation; each operation sees the changes of
//! those before it. A range's `count` ignores limit and filters.

use crate::records::{Change, Records, States};
use bytes::Bytes;
use callboard::proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use callboard::proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use callboard::proto::etcdserverpb::request_op::Request;
use callboard::proto::etcdserverpb::response_op::Response;
use callboard::proto::etcdserverpb::{
    Compare, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, RangeRequest, RangeResponse,
    ResponseHeader, ResponseOp, TxnRequest, TxnResponse,
};
use callboard::proto::mvccpb::KeyValue;
use std::cmp::Ordering;
use std::rc::Rc;

/// Why a reply cannot be predicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unpredicted {
    /// The content of the store is unknown.
    Hidden,
    /// A server would refuse the request.
    Refused,
}

/// The store while one request is executed.
#[derive(Clone, Debug)]
pub struct Store<'a> {
    states: &'a States,
    /// The revision before the request.
    before: i64,
    records: Records,
    pub changes: Vec<Change>,
}

/// Whether a key is in the range of a request.
pub fn contains(key: &[u8], range_end: &[u8], found: &[u8]) -> bool {
    match range_end {
        [] => found == key,
        [0] => found >= key,
        end => found >= key && found < end,
    }
}

impl<'a> Store<'a> {
    /// The store after `revision`. None if its content is unknown.
    pub fn at(states: &'a States, revision: i64) -> Option<Self> {
        Some(Self {
            states,
            before: revision,
            records: states.at(revision)?.clone(),
            changes: Vec::new(),
        })
    }

    fn revision(&self) -> i64 {
        self.before + i64::from(!self.changes.is_empty())
    }

    fn header(&self) -> ResponseHeader {
        ResponseHeader {
            revision: self.revision(),
            ..ResponseHeader::default()
        }
    }

    fn change(&mut self, key: Bytes, record: Option<KeyValue>) {
        match &record {
            Some(record) => self.records.insert(key.clone(), Rc::new(record.clone())),
            None => self.records.remove(&key),
        };
        self.changes.push(Change { key, record });
    }

    pub fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Unpredicted> {
        if request.revision > self.revision() {
            return Err(Unpredicted::Refused);
        }
        // The changes of the current request belong to the newest revision only.
        let records = if request.revision <= 0 || request.revision == self.revision() {
            &self.records
        } else {
            self.states.at(request.revision).ok_or(Unpredicted::Hidden)?
        };
        let inside = records
            .values()
            .filter(|record| contains(&request.key, &request.range_end, &record.key));
        let mut found: Vec<KeyValue> = inside.map(|record| (**record).clone()).collect();
        let mut response = RangeResponse {
            header: Some(self.header()),
            count: found.len() as i64,
            ..RangeResponse::default()
        };
        if !request.count_only {
            response.more = list(request, &mut found);
            response.kvs = found;
        }
        Ok(response)
    }

    pub fn put(&mut self, request: &PutRequest) -> Result<PutResponse, Unpredicted> {
        let previous = self.records.get(&request.key).cloned();
        if previous.is_none() && (request.ignore_value || request.ignore_lease) {
            return Err(Unpredicted::Refused);
        }
        let revision = self.before + 1;
        let kept = previous.clone().unwrap_or_default();
        let record = KeyValue {
            key: request.key.clone(),
            create_revision: previous.as_ref().map_or(revision, |kept| kept.create_revision),
            mod_revision: revision,
            version: kept.version + 1,
            value: if request.ignore_value {
                kept.value.clone()
            } else {
                request.value.clone()
            },
            lease: if request.ignore_lease {
                kept.lease
            } else {
                request.lease
            },
        };
        self.change(request.key.clone(), Some(record));
        Ok(PutResponse {
            header: Some(self.header()),
            prev_kv: previous
                .filter(|_| request.prev_kv)
                .map(|previous| (*previous).clone()),
        })
    }

    pub fn delete_range(&mut self, request: &DeleteRangeRequest) -> DeleteRangeResponse {
        let inside = self
            .records
            .values()
            .filter(|record| contains(&request.key, &request.range_end, &record.key));
        let found: Vec<Rc<KeyValue>> = inside.cloned().collect();
        for record in &found {
            self.change(record.key.clone(), None);
        }
        DeleteRangeResponse {
            header: Some(self.header()),
            deleted: found.len() as i64,
            prev_kvs: if request.prev_kv {
                found.iter().map(|record| (**record).clone()).collect()
            } else {
                Vec::new()
            },
        }
    }

    pub fn txn(&mut self, request: &TxnRequest) -> Result<TxnResponse, Unpredicted> {
        let before = self.records.clone();
        let mut response = self.nested(request, &before)?;
        response.header = Some(self.header());
        Ok(response)
    }

    fn nested(&mut self, request: &TxnRequest, before: &Records) -> Result<TxnResponse, Unpredicted> {
        let succeeded = request.compare.iter().all(|compare| holds(before, compare));
        let branch = if succeeded {
            &request.success
        } else {
            &request.failure
        };
        let mut responses = Vec::new();
        for operation in branch {
            let response = match &operation.request {
                None => None,
                Some(Request::RequestRange(range)) => Some(Response::ResponseRange(self.range(range)?)),
                Some(Request::RequestPut(put)) => Some(Response::ResponsePut(self.put(put)?)),
                Some(Request::RequestDeleteRange(delete)) => {
                    Some(Response::ResponseDeleteRange(self.delete_range(delete)))
                }
                Some(Request::RequestTxn(txn)) => {
                    let mut response = self.nested(txn, before)?;
                    response.header = Some(ResponseHeader::default());
                    Some(Response::ResponseTxn(response))
                }
            };
            responses.push(ResponseOp { response });
        }
        Ok(TxnResponse {
            header: None,
            succeeded,
            responses,
        })
    }
}

/// Filters, sorts and truncates the keys of a range, which are given in key order. True if the limit left some out.
fn list(request: &RangeRequest, found: &mut Vec<KeyValue>) -> bool {
    let order = SortOrder::try_from(request.sort_order).unwrap_or_default();
    let target = SortTarget::try_from(request.sort_target).unwrap_or_default();
    let bounds = [
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    ];
    let is_filtered = bounds.iter().any(|bound| *bound != 0);
    let limit = usize::try_from(request.limit).unwrap_or(0);
    let cut = |found: &mut Vec<KeyValue>| {
        let more = limit > 0 && found.len() > limit;
        if more {
            found.truncate(limit);
        }
        more
    };
    // etcd reads one key more than the limit, in key order, unless it has to see all keys, and then sorts what it read.
    if order == SortOrder::None && !is_filtered && limit > 0 {
        found.truncate(limit + 1);
    }
    let within = |value: i64, min: i64, max: i64| (min == 0 || value >= min) && (max == 0 || value <= max);
    found.retain(|record| {
        within(record.mod_revision, bounds[0], bounds[1])
            && within(record.create_revision, bounds[2], bounds[3])
    });
    let compare = |one: &KeyValue, other: &KeyValue| match target {
        SortTarget::Key => one.key.cmp(&other.key),
        SortTarget::Version => one.version.cmp(&other.version),
        SortTarget::Create => one.create_revision.cmp(&other.create_revision),
        SortTarget::Mod => one.mod_revision.cmp(&other.mod_revision),
        SortTarget::Value => one.value.cmp(&other.value),
    };
    if order == SortOrder::Descend {
        found.sort_by(|one, other| compare(other, one));
    } else {
        found.sort_by(compare);
    }
    let more = cut(found);
    if request.keys_only {
        for record in found {
            record.value = Bytes::new();
            if target != SortTarget::Value {
                record.lease = 0;
            }
        }
    }
    more
}

fn holds(records: &Records, compare: &Compare) -> bool {
    let inside = records
        .values()
        .filter(|record| contains(&compare.key, &compare.range_end, &record.key));
    let found: Vec<&Rc<KeyValue>> = inside.collect();
    if found.is_empty() {
        // A missing key has zeros, but no value.
        return compare.target != CompareTarget::Value as i32 && holds_for(compare, &KeyValue::default());
    }
    found.into_iter().all(|record| holds_for(compare, record))
}

fn holds_for(compare: &Compare, record: &KeyValue) -> bool {
    let ordering = match compare.target_union.as_ref() {
        Some(TargetUnion::Version(number)) => record.version.cmp(number),
        Some(TargetUnion::CreateRevision(number)) => record.create_revision.cmp(number),
        Some(TargetUnion::ModRevision(number)) => record.mod_revision.cmp(number),
        Some(TargetUnion::Lease(number)) => record.lease.cmp(number),
        Some(TargetUnion::Value(value)) => record.value.cmp(value),
        None => Ordering::Equal,
    };
    match CompareResult::try_from(compare.result).unwrap_or_default() {
        CompareResult::Equal => ordering.is_eq(),
        CompareResult::NotEqual => ordering.is_ne(),
        CompareResult::Greater => ordering.is_gt(),
        CompareResult::Less => ordering.is_lt(),
    }
}

#[cfg(test)]
#[path = "reference_tests.rs"]
mod tests;
