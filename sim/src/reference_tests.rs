//! The reference model, by examples.

use super::*;
use crate::records::RecordPast;

fn put(key: &'static str, value: &'static str) -> PutRequest {
    PutRequest {
        key: key.into(),
        value: value.into(),
        prev_kv: true,
        ..PutRequest::default()
    }
}

fn everything() -> RangeRequest {
    RangeRequest {
        key: vec![0].into(),
        range_end: vec![0].into(),
        ..RangeRequest::default()
    }
}

fn operation(request: Request) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}

use callboard::proto::etcdserverpb::RequestOp;

/// Revisions 2 to 4: a=9, b=8, and then a=1 again.
fn states() -> States {
    let mut past = RecordPast::default();
    for request in [put("a", "9"), put("b", "8"), put("a", "1")] {
        let states = past.states();
        let mut store = Store::at(&states, past.revision()).expect("known");
        store.put(&request).expect("taken");
        past.push(store.changes);
    }
    past.states()
}

fn keys(response: &RangeResponse) -> String {
    response
        .kvs
        .iter()
        .map(|kv| String::from_utf8_lossy(&kv.key))
        .collect()
}

#[test]
fn ranges_are_limited_sorted_filtered_and_counted() {
    let states = states();
    let store = Store::at(&states, 4).expect("known");
    let (by_value, descending) = (SortTarget::Value as i32, SortOrder::Descend as i32);
    let cases = [
        (everything(), "ab", false),
        (
            RangeRequest {
                limit: 1,
                ..everything()
            },
            "a",
            true,
        ),
        (
            RangeRequest {
                sort_order: descending,
                limit: 1,
                ..everything()
            },
            "b",
            true,
        ),
        (
            RangeRequest {
                sort_target: by_value,
                revision: 3,
                ..everything()
            },
            "ba",
            false,
        ),
        (
            RangeRequest {
                min_mod_revision: 4,
                ..everything()
            },
            "a",
            false,
        ),
        (
            RangeRequest {
                max_create_revision: 2,
                limit: 1,
                ..everything()
            },
            "a",
            false,
        ),
    ];
    for (request, expected, more) in cases {
        let response = store.range(&request).expect("answered");
        assert_eq!(
            (keys(&response).as_str(), response.more, response.count),
            (expected, more, 2)
        );
    }
    let beyond = RangeRequest {
        revision: 5,
        ..everything()
    };
    assert_eq!(store.range(&beyond), Err(Unpredicted::Refused));
}

#[test]
fn a_transaction_compares_before_and_sees_what_it_did() {
    let states = states();
    let mut store = Store::at(&states, 4).expect("known");
    let compare = Compare {
        key: "a".into(),
        target: CompareTarget::Mod as i32,
        target_union: Some(TargetUnion::ModRevision(4)),
        ..Compare::default()
    };
    let nested = TxnRequest {
        compare: vec![compare.clone()],
        success: vec![operation(Request::RequestRange(everything()))],
        ..TxnRequest::default()
    };
    let delete = DeleteRangeRequest {
        key: "b".into(),
        range_end: vec![0].into(),
        prev_kv: true,
    };
    let request = TxnRequest {
        compare: vec![compare],
        success: vec![
            operation(Request::RequestPut(put("a", "2"))),
            operation(Request::RequestDeleteRange(delete)),
            operation(Request::RequestTxn(nested)),
        ],
        ..TxnRequest::default()
    };
    let response = store.txn(&request).expect("carried out");
    assert!(response.succeeded);
    assert_eq!(response.header.expect("there").revision, 5);
    let Some(Response::ResponseTxn(nested)) = &response.responses[2].response else {
        panic!("{response:?}");
    };
    let Some(Response::ResponseRange(range)) = &nested.responses[0].response else {
        panic!("{nested:?}");
    };
    assert_eq!(keys(range), "a");
    assert_eq!((range.kvs[0].version, range.kvs[0].create_revision), (3, 2));
    assert_eq!(store.changes.len(), 2);
    // A compare on the value of a missing key is neither equal nor different.
    let absent = Compare {
        key: "x".into(),
        target: CompareTarget::Value as i32,
        result: CompareResult::NotEqual as i32,
        target_union: Some(TargetUnion::Value("y".into())),
        ..Compare::default()
    };
    assert!(!holds(&store.records, &absent));
}

#[test]
fn what_is_to_be_kept_is_kept() {
    let states = states();
    let mut store = Store::at(&states, 4).expect("known");
    let lease = PutRequest {
        lease: 7,
        ignore_value: true,
        value: Bytes::new(),
        ..put("a", "")
    };
    let response = store.put(&lease).expect("carried out");
    assert_eq!(response.prev_kv.expect("asked for").mod_revision, 4);
    let record = &store.records[&Bytes::from("a")];
    assert_eq!(
        (&record.value[..], record.lease, record.version),
        (&b"1"[..], 7, 3)
    );
    let missing = PutRequest {
        ignore_lease: true,
        ..put("x", "1")
    };
    assert_eq!(store.put(&missing), Err(Unpredicted::Refused));
}
