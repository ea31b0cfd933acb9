//! The Auth service as long as there are no users: what etcd answers with authentication off, and neither user nor role.
//!
//! Mirrors server/auth/store.go. Clients branch on "authentication is not enabled". Users and roles cannot be added yet, so that
//! none is ever found.

use super::backend::{Backend, header};
use super::body::Body;
use super::status::{ApiError, CallError};
use crate::proto::etcdserverpb::{
    AuthDisableResponse, AuthRoleListResponse, AuthStatusResponse, AuthUserListResponse, ResponseHeader,
};
use tonic::Status;

/// What etcd's store of users begins with.
const AUTH_REVISION: u64 = 1;

/// The header of an answer that etcd's members agree on.
async fn agreed(backend: &impl Backend) -> Result<Option<ResponseHeader>, Status> {
    backend.read_barrier().await.map_err(CallError::from)?;
    Ok(Some(header(backend, backend.view().revision())))
}

pub async fn status(backend: &impl Backend) -> Result<Body, Status> {
    Ok(Body::message(&AuthStatusResponse {
        header: agreed(backend).await?,
        enabled: false,
        auth_revision: AUTH_REVISION,
    }))
}

/// Is off already.
pub async fn disable(backend: &impl Backend) -> Result<Body, Status> {
    let header = agreed(backend).await?;
    Ok(Body::message(&AuthDisableResponse { header }))
}

pub async fn user_list(backend: &impl Backend) -> Result<Body, Status> {
    Ok(Body::message(&AuthUserListResponse {
        header: agreed(backend).await?,
        users: vec![],
    }))
}

pub async fn role_list(backend: &impl Backend) -> Result<Body, Status> {
    Ok(Body::message(&AuthRoleListResponse {
        header: agreed(backend).await?,
        roles: vec![],
    }))
}

/// A call that needs what is not there.
pub async fn refuse(backend: &impl Backend, error: ApiError) -> Result<Body, Status> {
    backend.read_barrier().await.map_err(CallError::from)?;
    Err(error.into())
}
