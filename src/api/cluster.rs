//! The Cluster service: the list of members, and member changes. Mirrors etcd's server/etcdserver/api/v3rpc/member.go; its
//! headers carry no revision.

use super::backend::{Backend, header};
use super::body::Body;
use super::kv::view;
use super::proposal::{foreign_outcome, propose};
use super::status::{CallError, EtcdError};
use crate::cluster::{MemberUrl, Membership, member_id};
use crate::env;
use crate::proto::etcdserverpb::{
    MemberAddRequest, MemberAddResponse, MemberListRequest, MemberListResponse, MemberPromoteRequest,
    MemberPromoteResponse, MemberRemoveRequest, MemberRemoveResponse, MemberUpdateRequest,
};
use crate::proto::log::command::Request;
use crate::proto::log::member_change::Change;
use crate::proto::log::{Member, MemberChange, PeerUrls};
use crate::requests::Caller;
use crate::state::machine::Outcome;
use tonic::Status;

pub async fn member_list(backend: &impl Backend, request: MemberListRequest) -> Result<Body, Status> {
    let view = view(backend, !request.linearizable).await?;
    let membership: Membership = view.cluster.members.iter().cloned().collect();
    Ok(Body::message(&MemberListResponse {
        header: Some(header(backend, 0)),
        members: membership.to_wire(),
    }))
}

/// Changes the peer URLs of a member; the other members dial it there immediately.
pub async fn member_update(
    backend: &impl Backend,
    caller: &Caller,
    request: MemberUpdateRequest,
) -> Result<Body, Status> {
    check_urls(&request.peer_ur_ls)?;
    let moved = PeerUrls {
        member_id: request.id,
        peer_urls: request.peer_ur_ls,
    };
    let mut response = propose(backend, caller, moved).await?;
    response.header = Some(header(backend, 0));
    Ok(Body::message(&response))
}

/// Adds a member, which is to be started afterwards. Its id depends on the time (etcd: `NewMember`).
pub async fn member_add(
    backend: &impl Backend,
    caller: &Caller,
    request: MemberAddRequest,
) -> Result<Body, Status> {
    check_urls(&request.peer_ur_ls)?;
    let seconds = env::unix_time().as_secs().to_string();
    let id = member_id(request.peer_ur_ls.iter().map(String::as_str), &seconds);
    let added = Member {
        id: id.get(),
        peer_urls: request.peer_ur_ls,
        is_learner: request.is_learner,
        ..Member::default()
    };
    let members = change(backend, caller, Change::Add(added)).await?.to_wire();
    Ok(Body::message(&MemberAddResponse {
        header: Some(header(backend, 0)),
        member: members.iter().find(|member| member.id == id.get()).cloned(),
        members,
    }))
}

/// Removes a member permanently.
pub async fn member_remove(
    backend: &impl Backend,
    caller: &Caller,
    request: MemberRemoveRequest,
) -> Result<Body, Status> {
    let members = change(backend, caller, Change::Remove(request.id)).await?;
    Ok(Body::message(&MemberRemoveResponse {
        header: Some(header(backend, 0)),
        members: members.to_wire(),
    }))
}

/// Promotes a learner to a voter.
pub async fn member_promote(
    backend: &impl Backend,
    caller: &Caller,
    request: MemberPromoteRequest,
) -> Result<Body, Status> {
    let members = promote(backend, caller, request.id).await?;
    Ok(Body::message(&MemberPromoteResponse {
        header: Some(header(backend, 0)),
        members: members.to_wire(),
    }))
}

pub(super) async fn promote(
    backend: &impl Backend,
    caller: &Caller,
    id: u64,
) -> Result<Membership, CallError> {
    change(backend, caller, Change::Promote(id)).await
}

async fn change(backend: &impl Backend, caller: &Caller, change: Change) -> Result<Membership, CallError> {
    let limits = backend.limits();
    let change = MemberChange {
        change: Some(change),
        strict: limits.strict_member_changes,
        learners_max: limits.learners_max,
        ..MemberChange::default()
    };
    match backend.propose(caller, Request::MemberChange(change)).await? {
        Outcome::Members(members) => Ok(members.into_iter().collect()),
        _ => Err(foreign_outcome()),
    }
}

/// etcd accepts some URLs at which no member can reach the new one.
fn check_urls(urls: &[String]) -> Result<(), EtcdError> {
    let is_sound = |url: &String| MemberUrl::parse(url).is_ok_and(|url| url.check_host().is_ok());
    if urls.is_empty() || !urls.iter().all(is_sound) {
        return Err(EtcdError::BadMemberUrls);
    }
    Ok(())
}
