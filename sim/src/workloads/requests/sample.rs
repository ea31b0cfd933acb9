//! Draws requests with all options: limits, orders, filters and revisions of ranges; previous records, kept values and leases;
//! ranges of deletes; compares on every target; nested transactions: deep, wide and large in relation to the tiny limits.

use crate::checkers::requests::{KEY_PREFIX, Request};
use crate::random::RandomStream;
use bytes::Bytes;
use callboard::proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use callboard::proto::etcdserverpb::request_op::Request as Operation;
use callboard::proto::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};
use callboard::proto::mvccpb::KeyValue;
use std::collections::BTreeMap;

/// The most keys.
const KEYS_MAX: u64 = 9;
/// The end of the range of all keys.
const KEYS_END: &[u8] = b"r";
/// The deepest transaction that every server accepts, the deepest that is tried, and the widest.
const DEPTH_MAX: u64 = 12;
const DEPTH_TRIED: u64 = 150;
const WIDTH_MAX: u64 = 40;
/// The longest value.
const VALUE_BYTES_MAX: u64 = 4_000;

/// What a client remembers of its replies.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    pub revision: i64,
    pub records: BTreeMap<Bytes, KeyValue>,
}

/// Draws the requests of one client.
pub struct Sampler<'a> {
    pub random: &'a mut RandomStream,
    pub memory: &'a Memory,
    /// The number of the request: its values begin with it.
    pub id: u64,
    /// The client's leases.
    pub leases: &'a [i64],
    /// There is little space: few keys and short values.
    pub short_of_space: bool,
    values: u64,
    /// Operations that may still be added.
    operations_left: u64,
    /// Keys that a transaction may put, each once, and the first one that it may delete: no two operations of a transaction may
    /// touch one key, unless both delete.
    to_put: Vec<u64>,
    to_delete_from: u64,
}

impl<'a> Sampler<'a> {
    pub fn new(
        random: &'a mut RandomStream,
        memory: &'a Memory,
        id: u64,
        leases: &'a [i64],
        short_of_space: bool,
    ) -> Self {
        Self {
            random,
            memory,
            id,
            leases,
            short_of_space,
            values: 0,
            operations_left: 0,
            to_put: Vec::new(),
            to_delete_from: 0,
        }
    }

    pub fn sample(&mut self) -> Request {
        match self.random.below(20) {
            0..8 => Request::Range(self.range()),
            8..12 => {
                let key = self.random.below(self.keys());
                Request::Put(self.put(key))
            }
            12..14 => {
                self.to_delete_from = 0;
                Request::DeleteRange(self.delete())
            }
            _ => Request::Txn(self.whole_txn()),
        }
    }

    fn keys(&self) -> u64 {
        if self.short_of_space { 4 } else { KEYS_MAX }
    }

    /// One key, some, all keys of these requests, or all keys.
    fn key_range(&mut self, from: u64) -> (Bytes, Bytes) {
        let first = self.random.between(from, self.keys());
        match self.random.below(6) {
            0 | 1 => (key(first), Bytes::new()),
            2 => (key(first), end(self.random.between(first, self.keys()) + 1)),
            3 => (key(first), Bytes::from_static(KEYS_END)),
            _ => (key(from), Bytes::from_static(KEYS_END)),
        }
    }

    /// A past revision, or one close to those of known records.
    fn revision(&mut self) -> i64 {
        self.random.between(1, self.memory.revision.max(1) as u64) as i64
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.random.below(count) == 0
    }

    fn range(&mut self) -> RangeRequest {
        let (key, range_end) = if self.one_in(6) {
            (Bytes::from_static(&[0]), Bytes::from_static(&[0]))
        } else {
            self.key_range(0)
        };
        let mut request = RangeRequest {
            key,
            range_end,
            serializable: self.one_in(3),
            keys_only: self.one_in(5),
            count_only: self.one_in(8),
            ..RangeRequest::default()
        };
        if self.one_in(2) {
            request.limit = self.random.between(1, 6) as i64;
        }
        if self.one_in(2) {
            request.revision = self.revision();
        }
        if self.one_in(3) {
            request.sort_order = self.random.below(3) as i32;
            request.sort_target = self.random.below(5) as i32;
        }
        for bound in 0..4 {
            if self.one_in(8) {
                let revision = self.revision();
                match bound {
                    0 => request.min_mod_revision = revision,
                    1 => request.max_mod_revision = revision,
                    2 => request.min_create_revision = revision,
                    _ => request.max_create_revision = revision,
                }
            }
        }
        request
    }

