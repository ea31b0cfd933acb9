//! Random commands and ranges for the model.

use bytes::Bytes;
use proptest::prelude::*;

use crate::proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::proto::etcdserverpb::request_op::Request as Op;
use crate::proto::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};
use crate::proto::log::command::Request;
use crate::state::testing::{ToCommand, ToOperation, compact};

pub(super) const KEYS: [&[u8]; 8] = [b"\0", b"\0\0", b"a", b"a\0", b"a\0\xff", b"ab", b"b", b"\xff\xff"];

fn key() -> impl Strategy<Value = Bytes> {
    (0..KEYS.len()).prop_map(|number| Bytes::from_static(KEYS[number]))
}

fn span() -> impl Strategy<Value = (Bytes, Bytes)> {
    let end = prop_oneof![3 => Just(Bytes::new()), 2 => Just(Bytes::from_static(b"\0")), 4 => key()];
    (key(), end)
}

fn puts() -> impl Strategy<Value = PutRequest> {
    (key(), any::<u8>(), any::<bool>(), 0..10u8).prop_map(|(key, value, prev_kv, rare)| PutRequest {
        key,
        value: if rare == 0 {
            Bytes::new()
        } else {
            Bytes::from(vec![value; usize::from(value)])
        },
        prev_kv,
        ignore_value: rare == 0,
        ignore_lease: rare == 1,
        lease: i64::from(rare == 2),
    })
}

fn deletes() -> impl Strategy<Value = DeleteRangeRequest> {
    (span(), any::<bool>()).prop_map(|((key, range_end), prev_kv)| DeleteRangeRequest {
        key,
        range_end,
        prev_kv,
    })
}

pub(super) fn ranges() -> impl Strategy<Value = RangeRequest> {
    let filter = || prop_oneof![4 => Just(0), 1 => 1..30i64];
    let filters = (filter(), filter(), filter(), filter());
    let flags = (0..6u8, 0..3i32, 0..5i32);
    (
        span(),
        prop_oneof![Just(0), 1..6i64],
        prop_oneof![Just(0), -2..40i64],
        flags,
        filters,
    )
        .prop_map(
            |((key, range_end), limit, revision, (flag, sort_order, sort_target), filters)| RangeRequest {
                key,
                range_end,
                limit,
                revision,
                sort_order,
                sort_target,
                serializable: false,
                keys_only: flag == 0,
                count_only: flag == 1,
                min_mod_revision: filters.0,
                max_mod_revision: filters.1,
                min_create_revision: filters.2,
                max_create_revision: filters.3,
            },
        )
}

fn conditions() -> impl Strategy<Value = Compare> {
    (span(), 0..2i32, 0..3i64).prop_map(|((key, range_end), result, version)| Compare {
        key,
        range_end,
        result: if result == 0 {
            CompareResult::Equal
        } else {
            CompareResult::Greater
        } as i32,
        target: CompareTarget::Version as i32,
        target_union: Some(TargetUnion::Version(version)),
    })
}

fn operations(depth: u32) -> BoxedStrategy<RequestOp> {
    let plain = prop_oneof![
        4 => puts().prop_map(ToOperation::operation),
        2 => deletes().prop_map(ToOperation::operation),
        3 => ranges().prop_map(ToOperation::operation),
    ];
    if depth == 0 {
        plain.boxed()
    } else {
        prop_oneof![6 => plain, 1 => txns(depth - 1).prop_map(ToOperation::operation)].boxed()
    }
}

fn txns(depth: u32) -> BoxedStrategy<TxnRequest> {
    let branch = || prop::collection::vec(operations(depth), 0..4);
    (prop::collection::vec(conditions(), 0..2), branch(), branch())
        .prop_map(|(compare, success, failure)| TxnRequest {
            compare,
            success,
            failure,
        })
        .boxed()
}

fn commands() -> impl Strategy<Value = Request> {
    prop_oneof![
        5 => puts().prop_map(ToCommand::command),
        2 => deletes().prop_map(ToCommand::command),
        3 => txns(2).prop_map(|mut txn| { without_ignoring(&mut txn); txn.command() }),
        1 => (0..40i64).prop_map(|revision| compact(revision).command()),
    ]
}

/// Clears `ignore_value` and `ignore_lease`: inside a transaction an earlier operation may have deleted the key, which etcd's
/// API refuses beforehand.
fn without_ignoring(txn: &mut TxnRequest) {
    for operation in txn.success.iter_mut().chain(&mut txn.failure) {
        match operation.request.as_mut().unwrap() {
            Op::RequestPut(put) => (put.ignore_value, put.ignore_lease) = (false, false),
            Op::RequestTxn(nested) => without_ignoring(nested),
            _ => {}
        }
    }
}

#[derive(Clone, Debug)]
pub(super) enum Action {
    Apply(Vec<Request>),
    Flush,
    Reclaim,
    Reopen,
}

pub(super) fn actions() -> impl Strategy<Value = Action> {
    prop_oneof![
        20 => prop::collection::vec(commands(), 1..5).prop_map(Action::Apply),
        2 => Just(Action::Flush),
        2 => Just(Action::Reclaim),
        1 => Just(Action::Reopen),
    ]
}
