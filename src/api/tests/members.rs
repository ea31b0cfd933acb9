//! Where members are and who leads, as operators change it.

use super::*;
use crate::env::block_on;
use crate::proto::etcdserverpb::{
    MemberUpdateRequest, MemberUpdateResponse, MoveLeaderRequest, MoveLeaderResponse,
};

#[test]
fn a_place_that_no_member_can_dial_is_refused() {
    block_on(async {
        let routes = Routes::new(Fake::new());
        let update = |id, urls: &[&str]| MemberUpdateRequest {
            id,
            peer_ur_ls: urls.iter().map(|url| (*url).to_owned()).collect(),
        };
        let invalid = (
            Code::InvalidArgument,
            "etcdserver: given member URLs are invalid".to_owned(),
        );
        for urls in [
            &[][..],
            &["x"],
            &["http://"],
            &["http://a:1", "ftp://a:1"],
            &["http://a:1/path"],
        ] {
            let refused: Result<MemberUpdateResponse, _> =
                call(&routes, "Cluster/MemberUpdate", &update(0xa, urls)).await;
            assert_eq!(refused, Err(invalid.clone()), "{urls:?}");
        }
        let unknown: Result<MemberUpdateResponse, _> =
            call(&routes, "Cluster/MemberUpdate", &update(1, &["http://a:1"])).await;
        assert_eq!(
            unknown,
            Err((Code::NotFound, "etcdserver: member not found".to_owned()))
        );
        let updated: MemberUpdateResponse =
            call(&routes, "Cluster/MemberUpdate", &update(0xa, &["http://a:1"]))
                .await
                .expect("it is a member");
        assert_eq!(updated.members[0].peer_ur_ls, ["http://a:1"]);
        assert_eq!(updated.header.expect("a header").revision, 0);
    });
}

#[test]
fn the_leader_alone_hands_over_and_to_members_alone() {
    block_on(async {
        let fake = Fake::new();
        let routes = Routes::new(fake.clone());
        let to = |target_id| MoveLeaderRequest { target_id };
        let refused: Result<MoveLeaderResponse, _> = call(&routes, "Maintenance/MoveLeader", &to(1)).await;
        assert_eq!(
            refused,
            Err((
                Code::FailedPrecondition,
                "etcdserver: bad leader transferee".to_owned()
            ))
        );
        let moved: Result<MoveLeaderResponse, _> = call(&routes, "Maintenance/MoveLeader", &to(0xa)).await;
        assert!(moved.is_ok());
        fake.leader.store(0xb, Ordering::Relaxed);
        let refused: Result<MoveLeaderResponse, _> = call(&routes, "Maintenance/MoveLeader", &to(0xa)).await;
        assert_eq!(
            refused,
            Err((Code::FailedPrecondition, "etcdserver: not leader".to_owned()))
        );
    });
}
