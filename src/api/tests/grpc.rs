//! Calls and their replies.

use super::*;
use crate::api::Caller;
use crate::api::EtcdError;
use crate::env::block_on;
use crate::proto::etcdserverpb::alarm_request::AlarmAction;
use crate::proto::etcdserverpb::request_op::Request as Operation;
use crate::proto::etcdserverpb::response_op::Response as Outcome;
use crate::proto::etcdserverpb::*;
use crate::proto::mvccpb::KeyValue;
use std::sync::atomic::Ordering;

pub(super) fn put(key: &str, value: &str) -> PutRequest {
    PutRequest {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        ..Default::default()
    }
}

pub(super) fn range(key: &str, end: &str) -> RangeRequest {
    RangeRequest {
        key: key.to_owned().into(),
        range_end: end.to_owned().into(),
        ..Default::default()
    }
}

fn delete(key: &str, end: &str) -> DeleteRangeRequest {
    DeleteRangeRequest {
        key: key.to_owned().into(),
        range_end: end.to_owned().into(),
        ..Default::default()
    }
}

fn op(operation: Operation) -> RequestOp {
    RequestOp {
        request: Some(operation),
    }
}

fn then(success: Vec<RequestOp>) -> TxnRequest {
    TxnRequest {
        success,
        ..Default::default()
    }
}

#[allow(clippy::unnecessary_wraps)] // it is compared with optional ones
pub(super) fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader {
        cluster_id: 0xc,
        member_id: 0xa,
        revision,
        raft_term: 2,
    })
}

#[test]
fn keys_are_put_read_and_deleted() {
    block_on(async {
        let routes = Routes::new(Fake::new());
        for (key, revision) in [("a", 2), ("b", 3), ("c", 4)] {
            let reply: PutResponse = call(&routes, "KV/Put", &put(key, "v")).await.unwrap();
            assert_eq!(reply.header, header(revision));
        }
        let one: RangeResponse = call(&routes, "KV/Range", &range("b", "")).await.unwrap();
        let kv = KeyValue {
            key: "b".into(),
            value: "v".into(),
            create_revision: 3,
            mod_revision: 3,
            version: 1,
            lease: 0,
        };
        assert_eq!(
            (one.header, one.kvs, one.count, one.more),
            (header(4), vec![kv], 1, false)
        );
        let none: RangeResponse = call(&routes, "KV/Range", &range("x", "")).await.unwrap();
        assert_eq!((none.header, none.kvs.len(), none.count), (header(4), 0, 0));
        let mut limited = range("a", "\0");
        limited.limit = 2;
        let two: RangeResponse = call(&routes, "KV/Range", &limited).await.unwrap();
        assert_eq!(
            (two.header, two.kvs.len(), two.count, two.more),
            (header(4), 2, 3, true)
        );
        let gone: DeleteRangeResponse = call(&routes, "KV/DeleteRange", &delete("a", "c")).await.unwrap();
        assert_eq!((gone.header, gone.deleted), (header(5), 2));
        let request = CompactionRequest {
            revision: 4,
            physical: false,
        };
        let reply: CompactionResponse = call(&routes, "KV/Compact", &request).await.unwrap();
        assert_eq!(reply.header, header(5));
        let mut old = range("a", "");
        old.revision = 3;
        let error = call::<_, RangeResponse>(&routes, "KV/Range", &old)
            .await
            .unwrap_err();
        let compacted = "etcdserver: mvcc: required revision has been compacted";
        assert_eq!(error, (Code::OutOfRange, compacted.to_owned()));
    });
}

