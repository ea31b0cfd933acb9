//! The options of requests, by name: the report shows which were never used.

use crate::checkers::requests::Request;
use callboard::proto::etcdserverpb as pb;
use callboard::proto::etcdserverpb::compare::CompareTarget;
use callboard::proto::etcdserverpb::request_op::Request as Operation;

type Features = Vec<&'static str>;

/// The options of a request.
pub fn of(request: &Request) -> Features {
    let mut features = Vec::new();
    match request {
        Request::Range(range) => of_range(range, &mut features),
        Request::Put(put) => of_put(put, &mut features),
        Request::DeleteRange(delete) => of_delete(delete, &mut features),
        Request::Txn(txn) => of_txn(txn, 0, &mut features),
        Request::Revoke(_) => {}
    }
    features
}

/// Adds the names that hold.
fn note(features: &mut Features, table: &[(bool, &'static str)]) {
    features.extend(table.iter().filter(|(holds, _)| *holds).map(|(_, name)| *name));
}

fn of_range(range: &pb::RangeRequest, features: &mut Features) {
    let is_past = range.revision > 0;
    let is_filtered = range.min_mod_revision
        | range.max_mod_revision
        | range.min_create_revision
        | range.max_create_revision
        != 0;
    note(
        features,
        &[
            (range.limit > 0 && !is_past, "asked: limit"),
            (range.limit > 0 && is_past, "asked: limit in the past"),
            (range.sort_order | range.sort_target != 0, "asked: sorted"),
            (range.keys_only, "asked: keys only"),
            (range.count_only && !is_past, "asked: count only"),
            (range.count_only && is_past, "asked: count only in the past"),
            (is_filtered, "asked: revision filters"),
        ],
    );
}

fn of_put(put: &pb::PutRequest, features: &mut Features) {
    note(
        features,
        &[
            (put.prev_kv, "asked: prev_kv of a put"),
            (put.ignore_value, "asked: ignore value"),
            (put.ignore_lease, "asked: ignore lease"),
            (put.value.len() > 1_000, "asked: long value"),
        ],
    );
}

fn of_delete(delete: &pb::DeleteRangeRequest, features: &mut Features) {
    note(
        features,
        &[
            (!delete.range_end.is_empty(), "asked: delete of several keys"),
            (delete.prev_kv, "asked: prev_kv of a delete"),
        ],
    );
}

fn of_txn(txn: &pb::TxnRequest, depth: usize, features: &mut Features) {
    note(
        features,
        &[
            (depth == 1, "asked: nested transaction"),
            (depth == 5, "asked: deep transaction"),
            (depth == 50, "asked: too deep transaction"),
            (
                txn.success.len() + txn.failure.len() > 16,
                "asked: wide transaction",
            ),
        ],
    );
    for compare in &txn.compare {
        features.push(match compare.target() {
            CompareTarget::Version => "asked: compare version",
            CompareTarget::Create => "asked: compare create revision",
            CompareTarget::Mod => "asked: compare mod revision",
            CompareTarget::Value => "asked: compare value",
            CompareTarget::Lease => "asked: compare lease",
        });
        note(
            features,
            &[(!compare.range_end.is_empty(), "asked: compare of a range")],
        );
    }
    for operation in txn.success.iter().chain(&txn.failure) {
        match &operation.request {
            Some(Operation::RequestRange(range)) => of_range(range, features),
            Some(Operation::RequestPut(put)) => of_put(put, features),
            Some(Operation::RequestDeleteRange(delete)) => of_delete(delete, features),
            Some(Operation::RequestTxn(nested)) => of_txn(nested, depth + 1, features),
            None => {}
        }
    }
}
