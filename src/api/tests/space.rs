//! Limits on what is stored and on the size of requests; texts and sizes were taken from etcd 3.7.1.

use super::*;
use crate::api::Backend;
use crate::env::block_on;
use crate::proto::etcdserverpb::request_op::Request as Operation;
use crate::proto::etcdserverpb::*;
use crate::quota::{Rules, Space};

fn put(key: &str, value: &str) -> PutRequest {
    PutRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::copy_from_slice(value.as_bytes()),
        ..Default::default()
    }
}

#[test]
fn writes_beyond_the_quota_are_refused_and_raise_the_alarm() {
    block_on(async {
        let mut fake = Fake::new();
        fake.space = Space::new(Rules {
            quota_bytes: 1000,
            free_disk_bytes: -1,
        });
        let routes = Routes::new(fake.clone());
        let _: PutResponse = call(&routes, "KV/Put", &put("k", &"v".repeat(600)))
            .await
            .unwrap();
        let no_space = Err::<(), _>((
            Code::ResourceExhausted,
            "etcdserver: mvcc: database space exceeded".to_owned(),
        ));
        let status: StatusResponse = call(&routes, "Maintenance/Status", &StatusRequest {})
            .await
            .unwrap();
        let members = prost::Message::encoded_len(&*fake.view().cluster) as i64;
        assert_eq!(
            (status.db_size_in_use, status.db_size_quota),
            (633 + members, 1000)
        );
        assert!(status.db_size >= status.db_size_in_use && status.errors.is_empty());

        let delete = DeleteRangeRequest {
            key: "none".into(),
            ..Default::default()
        };
        let _: DeleteRangeResponse = call(&routes, "KV/DeleteRange", &delete).await.unwrap();
        let refused = call::<_, PutResponse>(&routes, "KV/Put", &put("a", &"v".repeat(110))).await;
        assert_eq!(refused.map(drop), no_space);
        // The alarm is this member's, and a write that would fit is refused as well.
        let status: StatusResponse = call(&routes, "Maintenance/Status", &StatusRequest {})
            .await
            .unwrap();
        assert_eq!(status.errors, ["memberID:10 alarm:NOSPACE"]);
        let refused = call::<_, PutResponse>(&routes, "KV/Put", &put("a", "")).await;
        assert_eq!(refused.map(drop), no_space);
        let grant = LeaseGrantRequest { id: 5, ttl: 60 };
        let refused = call::<_, LeaseGrantResponse>(&routes, "Lease/LeaseGrant", &grant).await;
        assert_eq!(refused.map(drop), no_space);
        let raised_before = fake.view().applied.index;
        let large = TxnRequest {
            success: vec![RequestOp {
                request: Some(Operation::RequestPut(put("a", &"v".repeat(500)))),
            }],
            ..Default::default()
        };
        let refused = call::<_, TxnResponse>(&routes, "KV/Txn", &large).await;
        assert_eq!(refused.map(drop), no_space);
        assert_eq!(fake.view().applied.index, raised_before, "it is raised once");
    });
}

#[test]
fn requests_end_where_etcds_do() {
    block_on(async {
        let mut fake = Fake::new();
        fake.limits.max_request_bytes = 1000;
        let routes = Routes::new(fake);
        // As tried with etcd 3.7.1 and --max-request-bytes 1000.
        let value = |bytes| "v".repeat(bytes);
        let _: PutResponse = call(&routes, "KV/Put", &put("k", &value(978))).await.unwrap();
        let refused = call::<_, PutResponse>(&routes, "KV/Put", &put("k", &value(979))).await;
        assert_eq!(
            refused,
            Err((
                Code::InvalidArgument,
                "etcdserver: request is too large".to_owned()
            ))
        );
    });
}