#[test]
fn long_lists_come_whole_and_in_pieces() {
    block_on(async {
        let mut fake = Fake::new();
        fake.limits.max_request_bytes = 16 * 1024;
        let routes = Routes::new(fake);
        let value = "v".repeat(4000);
        for number in 0..300 {
            let key = format!("k{number:04}");
            let _: PutResponse = call(&routes, "KV/Put", &put(&key, &value)).await.unwrap();
        }
        let all: RangeResponse = call(&routes, "KV/Range", &range("k", "l")).await.unwrap();
        assert_eq!((all.header, all.kvs.len(), all.count), (header(301), 300, 300));

        let chunks: Vec<RangeStreamResponse> = call_many(&routes, "KV/RangeStream", &range("k", "l"))
            .await
            .unwrap();
        let mut chunks: Vec<RangeResponse> = chunks
            .into_iter()
            .map(|chunk| chunk.range_response.unwrap())
            .collect();
        let last = chunks.pop().unwrap();
        assert!(chunks.len() > 10);
        assert!(
            chunks
                .iter()
                .all(|chunk| chunk.header.is_none() && chunk.count == 0)
        );
        assert_eq!((last.header, last.count, last.more), (header(301), 300, false));
        let kvs: Vec<KeyValue> = chunks
            .into_iter()
            .chain([last])
            .flat_map(|chunk| chunk.kvs)
            .collect();
        assert_eq!(kvs, all.kvs);

        let mut limited = range("k", "l");
        limited.limit = 25;
        let chunks: Vec<RangeStreamResponse> = call_many(&routes, "KV/RangeStream", &limited).await.unwrap();
        let last = chunks.last().unwrap().range_response.clone().unwrap();
        assert_eq!((last.count, last.more), (300, true));
        let keys = chunks
            .iter()
            .map(|chunk| chunk.range_response.as_ref().unwrap().kvs.len());
        assert_eq!(keys.sum::<usize>(), 25);
    });
}

#[test]
fn transactions_read_locally_and_write_through_the_log() {
    block_on(async {
        let fake = Fake::new();
        let routes = Routes::new(fake.clone());
        let write = then(vec![
            op(Operation::RequestPut(put("a", "1"))),
            op(Operation::RequestRange(range("a", ""))),
        ]);
        let reply: TxnResponse = call(&routes, "KV/Txn", &write).await.unwrap();
        assert_eq!((reply.header, reply.succeeded), (header(2), true));
        let Some(Outcome::ResponseRange(read)) = &reply.responses[1].response else {
            panic!("{reply:?}");
        };
        assert_eq!(read.kvs[0].value, "1");
        let mut serializable = range("a", "");
        serializable.serializable = true;
        let local = then(vec![op(Operation::RequestRange(serializable))]);
        let linearizable = then(vec![op(Operation::RequestRange(range("a", "")))]);
        fake.leader.store(0, Ordering::Relaxed);
        let reply: TxnResponse = call(&routes, "KV/Txn", &local).await.unwrap();
        assert_eq!(reply.header, header(2));
        let error = call::<_, TxnResponse>(&routes, "KV/Txn", &linearizable)
            .await
            .unwrap_err();
        assert_eq!(error, (Code::Unavailable, "etcdserver: request timed out".into()));
        let error = call::<_, TxnResponse>(&routes, "KV/Txn", &write)
            .await
            .unwrap_err();
        assert_eq!(error, (Code::Unavailable, "etcdserver: request timed out".into()));
    });
}

#[test]
fn what_etcd_refuses_is_refused() {
    block_on(async {
        let routes = Routes::new(Fake::new());
        let refused = async |path: &str, request: &dyn ErasedMessage| {
            request.call(&routes, path).await.expect_err(path).1
        };
        let empty_key = "etcdserver: key is not provided";
        assert_eq!(refused("KV/Range", &range("", "")).await, empty_key);
        assert_eq!(refused("KV/DeleteRange", &delete("", "")).await, empty_key);
        assert_eq!(refused("KV/Put", &put("", "")).await, empty_key);
        let request = PutRequest {
            ignore_value: true,
            ..put("a", "v")
        };
        assert_eq!(refused("KV/Put", &request).await, "etcdserver: value is provided");
        let request = PutRequest {
            ignore_lease: true,
            lease: 3,
            ..put("a", "")
        };
        assert_eq!(refused("KV/Put", &request).await, "etcdserver: lease is provided");
        let request = PutRequest {
            lease: 3,
            ..put("a", "")
        };
        assert_eq!(
            refused("KV/Put", &request).await,
            "etcdserver: requested lease not found"
        );
        let request = PutRequest {
            ignore_value: true,
            ..put("a", "")
        };
        assert_eq!(refused("KV/Put", &request).await, "etcdserver: key not found");
        let request = put(&"k".repeat(61_441), "");
        assert!(refused("KV/Put", &request).await.contains("61440"));
        let request = put("a", &"v".repeat(65_530));
        assert_eq!(
            refused("KV/Put", &request).await,
            "etcdserver: request is too large"
        );
        let request = put("a", &"v".repeat(600 * 1024));
        assert_eq!(
            refused("KV/Put", &request).await,
            "grpc: received message larger than max (614407 vs. 589824)"
        );
        let request = RangeRequest {
            sort_order: 5,
            ..range("a", "")
        };
        assert_eq!(
            refused("KV/Range", &request).await,
            "etcdserver: invalid sort option"
        );
        let request = RangeRequest {
            revision: 9,
            ..range("a", "")
        };
        let future = "etcdserver: mvcc: required revision is a future revision";
        assert_eq!(refused("KV/Range", &request).await, future);
        let request = RangeRequest {
            max_mod_revision: 9,
            ..range("a", "")
        };
        let filters = "RangeStream does not support revision filters";
        assert_eq!(refused("KV/RangeStream", &request).await, filters);
        assert_eq!(
            refused("KV/Nothing", &range("a", "")).await,
            "unknown method Nothing for service etcdserverpb.KV"
        );
        let auth = "etcdserver: root user does not exist";
        assert_eq!(refused("Auth/AuthEnable", &range("a", "")).await, auth);
        let auth = "etcdserver: authentication is not enabled";
        assert_eq!(refused("Auth/Authenticate", &range("a", "")).await, auth);
        let auth = "etcdserver: user name not found";
        assert_eq!(refused("Auth/UserGet", &range("a", "")).await, auth);
        let auth = "unknown method Nothing for service etcdserverpb.Auth";
        assert_eq!(refused("Auth/Nothing", &range("a", "")).await, auth);
    });
}

