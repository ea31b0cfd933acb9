//! The Cluster service, as far as it exists: listing the members. Mirrors etcd's server/etcdserver/api/v3rpc/member.go;
//! its headers carry no revision.

use super::backend::{Backend, header};
use super::body::Body;
use super::kv::view;
use crate::cluster::Membership;
use crate::proto::etcdserverpb::{MemberListRequest, MemberListResponse};
use tonic::Status;

pub async fn member_list(backend: &impl Backend, request: MemberListRequest) -> Result<Body, Status> {
    let view = view(backend, !request.linearizable).await?;
    let membership: Membership = view.cluster.members.iter().cloned().collect();
    Ok(Body::message(&MemberListResponse {
        header: Some(header(backend, 0)),
        members: membership.to_wire(),
    }))
}