    fn put(&mut self, number: u64) -> PutRequest {
        let mut request = PutRequest {
            key: key(number),
            prev_kv: self.one_in(2),
            ignore_value: self.one_in(8),
            ignore_lease: self.one_in(8),
            ..PutRequest::default()
        };
        if !request.ignore_value {
            request.value = self.value();
        }
        if !request.ignore_lease && self.one_in(2) {
            request.lease = *self.random.pick(self.leases);
        }
        request
    }

    /// A value that no other request writes.
    fn value(&mut self) -> Bytes {
        self.values += 1;
        let mut value = format!("{}.{}", self.id, self.values);
        if !self.short_of_space && self.one_in(8) {
            let length = self.random.below(VALUE_BYTES_MAX) as usize;
            value.extend(std::iter::repeat_n('.', length));
        }
        value.into()
    }

    fn delete(&mut self) -> DeleteRangeRequest {
        let (key, range_end) = self.key_range(self.to_delete_from);
        DeleteRangeRequest {
            key,
            range_end,
            prev_kv: self.one_in(2),
        }
    }

    fn whole_txn(&mut self) -> TxnRequest {
        let pivot = self.random.below(self.keys() + 1);
        self.to_put = (0..pivot).collect();
        self.random.shuffle(&mut self.to_put);
        self.to_delete_from = pivot;
        let depth = match self.random.below(60) {
            0..30 => 0,
            30..48 => 1,
            48..56 => self.random.between(2, 4),
            56..59 => self.random.between(5, DEPTH_MAX),
            _ => self.random.between(DEPTH_MAX, DEPTH_TRIED),
        };
        let is_wide = !self.short_of_space && self.one_in(16);
        self.operations_left = if is_wide { WIDTH_MAX } else { 8 };
        self.txn(depth, if is_wide { WIDTH_MAX / 2 } else { 4 })
    }

    fn txn(&mut self, depth: u64, width: u64) -> TxnRequest {
        let mut request = TxnRequest::default();
        for _ in 0..self.random.below(3) {
            request.compare.push(self.compare());
        }
        for branch in [&mut request.success, &mut request.failure] {
            for _ in 0..self.random.below(width + 1).min(self.operations_left) {
                self.operations_left = self.operations_left.saturating_sub(1);
                let operation = self.operation();
                branch.push(RequestOp {
                    request: Some(operation),
                });
            }
        }
        if depth > 0 {
            // In the branch that is more likely to be executed.
            let nested = Operation::RequestTxn(self.txn(depth - 1, width));
            let branch = if request.compare.is_empty() || self.one_in(2) {
                &mut request.success
            } else {
                &mut request.failure
            };
            branch.push(RequestOp {
                request: Some(nested),
            });
        }
        request
    }

    fn operation(&mut self) -> Operation {
        match self.random.below(3) {
            0 => Operation::RequestRange(self.range()),
            1 if self.to_delete_from <= self.keys() => Operation::RequestDeleteRange(self.delete()),
            _ => match self.to_put.pop() {
                Some(number) => Operation::RequestPut(self.put(number)),
                None => Operation::RequestRange(self.range()),
            },
        }
    }

    /// A compare that holds in about half of the cases: it uses the client's last replies.
    fn compare(&mut self) -> Compare {
        let (key, range_end) = self.key_range(0);
        let known = self.memory.records.get(&key).cloned().unwrap_or_default();
        let result = match self.random.below(6) {
            0 => CompareResult::NotEqual,
            1 => CompareResult::Greater,
            2 => CompareResult::Less,
            _ => CompareResult::Equal,
        };
        let (target, union) = match self.random.below(5) {
            0 => (CompareTarget::Version, TargetUnion::Version(known.version)),
            1 => (
                CompareTarget::Create,
                TargetUnion::CreateRevision(known.create_revision),
            ),
            2 => (CompareTarget::Mod, TargetUnion::ModRevision(known.mod_revision)),
            3 => (CompareTarget::Lease, TargetUnion::Lease(known.lease)),
            _ => (CompareTarget::Value, TargetUnion::Value(known.value)),
        };
        Compare {
            key,
            range_end,
            target: target as i32,
            result: result as i32,
            target_union: Some(union),
        }
    }
}

/// The end of a range before a key. Numbers have one digit, so that they sort as keys do.
fn end(number: u64) -> Bytes {
    if number > KEYS_MAX {
        Bytes::from_static(KEYS_END)
    } else {
        key(number)
    }
}

fn key(number: u64) -> Bytes {
    [KEY_PREFIX, number.to_string().as_bytes()].concat().into()
}