#[test]
fn transactions_are_checked_as_etcd_does() {
    use Operation::{RequestDeleteRange as D, RequestPut as P, RequestTxn as T};
    const OK: &str = "";
    const DUPLICATE: &str = "etcdserver: duplicate key given in txn request";
    const TOO_MANY: &str = "etcdserver: too many operations in txn request";
    let p = |key| op(P(put(key, "")));
    let d = |key, end| op(D(delete(key, end)));
    let t = |success, failure| {
        op(T(TxnRequest {
            success,
            failure,
            ..Default::default()
        }))
    };
    let cases = [
        (vec![], OK),
        (vec![p("a"), p("b")], OK),
        (vec![p("a"), p("a")], DUPLICATE),
        (vec![p("a"), d("a", "")], DUPLICATE),
        (vec![d("a", "c"), p("b")], DUPLICATE),
        (vec![d("a", "c"), p("c")], OK),
        (vec![d("a", "c"), d("b", "d")], OK),
        (vec![d("a", "b"), d("c", "d"), d("b", "c"), p("bb")], DUPLICATE),
        (vec![d("a", "\0"), p("z")], OK),
        (vec![d("a", "\0"), p("a")], OK),
        (vec![d("b", "a"), p("b")], OK),
        (vec![d("b", "b"), p("b")], OK),
        (vec![t(vec![p("a")], vec![p("a")])], OK),
        (vec![t(vec![p("a")], vec![]), p("a")], DUPLICATE),
        (vec![t(vec![p("a")], vec![]), t(vec![], vec![p("a")])], DUPLICATE),
        (vec![t(vec![p("a")], vec![d("a", "")])], OK),
        (vec![t(vec![d("a", "")], vec![]), p("a")], DUPLICATE),
        (
            vec![t(vec![d("a", "")], vec![]), t(vec![p("a")], vec![])],
            DUPLICATE,
        ),
        (vec![t(vec![p("a")], vec![]), t(vec![d("a", "")], vec![])], OK),
        (vec![RequestOp::default()], "etcdserver: key not found"),
        (vec![p("")], "etcdserver: key is not provided"),
        (vec![p("a"); 9], TOO_MANY),
        (vec![t(vec![p("a"); 8], vec![])], TOO_MANY),
    ];
    for (operations, message) in cases {
        let outcome = crate::api::check::txn(&then(operations.clone()), crate::api::bounds::TxnBounds::of(8));
        let text = outcome.map_or_else(EtcdError::text, |()| OK);
        assert_eq!(text, message, "{operations:?}");
    }
}

