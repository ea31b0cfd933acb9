//! Members and leadership, as operators change them.

use super::*;
use crate::env::block_on;
use crate::proto::etcdserverpb::{
    MemberAddRequest, MemberAddResponse, MemberPromoteRequest, MemberPromoteResponse, MemberRemoveRequest,
    MemberRemoveResponse, MemberUpdateRequest, MemberUpdateResponse, MoveLeaderRequest, MoveLeaderResponse,
    PutRequest, PutResponse, RangeRequest, RangeResponse, StatusRequest, StatusResponse,
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

#[test]
fn members_come_learn_vote_and_go() {
    block_on(async {
        let routes = Routes::new(Fake::new());
        let add = |url: &str, is_learner| MemberAddRequest {
            peer_ur_ls: vec![url.to_owned()],
            is_learner,
        };
        let added = async |url: &str, is_learner| -> Result<MemberAddResponse, _> {
            call(&routes, "Cluster/MemberAdd", &add(url, is_learner)).await
        };
        let refused = |text: &str| Err::<(), _>((Code::FailedPrecondition, text.to_owned()));
        let learner = added("http://b:1", true).await.expect("added");
        let member = learner.member.expect("the one that was added");
        assert!(member.is_learner && member.name.is_empty() && learner.members.len() == 2);
        assert_eq!(learner.header.expect("a header").revision, 0);
        assert_eq!(
            added("http://c:1", true).await.map(|_| ()),
            refused("etcdserver: too many learner members in cluster")
        );
        assert_eq!(
            added("http://127.0.0.1:2380", false).await.map(|_| ()),
            refused("etcdserver: Peer URLs already exists")
        );
        let id = member.id;
        let promote = async |id| -> Result<MemberPromoteResponse, _> {
            call(&routes, "Cluster/MemberPromote", &MemberPromoteRequest { id }).await
        };
        let promoted = promote(id).await.expect("promoted");
        assert!(promoted.members.iter().all(|member| !member.is_learner));
        assert_eq!(
            promote(id).await.map(|_| ()),
            refused("etcdserver: can only promote a learner member")
        );
        let unknown = Err((Code::NotFound, "etcdserver: member not found".to_owned()));
        assert_eq!(promote(9).await, unknown);
        let remove = async |id| -> Result<MemberRemoveResponse, _> {
            call(&routes, "Cluster/MemberRemove", &MemberRemoveRequest { id }).await
        };
        let removed = remove(id).await.expect("removed");
        assert_eq!(removed.members.len(), 1);
        let unknown = (Code::NotFound, "etcdserver: member not found".to_owned());
        assert_eq!(remove(id).await.map(|_| ()), Err(unknown));
        assert_eq!(
            remove(0xa).await.map(|_| ()),
            refused("etcdserver: re-configuration failed due to not enough started members"),
            "the last one stays"
        );
    });
}

#[test]
fn a_learner_answers_serializable_ranges_and_its_status() {
    block_on(async {
        let routes = Routes::new(Fake::learner());
        let range = |serializable| RangeRequest {
            key: "k".into(),
            serializable,
            ..RangeRequest::default()
        };
        let not_for_learner = (
            Code::FailedPrecondition,
            "etcdserver: rpc not supported for learner".to_owned(),
        );
        let refused: Result<RangeResponse, _> = call(&routes, "KV/Range", &range(false)).await;
        assert_eq!(refused, Err(not_for_learner.clone()));
        let refused: Result<PutResponse, _> = call(&routes, "KV/Put", &PutRequest::default()).await;
        assert_eq!(refused, Err(not_for_learner));
        let answered: Result<RangeResponse, _> = call(&routes, "KV/Range", &range(true)).await;
        assert!(answered.is_ok());
        let status: StatusResponse = call(&routes, "Maintenance/Status", &StatusRequest::default())
            .await
            .expect("answered");
        assert!(status.is_learner);
    });
}
