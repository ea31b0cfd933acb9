//! Transactions that write, and read or compare much: they are carried out one after the other, by every member.

use crate::requests::{OK, TXN, fill, many, operation};
use crate::scene::Scene;
use crate::wire::framed;
use callboard::proto::etcdserverpb as pb;
use callboard::proto::etcdserverpb::request_op::Request;

/// Keys under `k`, of 200 bytes each.
const KEYS: usize = 100;

#[test]
fn whole_ranges_and_conditions_in_transactions_that_write_leave_room_for_others() {
    let mut scene = Scene::start(3);
    scene.attack_once(|member| fill(member, KEYS));
    let whole = pb::RangeRequest {
        key: "k".into(),
        range_end: "l".into(),
        ..Default::default()
    };
    let condition = pb::Compare {
        key: "k".into(),
        range_end: "l".into(),
        target: pb::compare::CompareTarget::Version.into(),
        result: pb::compare::CompareResult::Greater.into(),
        target_union: Some(pb::compare::TargetUnion::Version(0)),
    };
    let put = || {
        operation(Request::RequestPut(pb::PutRequest {
            key: "written".into(),
            value: "x".into(),
            ..Default::default()
        }))
    };
    let range = || operation(Request::RequestRange(whole.clone()));
    let delete = || {
        operation(Request::RequestDeleteRange(pb::DeleteRangeRequest {
            key: "m".into(),
            range_end: "n".into(),
            ..Default::default()
        }))
    };
    let request = |compare: Vec<pb::Compare>, mut success: Vec<pb::RequestOp>| {
        success.push(put());
        framed(&pb::TxnRequest {
            compare,
            success,
            ..Default::default()
        })
    };
    let ranges = request(Vec::new(), (0..127).map(|_| range()).collect());
    scene.attack("127 whole ranges and a put", 256, |member| {
        many(member, TXN, ranges.clone(), OK, 2)
    });
    let conditions = request(vec![condition; 128], Vec::new());
    scene.attack("128 whole conditions and a put", 64, |member| {
        many(member, TXN, conditions.clone(), OK, 2)
    });
    let deletes = request(Vec::new(), (0..127).map(|_| delete()).collect());
    scene.attack("127 deletes of ranges and a put", 64, |member| {
        many(member, TXN, deletes.clone(), OK, 2)
    });
}
