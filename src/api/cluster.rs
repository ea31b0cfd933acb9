//! The Cluster service, as far as it exists: listing the members, and saying where one is. Mirrors etcd's
//! server/etcdserver/api/v3rpc/member.go; its headers carry no revision.

use super::backend::{Backend, header};
use super::body::Body;
use super::kv::view;
use super::proposal::propose;
use super::status::EtcdError;
use crate::cluster::{MemberUrl, Membership};
use crate::proto::etcdserverpb::{MemberListRequest, MemberListResponse, MemberUpdateRequest};
use crate::proto::log::PeerUrls;
use crate::requests::Caller;
use tonic::Status;

pub async fn member_list(backend: &impl Backend, request: MemberListRequest) -> Result<Body, Status> {
    let view = view(backend, !request.linearizable).await?;
    let membership: Membership = view.cluster.members.iter().cloned().collect();
    Ok(Body::message(&MemberListResponse {
        header: Some(header(backend, 0)),
        members: membership.to_wire(),
    }))
}

/// Says where a member is from now on; the others dial it there at once.
pub async fn member_update(
    backend: &impl Backend,
    caller: &Caller,
    request: MemberUpdateRequest,
) -> Result<Body, Status> {
    let urls = request.peer_ur_ls.iter().map(|url| MemberUrl::parse(url));
    let are_sound = !request.peer_ur_ls.is_empty()
        && urls
            .into_iter()
            .all(|url| url.is_ok_and(|url| url.check_host().is_ok() && url.check_supported().is_ok()));
    if !are_sound {
        // etcd takes any text here, and no member finds that one again.
        return Err(EtcdError::BadMemberUrls.into());
    }
    let moved = PeerUrls {
        member_id: request.id,
        peer_urls: request.peer_ur_ls,
    };
    let mut response = propose(backend, caller, moved).await?;
    response.header = Some(header(backend, 0));
    Ok(Body::message(&response))
}