#[test]
fn operators_are_answered() {
    block_on(async {
        let fake = Fake::new();
        let routes = Routes::new(fake.clone());
        let status: StatusResponse = call(&routes, "Maintenance/Status", &StatusRequest {})
            .await
            .unwrap();
        assert_eq!((status.version.as_str(), status.leader), ("3.7.1", 0xa));
        assert_eq!(status.header, header(1));
        assert!(status.errors.is_empty() && !status.is_learner);
        let alarms: AlarmResponse = call(&routes, "Maintenance/Alarm", &AlarmRequest::default())
            .await
            .unwrap();
        assert_eq!((alarms.header, alarms.alarms.len()), (header(1), 0));
        for (member_id, alarm) in [(5, 1), (0, 1), (5, 9)] {
            let raise = AlarmRequest {
                action: AlarmAction::Activate as i32,
                member_id,
                alarm,
            };
            let raised: AlarmResponse = call(&routes, "Maintenance/Alarm", &raise).await.unwrap();
            assert_eq!(
                (raised.header, raised.alarms),
                (header(1), vec![AlarmMember { member_id, alarm }])
            );
        }
        let status: StatusResponse = call(&routes, "Maintenance/Status", &StatusRequest {})
            .await
            .unwrap();
        let texts = ["alarm:NOSPACE", "memberID:5 alarm:NOSPACE", "memberID:5 alarm:9"];
        assert_eq!(status.errors, texts);
        let refused = call::<_, PutResponse>(&routes, "KV/Put", &put("k", "v")).await;
        let text = "etcdserver: mvcc: database space exceeded";
        assert_eq!(refused, Err((Code::ResourceExhausted, text.to_owned())));
        let raise = AlarmRequest {
            action: AlarmAction::Activate as i32,
            member_id: 5,
            alarm: 2,
        };
        let _: AlarmResponse = call(&routes, "Maintenance/Alarm", &raise).await.unwrap();
        let refused = call::<_, PutResponse>(&routes, "KV/Put", &put("k", "v")).await;
        assert_eq!(
            refused,
            Err((Code::DataLoss, "etcdserver: corrupt cluster".to_owned()))
        );
        for (member_id, alarm) in [(5, 1), (0, 1), (5, 9), (5, 2)] {
            let lower = AlarmRequest {
                action: AlarmAction::Deactivate as i32,
                member_id,
                alarm,
            };
            let lowered: AlarmResponse = call(&routes, "Maintenance/Alarm", &lower).await.unwrap();
            assert_eq!(lowered.alarms, [AlarmMember { member_id, alarm }]);
        }
        let hash: HashKvResponse = call(&routes, "Maintenance/HashKV", &HashKvRequest::default())
            .await
            .unwrap();
        assert_eq!(
            (hash.hash, hash.compact_revision, hash.hash_revision),
            (1_084_519_789, -1, 1)
        );
        let reply: DefragmentResponse = call(&routes, "Maintenance/Defragment", &DefragmentRequest {})
            .await
            .unwrap();
        assert_eq!(reply.header, None);
        let list = MemberListRequest { linearizable: true };
        let members: MemberListResponse = call(&routes, "Cluster/MemberList", &list).await.unwrap();
        assert_eq!(
            (members.header, members.members[0].name.as_str()),
            (header(0), "m1")
        );

        fake.leader.store(0, Ordering::Relaxed);
        let status: StatusResponse = call(&routes, "Maintenance/Status", &StatusRequest {})
            .await
            .unwrap();
        assert_eq!(status.errors, ["etcdserver: no leader"]);
        assert!(
            call::<_, MemberListResponse>(&routes, "Cluster/MemberList", &list)
                .await
                .is_err()
        );
        let list = MemberListRequest::default();
        assert!(
            call::<_, MemberListResponse>(&routes, "Cluster/MemberList", &list)
                .await
                .is_ok()
        );
    });
}

type Refusal<'a> = std::pin::Pin<Box<dyn Future<Output = Result<(), (Code, String)>> + 'a>>;

/// A request whose reply does not matter.
trait ErasedMessage {
    fn call<'a>(&'a self, routes: &'a Routes<Fake>, path: &'a str) -> Refusal<'a>;
}

impl<M: Message> ErasedMessage for M {
    fn call<'a>(&'a self, routes: &'a Routes<Fake>, path: &'a str) -> Refusal<'a> {
        Box::pin(async move { call_many::<M, ()>(routes, path, self).await.map(drop) })
    }
}

/// Every request under way takes this memory and moves it: rare calls, JSON and plain HTTP box theirs.
#[test]
fn a_call_carries_little() {
    let routes = Routes::new(Fake::new());
    let connection = routes.connection(Caller::default(), None, false);
    let call = routes.handle_within(&connection, Request::new(Full::new(Bytes::new())));
    let bytes = std::mem::size_of_val(&call);
    assert!(bytes <= 2 * 1024, "{bytes} bytes");
}
