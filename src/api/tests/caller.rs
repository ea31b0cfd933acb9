//! The caller of a request is recorded in the log, whatever the request's form.

use super::*;
use crate::api::Caller;
use crate::env::block_on;
use crate::proto::etcdserverpb::{
    AlarmRequest, CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest,
    MemberUpdateRequest, PutRequest, RequestOp, TxnRequest, request_op,
};
use crate::proto::log;
use crate::proto::v3electionpb::{CampaignRequest, LeaderKey, ProclaimRequest, ResignRequest};
use crate::proto::v3lockpb::{LockRequest, UnlockRequest};

fn put() -> PutRequest {
    PutRequest {
        key: "k".into(),
        value: "v".into(),
        ..PutRequest::default()
    }
}

/// Every method that proposes, in an order in which each has something to do.
fn requests() -> Vec<(&'static str, Bytes)> {
    let txn = TxnRequest {
        success: vec![RequestOp {
            request: Some(request_op::Request::RequestPut(put())),
        }],
        ..TxnRequest::default()
    };
    let leader = LeaderKey {
        name: "e".into(),
        key: "e/1".into(),
        rev: 1,
        lease: 1,
    };
    let lock = LockRequest {
        name: "l".into(),
        lease: 1,
    };
    let campaign = CampaignRequest {
        name: "e".into(),
        lease: 1,
        value: "v".into(),
    };
    let proclaim = ProclaimRequest {
        leader: Some(leader.clone()),
        value: "w".into(),
    };
    let resign = ResignRequest { leader: Some(leader) };
    let delete = DeleteRangeRequest {
        key: "k".into(),
        ..DeleteRangeRequest::default()
    };
    let compaction = CompactionRequest {
        revision: 2,
        physical: false,
    };
    vec![
        (
            "etcdserverpb.Lease/LeaseGrant",
            framed(&LeaseGrantRequest { ttl: 60, id: 1 }),
        ),
        ("etcdserverpb.KV/Put", framed(&put())),
        ("etcdserverpb.KV/Txn", framed(&txn)),
        ("etcdserverpb.KV/DeleteRange", framed(&delete)),
        ("etcdserverpb.KV/Compact", framed(&compaction)),
        ("v3lockpb.Lock/Lock", framed(&lock)),
        (
            "v3lockpb.Lock/Unlock",
            framed(&UnlockRequest { key: "l/1".into() }),
        ),
        ("v3electionpb.Election/Campaign", framed(&campaign)),
        ("v3electionpb.Election/Proclaim", framed(&proclaim)),
        ("v3electionpb.Election/Resign", framed(&resign)),
        ("etcdserverpb.Maintenance/Alarm", framed(&AlarmRequest::default())),
        (
            "etcdserverpb.Cluster/MemberUpdate",
            framed(&MemberUpdateRequest {
                id: 0xa,
                peer_ur_ls: vec!["http://a:1".into()],
            }),
        ),
        (
            "etcdserverpb.Lease/LeaseRevoke",
            framed(&LeaseRevokeRequest { id: 1 }),
        ),
    ]
}

#[test]
fn every_command_says_which_certificate_its_client_has_shown() {
    block_on(async {
        let fake = Fake::new();
        let routes = Routes::new(fake.clone()).with_json(true);
        let caller = Caller {
            certificate_name: Some("root".into()),
        };
        let connection = routes.connection(caller, None, true);
        let expected = log::Caller {
            certificate_name: "root".into(),
            ..log::Caller::default()
        };
        let proposed = || std::mem::take(&mut *fake.callers.lock().expect("no test panics here"));
        for (path, body) in requests() {
            let request = Request::post(format!("http://x/{path}"))
                .header("content-type", "application/grpc")
                .body(Full::new(body))
                .expect("a request");
            drop(routes.handle_within(&connection, request).await);
            let callers = proposed();
            assert!(!callers.is_empty(), "{path}");
            assert!(
                callers.iter().all(|caller| caller.as_deref() == Some(&expected)),
                "{path}: {callers:?}"
            );
        }
        let request = Request::post("http://x/v3/kv/put")
            .body(Full::new(Bytes::from_static(br#"{"key":"aw=="}"#)))
            .expect("a request");
        drop(routes.handle_within(&connection, request).await);
        assert_eq!(proposed(), [Some(Box::new(expected))]);
        let _: crate::proto::etcdserverpb::PutResponse = call(&routes, "KV/Put", &put()).await.expect("put");
        assert_eq!(proposed(), [None], "who shows none is nobody");
    });
}
