//! Puts, deletes and transactions: etcd's answers, including their headers.

use crate::limits::KEY_BYTES_MAX;
use crate::proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::proto::etcdserverpb::request_op;
use crate::proto::etcdserverpb::response_op::Response;
use crate::proto::etcdserverpb::{Compare, PutRequest, RangeRequest, RequestOp, TxnRequest, TxnResponse};
use crate::state::ApplyError;
use crate::state::machine::Outcome;
use crate::state::mvcc::txn;
use crate::state::testing::{
    TestMember, ToCommand, ToOperation, bytes, compact, delete, everything, put, range,
};

fn run_txn(member: &mut TestMember, request: TxnRequest) -> TxnResponse {
    let Outcome::Txn(response) = member.run(request).unwrap() else {
        panic!("a txn response")
    };
    response
}

fn success(operations: Vec<RequestOp>) -> TxnRequest {
    TxnRequest {
        success: operations,
        ..Default::default()
    }
}

fn compare(key: &str, target: CompareTarget, result: CompareResult, union: Option<TargetUnion>) -> Compare {
    Compare {
        key: bytes(key),
        target: target as i32,
        result: result as i32,
        target_union: union,
        ..Default::default()
    }
}

#[test]
fn puts_count_versions_and_revisions() {
    let mut member = TestMember::new();
    let with_previous = PutRequest {
        prev_kv: true,
        ..put("k", "2")
    };
    assert!(matches!(member.run(put("k", "1")).unwrap(), Outcome::Put(r) if r.header.unwrap().revision == 2));
    let Outcome::Put(response) = member.run(with_previous).unwrap() else {
        panic!()
    };
    let previous = response.prev_kv.unwrap();
    assert_eq!(
        (
            response.header.unwrap().revision,
            &previous.value[..],
            previous.version
        ),
        (3, &b"1"[..], 1)
    );
    let Outcome::DeleteRange(response) = member.run(delete("k", "")).unwrap() else {
        panic!()
    };
    assert_eq!((response.header.unwrap().revision, response.deleted), (4, 1));
    let Outcome::DeleteRange(response) = member.run(delete("k", "")).unwrap() else {
        panic!()
    };
    assert_eq!(
        (response.header.unwrap().revision, response.deleted),
        (4, 0),
        "nothing changed"
    );
    member.run(put("k", "3")).unwrap();
    let kv = member.range(&range("k", "")).kvs.pop().unwrap();
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (5, 5, 1));
}

#[test]
fn commands_of_one_batch_see_each_other() {
    let mut member = TestMember::new();
    let deleting = crate::proto::etcdserverpb::DeleteRangeRequest {
        prev_kv: true,
        ..delete("a", "z")
    };
    let outcomes = member.run_all(vec![
        put("b", "1").command(),
        put("a", "2").command(),
        put("b", "3").command(),
        deleting.command(),
        put("b", "4").command(),
        success(vec![
            everything().operation(),
            RangeRequest {
                revision: 4,
                ..everything()
            }
            .operation(),
        ])
        .command(),
    ]);
    let Ok(Outcome::DeleteRange(deleted)) = &outcomes[3] else {
        panic!()
    };
    assert_eq!(
        deleted
            .prev_kvs
            .iter()
            .map(|kv| (&kv.key[..], kv.version))
            .collect::<Vec<_>>(),
        [(&b"a"[..], 1), (b"b", 2)]
    );
    let Ok(Outcome::Txn(read)) = &outcomes[5] else {
        panic!()
    };
    let values = |response: &Option<Response>| match response {
        Some(Response::ResponseRange(range)) => {
            range.kvs.iter().map(|kv| kv.value.clone()).collect::<Vec<_>>()
        }
        _ => panic!("a range"),
    };
    assert_eq!(values(&read.responses[0].response), [bytes("4")]);
    assert_eq!(values(&read.responses[1].response), [bytes("2"), bytes("3")]);
    assert_eq!(member.view().revision(), 6);
}

#[test]
fn ignored_values_and_leases_need_the_key() {
    let mut member = TestMember::new();
    let keep_value = PutRequest {
        ignore_value: true,
        value: bytes(""),
        ..put("k", "")
    };
    let keep_lease = PutRequest {
        ignore_lease: true,
        ..put("k", "2")
    };
    let leased = PutRequest {
        lease: 9,
        ..put("k", "2")
    };
    assert_eq!(member.run(keep_value.clone()), Err(ApplyError::KeyNotFound));
    assert_eq!(member.run(keep_lease.clone()), Err(ApplyError::KeyNotFound));
    assert_eq!(member.run(leased.clone()), Err(ApplyError::LeaseNotFound));
    assert_eq!(member.run(put("", "1")), Err(ApplyError::EmptyKey));
    assert_eq!(
        member.run(put(&"k".repeat(KEY_BYTES_MAX + 1), "1")),
        Err(ApplyError::KeyTooLong)
    );
    let refused = success(vec![put("other", "1").operation(), leased.operation()]);
    assert_eq!(member.run(refused), Err(ApplyError::LeaseNotFound));
    assert_eq!(
        member.view().revision(),
        1,
        "a refused transaction writes nothing"
    );
    assert_eq!(member.range(&everything()).count, 0);
    member.run(put("k", "1")).unwrap();
    member.run(keep_value).unwrap();
    let kv = member.range(&range("k", "")).kvs.pop().unwrap();
    assert_eq!((&kv.value[..], kv.version), (&b"1"[..], 2));
    member.run(keep_lease).unwrap();
}

