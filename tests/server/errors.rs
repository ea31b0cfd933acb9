//! What the gRPC services refuse, with exactly etcd's code and text: clients compare both.

use callboard::client::Channel;
use callboard::proto::etcdserverpb as pb;
use callboard::proto::etcdserverpb::kv_client::KvClient;
use pb::request_op::Request;
use pb::{CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest, TxnRequest};
use tonic::Code;

use super::support::cluster::Cluster;
use super::support::kv_client::block_on;
use super::support::{self, kv_client};

const MIB: usize = 1024 * 1024;

enum Call {
    Range(RangeRequest),
    Put(PutRequest),
    Delete(DeleteRangeRequest),
    Txn(TxnRequest),
    Compact(CompactionRequest),
}

use Call::{Compact, Delete, Put, Range, Txn};

/// Calls that must all be refused in the same way.
struct Refused {
    code: Code,
    text: &'static str,
    calls: Vec<(&'static str, Call)>,
}

/// The store these run on: revision 6, compacted at 4.
fn table() -> Vec<Refused> {
    vec![
        without_a_key(),
        duplicates(),
        compacted(),
        future(),
        refused(
            "etcdserver: value is provided",
            "ignore_value",
            PutRequest {
                ignore_value: true,
                ..put("key", "v")
            },
        ),
        refused(
            "etcdserver: lease is provided",
            "ignore_lease",
            PutRequest {
                ignore_lease: true,
                ..leased("key")
            },
        ),
        refused(
            "etcdserver: key not found",
            "ignore_value",
            PutRequest {
                ignore_value: true,
                ..put("none", "")
            },
        ),
        refused(
            "etcdserver: key not found",
            "ignore_lease",
            PutRequest {
                ignore_lease: true,
                ..put("none", "v")
            },
        ),
        refused(
            "etcdserver: request is too large",
            "over 1.5 MiB",
            put("key", &"x".repeat(3 * MIB / 2)),
        ),
        Refused {
            code: Code::ResourceExhausted,
            text: "grpc: received message larger than max (2097162 vs. 2097152)",
            calls: vec![("over 2 MiB", Put(put("key", &"x".repeat(2 * MIB))))],
        },
        Refused {
            code: Code::NotFound,
            text: "etcdserver: requested lease not found",
            calls: vec![("put", Put(leased("key")))],
        },
        Refused {
            code: Code::InvalidArgument,
            text: "etcdserver: invalid sort option",
            calls: vec![
                (
                    "order",
                    Range(RangeRequest {
                        sort_order: 9,
                        ..range_at(0)
                    }),
                ),
                (
                    "target",
                    Range(RangeRequest {
                        sort_target: 9,
                        ..range_at(0)
                    }),
                ),
            ],
        },
        Refused {
            code: Code::InvalidArgument,
            text: "etcdserver: too many operations in txn request",
            calls: vec![
                ("129 operations", success(many())),
                (
                    "129 operations to fall back on",
                    Txn(txn(Vec::new(), Vec::new(), many())),
                ),
                (
                    "129 compares",
                    Txn(txn(vec![compare("key"); 129], Vec::new(), Vec::new())),
                ),
            ],
        },
    ]
}

fn compacted() -> Refused {
    Refused {
        code: Code::OutOfRange,
        text: "etcdserver: mvcc: required revision has been compacted",
        calls: vec![
            ("get", Range(range_at(3))),
            ("compaction of the past", Compact(compaction(3))),
            ("the same compaction again", Compact(compaction(4))),
            (
                "get after a put in a transaction",
                success(vec![put_op("a"), get_op(2)]),
            ),
        ],
    }
}

fn future() -> Refused {
    Refused {
        code: Code::OutOfRange,
        text: "etcdserver: mvcc: required revision is a future revision",
        calls: vec![
            ("get", Range(range_at(7))),
            ("compaction", Compact(compaction(7))),
            (
                "get after a put in a transaction",
                success(vec![put_op("a"), get_op(99)]),
            ),
        ],
    }
}

fn without_a_key() -> Refused {
    Refused {
        code: Code::InvalidArgument,
        text: "etcdserver: key is not provided",
        calls: vec![
            ("get", Range(RangeRequest::default())),
            ("put", Put(put("", "value"))),
            ("delete", Delete(DeleteRangeRequest::default())),
            ("put in a transaction", success(vec![put_op("")])),
            ("delete in a transaction", success(vec![delete_op("", "")])),
            ("compare", Txn(txn(vec![compare("")], Vec::new(), Vec::new()))),
        ],
    }
}

fn duplicates() -> Refused {
    let nested = Request::RequestTxn(txn(Vec::new(), vec![put_op("a")], Vec::new()));
    let twice = vec![put_op("a"), put_op("a")];
    Refused {
        code: Code::InvalidArgument,
        text: "etcdserver: duplicate key given in txn request",
        calls: vec![
            ("put twice", success(twice.clone())),
            ("put twice, falling back", Txn(txn(Vec::new(), Vec::new(), twice))),
            ("put and delete", success(vec![put_op("a"), delete_op("a", "")])),
            (
                "put inside a deleted range",
                success(vec![delete_op("a", "c"), put_op("b")]),
            ),
            (
                "put again in a transaction within",
                success(vec![put_op("a"), nested]),
            ),
        ],
    }
}

/// One put that is an invalid argument.
fn refused(text: &'static str, name: &'static str, request: PutRequest) -> Refused {
    Refused {
        code: Code::InvalidArgument,
        text,
        calls: vec![(name, Put(request))],
    }
}

#[test]
fn have_etcds_codes_and_texts() {
    let cluster = Cluster::start(&support::callboard_bin(), 1);
    let member = cluster.members[0].client;
    let wrong = block_on(async {
        // Without the client library: the bare code and text count.
        let address = member.to_string();
        let channel = Channel::connect(&address, &address).await.expect("a connection");
        let mut client = KvClient::new(channel);
        for _ in 0..5 {
            client.put(put("key", "value")).await.expect("a put");
        }
        client
            .compact(CompactionRequest {
                revision: 4,
                physical: true,
            })
            .await
            .expect("a compaction");
        let mut wrong = Vec::new();
        let calls = table().into_iter().flat_map(|Refused { code, text, calls }| {
            calls
                .into_iter()
                .map(move |(name, call)| (name, call, code, text))
        });
        for (name, call, code, text) in calls {
            let answer = match call {
                Range(request) => client
                    .range(request)
                    .await
                    .map(|response| response.into_inner().header),
                Put(request) => client
                    .put(request)
                    .await
                    .map(|response| response.into_inner().header),
                Delete(request) => client
                    .delete_range(request)
                    .await
                    .map(|response| response.into_inner().header),
                Txn(request) => client
                    .txn(request)
                    .await
                    .map(|response| response.into_inner().header),
                Compact(request) => client
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
            .range(RangeRequest {
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

fn put(key: &str, value: &str) -> PutRequest {
    kv_client::put_request(key.as_bytes(), value.as_bytes())
}

/// With a lease that nobody granted.
fn leased(key: &str) -> PutRequest {
    PutRequest {
        lease: 77,
        ..put(key, "value")
    }
}

fn range_at(revision: i64) -> RangeRequest {
    RangeRequest {
        key: "key".into(),
        revision,
        ..Default::default()
    }
}

fn compaction(revision: i64) -> CompactionRequest {
    CompactionRequest {
        revision,
        physical: false,
    }
}

fn compare(key: &str) -> pb::Compare {
    pb::Compare {
        key: key.as_bytes().to_vec().into(),
        ..Default::default()
    }
}

fn put_op(key: &str) -> Request {
    Request::RequestPut(put(key, "1"))
}

fn get_op(revision: i64) -> Request {
    Request::RequestRange(range_at(revision))
}

fn delete_op(key: &str, range_end: &str) -> Request {
    let bytes = |text: &str| text.as_bytes().to_vec().into();
    Request::RequestDeleteRange(DeleteRangeRequest {
        key: bytes(key),
        range_end: bytes(range_end),
        prev_kv: false,
    })
}

/// One operation more than allowed.
fn many() -> Vec<Request> {
    (0..129).map(|number| put_op(&format!("many{number}"))).collect()
}

fn success(requests: Vec<Request>) -> Call {
    Txn(txn(Vec::new(), requests, Vec::new()))
}

fn txn(compare: Vec<pb::Compare>, success: Vec<Request>, failure: Vec<Request>) -> TxnRequest {
    let operations = |requests: Vec<Request>| {
        requests
            .into_iter()
            .map(|request| pb::RequestOp {
                request: Some(request),
            })
            .collect()
    };
    TxnRequest {
        compare,
        success: operations(success),
        failure: operations(failure),
    }
}
