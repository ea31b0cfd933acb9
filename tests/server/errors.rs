//! What the gRPC services refuse, with exactly etcd's code and text: clients compare both.

use callboard::proto::etcdserverpb as pb;
use callboard::proto::etcdserverpb::kv_client::KvClient;
use pb::request_op::Request;
use tonic::Code;

use super::block_on;
use super::support::cluster::Cluster;
use super::support::{self, kv_client};

const MIB: usize = 1024 * 1024;

enum Call {
    Range(pb::RangeRequest),
    Put(pb::PutRequest),
    Delete(pb::DeleteRangeRequest),
    Txn(pb::TxnRequest),
    Compact(pb::CompactionRequest),
}

/// The store these run on: revision 6, compacted at 4.
fn table() -> Vec<(&'static str, Call, Code, &'static str)> {
    let mut cases = single_requests();
    cases.extend(transactions());
    cases
}

fn single_requests() -> Vec<(&'static str, Call, Code, &'static str)> {
    use Call::{Compact, Delete, Put, Range};
    use Code::{InvalidArgument, OutOfRange, ResourceExhausted};
    const NO_KEY: &str = "etcdserver: key is not provided";
    const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";
    const FUTURE: &str = "etcdserver: mvcc: required revision is a future revision";
    const SORT: &str = "etcdserver: invalid sort option";
    let at = |revision| pb::RangeRequest {
        key: "key".into(),
        revision,
        ..Default::default()
    };
    let compaction = |revision| pb::CompactionRequest {
        revision,
        physical: false,
    };
    vec![
        (
            "get without a key",
            Range(pb::RangeRequest::default()),
            InvalidArgument,
            NO_KEY,
        ),
        (
            "put without a key",
            Put(put("", "value")),
            InvalidArgument,
            NO_KEY,
        ),
        (
            "delete without a key",
            Delete(pb::DeleteRangeRequest::default()),
            InvalidArgument,
            NO_KEY,
        ),
        ("get before the compaction", Range(at(3)), OutOfRange, COMPACTED),
        ("get in the future", Range(at(7)), OutOfRange, FUTURE),
        (
            "compaction of the past",
            Compact(compaction(3)),
            OutOfRange,
            COMPACTED,
        ),
        (
            "the same compaction again",
            Compact(compaction(4)),
            OutOfRange,
            COMPACTED,
        ),
        (
            "compaction of the future",
            Compact(compaction(7)),
            OutOfRange,
            FUTURE,
        ),
        (
            "unknown sort order",
            Range(pb::RangeRequest {
                sort_order: 9,
                ..at(0)
            }),
            InvalidArgument,
            SORT,
        ),
        (
            "unknown sort target",
            Range(pb::RangeRequest {
                sort_target: 9,
                ..at(0)
            }),
            InvalidArgument,
            SORT,
        ),
        (
            "a value beside ignore_value",
            Put(pb::PutRequest {
                ignore_value: true,
                ..put("key", "value")
            }),
            InvalidArgument,
            "etcdserver: value is provided",
        ),
        (
            "a lease beside ignore_lease",
            Put(pb::PutRequest {
                ignore_lease: true,
                lease: 1,
                ..put("key", "value")
            }),
            InvalidArgument,
            "etcdserver: lease is provided",
        ),
        (
            "ignore_value of a missing key",
            Put(pb::PutRequest {
                ignore_value: true,
                ..put("missing", "")
            }),
            InvalidArgument,
            "etcdserver: key not found",
        ),
        (
            "ignore_lease of a missing key",
            Put(pb::PutRequest {
                ignore_lease: true,
                ..put("missing", "value")
            }),
            InvalidArgument,
            "etcdserver: key not found",
        ),
        (
            "a lease that does not exist",
            Put(pb::PutRequest {
                lease: 77,
                ..put("key", "value")
            }),
            Code::NotFound,
            "etcdserver: requested lease not found",
        ),
        (
            "a request over 1.5 MiB",
            Put(put("key", &"x".repeat(3 * MIB / 2))),
            InvalidArgument,
            "etcdserver: request is too large",
        ),
        (
            "a message over 2 MiB",
            Put(put("key", &"x".repeat(2 * MIB))),
            ResourceExhausted,
            "grpc: received message larger than max (2097162 vs. 2097152)",
        ),
    ]
}