#[test]
fn conditions_compare_as_etcd_does() {
    use CompareResult::{Equal, Greater, Less, NotEqual};
    use CompareTarget::{Create, Lease, Mod, Value, Version};
    let mut member = TestMember::new();
    member.run(put("a", "1")).unwrap();
    member.run(put("b", "2")).unwrap();
    member.run(put("b", "3")).unwrap();
    let number = |number| Some(TargetUnion::Version(number));
    let value = |text| Some(TargetUnion::Value(bytes(text)));
    let ranged = |compare: Compare, end| Compare {
        range_end: bytes(end),
        ..compare
    };
    let table = [
        (compare("b", Version, Equal, number(2)), true),
        (compare("b", Version, Greater, number(2)), false),
        (compare("b", Version, Less, number(3)), true),
        (compare("b", Version, NotEqual, number(2)), false),
        (
            compare("b", Create, Equal, Some(TargetUnion::CreateRevision(3))),
            true,
        ),
        (compare("b", Mod, Equal, Some(TargetUnion::ModRevision(4))), true),
        (compare("b", Lease, Equal, Some(TargetUnion::Lease(0))), true),
        (compare("b", Value, Equal, value("3")), true),
        (compare("b", Value, Less, value("2")), false),
        // A union field of another target counts as zero.
        (compare("b", Mod, Greater, number(100)), true),
        (compare("b", Version, Greater, None), true),
        // A missing key is all zeros, except that its value compares with nothing.
        (compare("x", Version, Equal, number(0)), true),
        (
            compare("x", Create, Less, Some(TargetUnion::CreateRevision(1))),
            true,
        ),
        (compare("x", Value, Equal, value("")), false),
        (compare("x", Value, NotEqual, value("y")), false),
        (ranged(compare("a", Version, Greater, number(0)), "c"), true),
        (ranged(compare("a", Version, Greater, number(1)), "c"), false),
        (ranged(compare("x", Version, Equal, number(0)), "z"), true),
        (
            ranged(
                compare("\0", Mod, Greater, Some(TargetUnion::ModRevision(1))),
                "\0",
            ),
            true,
        ),
    ];
    for (condition, expected) in table {
        let request = TxnRequest {
            compare: vec![condition.clone()],
            ..Default::default()
        };
        let plan = txn::plan(&member.view().keys, &request).unwrap();
        assert_eq!(plan.succeeded, expected, "{condition:?}");
        for keys_max in [1, 2] {
            let view = member.view();
            let mut slices = txn::Condition::new(&view.keys, &condition).unwrap();
            let holds = (0..10).find_map(|_| slices.advance(keys_max).unwrap());
            assert_eq!(holds, Some(expected), "{condition:?} in slices of {keys_max}");
        }
        assert_eq!(run_txn(&mut member, request).succeeded, expected, "{condition:?}");
    }
}

#[test]
fn a_transaction_is_one_revision_with_places() {
    let mut member = TestMember::new();
    member.run(put("old", "1")).unwrap();
    let nested = TxnRequest {
        compare: vec![compare("new", CompareTarget::Version, CompareResult::Equal, None)],
        success: vec![put("nested", "1").operation(), range("nested", "").operation()],
        failure: vec![put("wrong", "1").operation()],
    };
    let response = run_txn(
        &mut member,
        success(vec![
            range("old", "").operation(),
            put("new", "1").operation(),
            delete("old", "").operation(),
            nested.operation(),
            everything().operation(),
            delete("none", "").operation(),
        ]),
    );
    assert_eq!(response.header.as_ref().unwrap().revision, 3);
    let revisions: Vec<i64> = response
        .responses
        .iter()
        .map(|operation| match operation.response.as_ref().unwrap() {
            Response::ResponseRange(r) => r.header.as_ref().unwrap().revision,
            Response::ResponsePut(r) => r.header.as_ref().unwrap().revision,
            Response::ResponseDeleteRange(r) => r.header.as_ref().unwrap().revision,
            Response::ResponseTxn(r) => r.header.as_ref().unwrap().revision,
        })
        .collect();
    assert_eq!(revisions, [2, 3, 3, 0, 3, 3]);
    let Some(Response::ResponseTxn(nested)) = &response.responses[3].response else {
        panic!()
    };
    assert!(
        nested.succeeded,
        "nested conditions see the state before the first operation"
    );
    let Some(Response::ResponseRange(all)) = &response.responses[4].response else {
        panic!()
    };
    assert_eq!(
        all.kvs.iter().map(|kv| &kv.key[..]).collect::<Vec<_>>(),
        [&b"nested"[..], b"new"]
    );
    let changes = member.view().changes(3, 100).unwrap();
    let shown: Vec<_> = changes
        .iter()
        .map(|change| {
            (
                change.place.main,
                change.place.sub,
                &change.kv.key[..],
                change.kv.version,
            )
        })
        .collect();
    assert_eq!(
        shown,
        [(3, 0, &b"new"[..], 1), (3, 1, b"old", 0), (3, 2, b"nested", 1)]
    );
    let unchanged = run_txn(&mut member, success(vec![delete("none", "").operation()]));
    assert_eq!(unchanged.header.unwrap().revision, 3);
}

