//! Granting and revoking leases as a client.

use super::grpc::{header, put, range};
use super::*;
use crate::env::block_on;
use crate::proto::etcdserverpb::*;

#[test]
fn who_asks_for_no_id_gets_one_that_is_free() {
    block_on(async {
        let fake = Fake::new();
        let routes = Routes::new(fake.clone());
        let second = 1 << 31;
        let drawn = fake.leases.next_id();
        // However long this takes.
        let seconds = (0..60).map(|seconds| drawn + seconds * second);
        for id in seconds.flat_map(|id| [id + 1, id + 2]) {
            let request = LeaseGrantRequest { id, ttl: 60 };
            let _: LeaseGrantResponse = call(&routes, "Lease/LeaseGrant", &request).await.unwrap();
        }
        let request = LeaseGrantRequest { id: 0, ttl: 60 };
        let granted: LeaseGrantResponse = call(&routes, "Lease/LeaseGrant", &request).await.unwrap();
        assert_eq!(granted.id % second, drawn % second + 3);
    });
}

#[test]
fn leases_are_granted_and_revoked() {
    block_on(async {
        let routes = Routes::new(Fake::new());
        let grant = |id, ttl| LeaseGrantRequest { id, ttl };
        let granted: LeaseGrantResponse = call(&routes, "Lease/LeaseGrant", &grant(5, 60)).await.unwrap();
        let expected = LeaseGrantResponse {
            header: header(1),
            id: 5,
            ttl: 60,
            error: String::new(),
        };
        assert_eq!(granted, expected);
        for ttl in [i64::MIN, -1, 0, 1, 2] {
            let granted: LeaseGrantResponse =
                call(&routes, "Lease/LeaseGrant", &grant(0, ttl)).await.unwrap();
            assert!(granted.id > 0);
            assert_eq!(granted.ttl, 2, "no shorter than an election takes");
        }
        let refusals = [
            (
                grant(5, 60),
                Code::FailedPrecondition,
                "etcdserver: lease already exists",
            ),
            (
                grant(5, 9_000_000_001),
                Code::OutOfRange,
                "etcdserver: too large lease TTL",
            ),
        ];
        for (request, code, text) in refusals {
            let refused = call::<_, LeaseGrantResponse>(&routes, "Lease/LeaseGrant", &request).await;
            assert_eq!(refused, Err((code, text.to_owned())));
        }
        let with_lease = PutRequest {
            lease: 5,
            ..put("k", "v")
        };
        let _: PutResponse = call(&routes, "KV/Put", &with_lease).await.unwrap();
        let revoke = LeaseRevokeRequest { id: 5 };
        let revoked: LeaseRevokeResponse = call(&routes, "Lease/LeaseRevoke", &revoke).await.unwrap();
        assert_eq!(revoked.header, header(3));
        let refused = call::<_, LeaseRevokeResponse>(&routes, "Lease/LeaseRevoke", &revoke).await;
        let text = "etcdserver: requested lease not found";
        assert_eq!(refused, Err((Code::NotFound, text.to_owned())));
        let found: RangeResponse = call(&routes, "KV/Range", &range("k", "")).await.unwrap();
        assert!(found.kvs.is_empty());
    });
}