fn transactions() -> Vec<(&'static str, Call, Code, &'static str)> {
    use Call::Txn;
    use Code::{InvalidArgument, OutOfRange};
    const NO_KEY: &str = "etcdserver: key is not provided";
    const TOO_MANY: &str = "etcdserver: too many operations in txn request";
    const DUPLICATE: &str = "etcdserver: duplicate key given in txn request";
    let success = |success: Vec<Request>| Txn(txn(Vec::new(), success, Vec::new()));
    let failure = |failure: Vec<Request>| Txn(txn(Vec::new(), Vec::new(), failure));
    let put_op = |key: &str| Request::RequestPut(put(key, "1"));
    let many = |count| {
        (0..count)
            .map(|number| put_op(&format!("many{number}")))
            .collect::<Vec<_>>()
    };
    let compare = |key: String| pb::Compare {
        key: key.into_bytes().into(),
        ..Default::default()
    };
    let nested = Request::RequestTxn(txn(Vec::new(), vec![put_op("a")], Vec::new()));
    vec![
        ("129 operations", success(many(129)), InvalidArgument, TOO_MANY),
        (
            "129 operations to fall back on",
            failure(many(129)),
            InvalidArgument,
            TOO_MANY,
        ),
        (
            "129 compares",
            Txn(txn(
                (0..129).map(|number| compare(format!("{number}"))).collect(),
                Vec::new(),
                Vec::new(),
            )),
            InvalidArgument,
            TOO_MANY,
        ),
        (
            "the same key twice",
            success(vec![put_op("a"), put_op("a")]),
            InvalidArgument,
            DUPLICATE,
        ),
        (
            "the same key twice, falling back",
            failure(vec![put_op("a"), put_op("a")]),
            InvalidArgument,
            DUPLICATE,
        ),
        (
            "put and delete",
            success(vec![put_op("a"), delete("a", "")]),
            InvalidArgument,
            DUPLICATE,
        ),
        (
            "put inside a deleted range",
            success(vec![delete("a", "c"), put_op("b")]),
            InvalidArgument,
            DUPLICATE,
        ),
        (
            "put again in a transaction within",
            success(vec![put_op("a"), nested]),
            InvalidArgument,
            DUPLICATE,
        ),
        (
            "put without a key within",
            success(vec![put_op("")]),
            InvalidArgument,
            NO_KEY,
        ),
        (
            "delete without a key within",
            success(vec![delete("", "")]),
            InvalidArgument,
            NO_KEY,
        ),
        (
            "compare without a key",
            Txn(txn(vec![compare(String::new())], Vec::new(), Vec::new())),
            InvalidArgument,
            NO_KEY,
        ),
        (
            "get in the future within",
            success(vec![
                put_op("a"),
                Request::RequestRange(pb::RangeRequest {
                    key: "key".into(),
                    revision: 99,
                    ..Default::default()
                }),
            ]),
            OutOfRange,
            "etcdserver: mvcc: required revision is a future revision",
        ),
        (
            "get before the compaction within",
            success(vec![
                put_op("a"),
                Request::RequestRange(pb::RangeRequest {
                    key: "key".into(),
                    revision: 2,
                    ..Default::default()
                }),
            ]),
            OutOfRange,
            "etcdserver: mvcc: required revision has been compacted",
        ),
    ]
}

#[test]
fn have_etcds_codes_and_texts() {
    let cluster = Cluster::start(&support::callboard_bin(), 1);
    let member = cluster.members[0].client;
    let wrong = block_on(async {
        let channel = kv_client::connect(member).await.expect("a connection");
        let mut client = KvClient::with_origin(channel, kv_client::origin(member));
        for _ in 0..5 {
            client.put(put("key", "value")).await.expect("a put");
        }
        client
            .compact(pb::CompactionRequest {
                revision: 4,
                physical: true,
            })
            .await
            .expect("a compaction");
        let mut wrong = Vec::new();
        for (name, call, code, text) in table() {
            let answer = match call {
                Call::Range(request) => client
                    .range(request)
                    .await
                    .map(|response| response.into_inner().header),
                Call::Put(request) => client
                    .put(request)
                    .await
                    .map(|response| response.into_inner().header),
                Call::Delete(request) => client
                    .delete_range(request)
                    .await
                    .map(|response| response.into_inner().header),
                Call::Txn(request) => client
                    .txn(request)
                    .await
                    .map(|response| response.into_inner().header),
                Call::Compact(request) => client
                    .compact(request)
                    .await
                    .map(|response| response.into_inner().header),
            };
            match answer {
                Err(status) if status.code() == code && status.message() == text => {}
                Err(status) => wrong.push(format!(
                    "{name}:\n  - {code:?}: {text}\n  + {:?}: {}",
                    status.code(),
                    status.message()
                )),
                Ok(header) => wrong.push(format!("{name}:\n  - {code:?}: {text}\n  + no error, {header:?}")),
            }
        }
        let newest = client
            .range(pb::RangeRequest {
                key: "key".into(),
                ..Default::default()
            })
            .await;
        let revision = newest
            .expect("a get")
            .into_inner()
            .header
            .expect("a header")
            .revision;
        if revision != 6 {
            wrong.push(format!(
                "something that was refused has written:\n  - revision 6\n  + revision {revision}"
            ));
        }
        wrong
    });
    assert!(
        wrong.is_empty(),
        "{} differ (- etcd, + found)\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

fn put(key: &str, value: &str) -> pb::PutRequest {
    kv_client::put_request(key.as_bytes(), value.as_bytes())
}

fn delete(key: &str, range_end: &str) -> Request {
    Request::RequestDeleteRange(pb::DeleteRangeRequest {
        key: key.as_bytes().to_vec().into(),
        range_end: range_end.as_bytes().to_vec().into(),
        prev_kv: false,
    })
}

fn txn(compare: Vec<pb::Compare>, success: Vec<Request>, failure: Vec<Request>) -> pb::TxnRequest {
    let operations = |requests: Vec<Request>| {
        requests
            .into_iter()
            .map(|request| pb::RequestOp {
                request: Some(request),
            })
            .collect()
    };
    pb::TxnRequest {
        compare,
        success: operations(success),
        failure: operations(failure),
    }
}