#[test]
fn ranges_are_checked_before_anything_is_written() {
    let mut member = TestMember::new();
    member.run(put("a", "1")).unwrap();
    member.run(put("a", "2")).unwrap();
    member.run(compact(3)).unwrap();
    let at = |revision| RangeRequest {
        revision,
        ..everything()
    };
    for (revision, expected) in [
        (2, ApplyError::Compacted),
        (-1, ApplyError::Compacted),
        (4, ApplyError::FutureRevision),
    ] {
        let request = success(vec![put("b", "1").operation(), at(revision).operation()]);
        assert_eq!(member.run(request), Err(expected), "revision {revision}");
    }
    assert_eq!(member.range(&everything()).count, 1);
    run_txn(
        &mut member,
        success(vec![put("b", "1").operation(), at(3).operation()]),
    );
    let table = [
        (2, Err(ApplyError::Compacted)),
        (5, Err(ApplyError::FutureRevision)),
        (3, Err(ApplyError::Compacted)),
    ];
    for (revision, expected) in table {
        assert_eq!(
            member.run(compact(revision)).map(|_| ()),
            expected,
            "compaction at {revision}"
        );
    }
    member.run(compact(4)).unwrap();
    assert_eq!(member.view().compact_revision(), 4);
}

#[test]
fn read_only_transactions_are_told_apart() {
    let serializable = RangeRequest {
        serializable: true,
        ..everything()
    };
    let table = [
        (success(vec![]), true, true),
        (success(vec![everything().operation()]), true, false),
        (success(vec![serializable.clone().operation()]), true, true),
        (
            TxnRequest {
                failure: vec![put("a", "1").operation()],
                ..success(vec![serializable.operation()])
            },
            false,
            false,
        ),
        (success(vec![success(vec![]).operation()]), false, false),
    ];
    for (request, read_only, local) in table {
        assert_eq!(
            (txn::is_read_only(&request), txn::is_serializable(&request)),
            (read_only, local),
            "{request:?}"
        );
    }
}

#[test]
fn a_key_may_be_deleted_and_put_in_one_revision() {
    let mut member = TestMember::new();
    member.run(put("b", "old")).unwrap();
    let before = member.view().revision();
    let operation = |request| RequestOp {
        request: Some(request),
    };
    for (end, deleted) in [("\0", 1), ("a", 0)] {
        let request = TxnRequest {
            success: vec![
                operation(request_op::Request::RequestDeleteRange(delete("b", end))),
                operation(request_op::Request::RequestPut(put("b", "new"))),
            ],
            ..Default::default()
        };
        let response = run_txn(&mut member, request);
        assert!(
            matches!(&response.responses[0].response, Some(Response::ResponseDeleteRange(done)) if done.deleted == deleted),
            "{response:?}"
        );
        let found = member.range(&everything());
        assert_eq!((found.count, found.kvs[0].value.as_ref()), (1, &b"new"[..]));
        let expected = if deleted == 1 {
            (before + 1, 1)
        } else {
            (before + 1, 2)
        };
        assert_eq!((found.kvs[0].create_revision, found.kvs[0].version), expected);
    }
    let past = RangeRequest {
        revision: before,
        ..everything()
    };
    assert_eq!(member.range(&past).kvs[0].value, "old");
}

#[test]
fn a_range_that_cannot_be_sorted_is_refused_before_anything_is_carried_out() {
    let mut member = TestMember::new();
    let before = member.view().revision();
    let mut unsortable = range("a", "");
    unsortable.sort_order = 99;
    let refused = member.run(TxnRequest {
        success: vec![
            put("a", "1").operation(),
            unsortable.operation(),
            put("b", "2").operation(),
        ],
        ..Default::default()
    });
    assert!(refused.is_err());
    member.run(put("c", "3")).unwrap();
    assert_eq!(member.view().revision(), before + 1);
    assert_eq!(member.range(&everything()).kvs.len(), 1);
}
