//! Bodies of all requests that clients send: they decode or are refused, survive being sent on, and what is checked before
//! a proposal takes whatever decodes. The first byte chooses the request.

#![no_main]

use callboard::api::bounds::TxnBounds;
use callboard::api::check;
use callboard::proto::{etcdserverpb, v3electionpb, v3lockpb};
use libfuzzer_sys::fuzz_target;
use prost::Message;

const OPS_MAX: usize = 128;

fn read<M: Message + Default + PartialEq>(body: &[u8]) -> Option<M> {
    let message = M::decode(body).ok()?;
    let again = M::decode(message.encode_to_vec().as_slice()).expect("what was read can be sent on");
    assert!(again == message);
    Some(message)
}

fn check_first(body: &[u8]) {
    if let Some(request) = read::<etcdserverpb::RangeRequest>(body) {
        let _ = (check::range(&request), check::range_stream(&request));
    }
    if let Some(request) = read::<etcdserverpb::PutRequest>(body) {
        let _ = check::put(&request);
    }
    if let Some(request) = read::<etcdserverpb::DeleteRangeRequest>(body) {
        let _ = check::delete_range(&request);
    }
    if let Some(request) = read::<etcdserverpb::TxnRequest>(body) {
        let _ = check::txn(&request, TxnBounds::of(OPS_MAX));
    }
}

type Reader = fn(&[u8]) -> bool;

const OTHERS: &[Reader] = &[
    |body| read::<etcdserverpb::AuthEnableRequest>(body).is_some(),
    |body| read::<etcdserverpb::AuthDisableRequest>(body).is_some(),
    |body| read::<etcdserverpb::AuthStatusRequest>(body).is_some(),
    |body| read::<etcdserverpb::AuthenticateRequest>(body).is_some(),
    |body| read::<etcdserverpb::AuthUserAddRequest>(body).is_some(),
    |body| read::<etcdserverpb::AuthUserGetRequest>(body).is_some(),
    |body| read::<etcdserverpb::AuthUserListRequest>(body).is_some(),
    |body| read::<etcdserverpb::AuthUserDeleteRequest>(body).is_some(),
    |body| read::<etcdserverpb::AuthUserChangePasswordRequest>(body).is_some(),
    |body| read::<etcdserverpb::AuthUserGrantRoleRequest>(body).is_some(),
    |body| read::<etcdserverpb::AuthUserRevokeRoleRequest>(body).is_some(),
    |body| read::<etcdserverpb::AuthRoleAddRequest>(body).is_some(),
    |body| read::<etcdserverpb::AuthRoleGetRequest>(body).is_some(),
    |body| read::<etcdserverpb::AuthRoleListRequest>(body).is_some(),
    |body| read::<etcdserverpb::AuthRoleDeleteRequest>(body).is_some(),
    |body| read::<etcdserverpb::AuthRoleGrantPermissionRequest>(body).is_some(),
    |body| read::<etcdserverpb::AuthRoleRevokePermissionRequest>(body).is_some(),
    |body| read::<etcdserverpb::MemberAddRequest>(body).is_some(),
    |body| read::<etcdserverpb::MemberRemoveRequest>(body).is_some(),
    |body| read::<etcdserverpb::MemberUpdateRequest>(body).is_some(),
    |body| read::<etcdserverpb::MemberListRequest>(body).is_some(),
    |body| read::<etcdserverpb::MemberPromoteRequest>(body).is_some(),
    |body| read::<etcdserverpb::CompactionRequest>(body).is_some(),
    |body| read::<etcdserverpb::LeaseGrantRequest>(body).is_some(),
    |body| read::<etcdserverpb::LeaseRevokeRequest>(body).is_some(),
    |body| read::<etcdserverpb::LeaseKeepAliveRequest>(body).is_some(),
    |body| read::<etcdserverpb::LeaseTimeToLiveRequest>(body).is_some(),
    |body| read::<etcdserverpb::LeaseLeasesRequest>(body).is_some(),
    |body| read::<etcdserverpb::AlarmRequest>(body).is_some(),
    |body| read::<etcdserverpb::StatusRequest>(body).is_some(),
    |body| read::<etcdserverpb::DefragmentRequest>(body).is_some(),
    |body| read::<etcdserverpb::HashRequest>(body).is_some(),
    |body| read::<etcdserverpb::HashKvRequest>(body).is_some(),
    |body| read::<etcdserverpb::SnapshotRequest>(body).is_some(),
    |body| read::<etcdserverpb::MoveLeaderRequest>(body).is_some(),
    |body| read::<etcdserverpb::DowngradeRequest>(body).is_some(),
    |body| read::<etcdserverpb::WatchRequest>(body).is_some(),
    |body| read::<v3electionpb::CampaignRequest>(body).is_some(),
    |body| read::<v3electionpb::ProclaimRequest>(body).is_some(),
    |body| read::<v3electionpb::LeaderRequest>(body).is_some(),
    |body| read::<v3electionpb::ResignRequest>(body).is_some(),
    |body| read::<v3lockpb::LockRequest>(body).is_some(),
    |body| read::<v3lockpb::UnlockRequest>(body).is_some(),
];

fuzz_target!(|data: &[u8]| {
    let Some((choice, body)) = data.split_first() else {
        return;
    };
    match OTHERS.get(usize::from(*choice)) {
        Some(reader) => {
            reader(body);
        }
        None => check_first(body),
    }
});
