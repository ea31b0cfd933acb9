//! The Auth service while there are no users: the replies of etcd with authentication off and with no user or role.
//!
//! Mirrors server/auth/store.go. Clients branch on "authentication is not enabled". Users and roles cannot be added yet, so none
//! is ever found.

use super::backend::{Backend, header};
use super::body::Body;
use super::grpc;
use super::status::{CallError, EtcdError};
use crate::metrics::CountedCall;
use crate::proto::etcdserverpb::{
    AuthDisableRequest, AuthDisableResponse, AuthEnableRequest, AuthRoleAddRequest, AuthRoleDeleteRequest,
    AuthRoleGetRequest, AuthRoleGrantPermissionRequest, AuthRoleListRequest, AuthRoleListResponse,
    AuthRoleRevokePermissionRequest, AuthStatusRequest, AuthStatusResponse, AuthUserAddRequest,
    AuthUserChangePasswordRequest, AuthUserDeleteRequest, AuthUserGetRequest, AuthUserGrantRoleRequest,
    AuthUserListRequest, AuthUserListResponse, AuthUserRevokeRoleRequest, AuthenticateRequest,
    ResponseHeader,
};
use tonic::Status;

/// The initial revision of etcd's auth store.
const AUTH_REVISION: u64 = 1;

/// The header of a reply after a read barrier.
async fn agreed(backend: &impl Backend) -> Result<Option<ResponseHeader>, Status> {
    backend.read_barrier().await.map_err(CallError::from)?;
    Ok(Some(header(backend, backend.view().revision())))
}

async fn status(backend: &impl Backend) -> Result<Body, Status> {
    Ok(Body::message(&AuthStatusResponse {
        header: agreed(backend).await?,
        enabled: false,
        auth_revision: AUTH_REVISION,
    }))
}

/// Authentication is off already.
async fn disable(backend: &impl Backend) -> Result<Body, Status> {
    let header = agreed(backend).await?;
    Ok(Body::message(&AuthDisableResponse { header }))
}

async fn user_list(backend: &impl Backend) -> Result<Body, Status> {
    Ok(Body::message(&AuthUserListResponse {
        header: agreed(backend).await?,
        users: vec![],
    }))
}

async fn role_list(backend: &impl Backend) -> Result<Body, Status> {
    Ok(Body::message(&AuthRoleListResponse {
        header: agreed(backend).await?,
        roles: vec![],
    }))
}

/// Fails a call that needs a user, a role or authentication.
async fn refuse(backend: &impl Backend, error: EtcdError) -> Result<Body, Status> {
    backend.read_barrier().await.map_err(CallError::from)?;
    Err(error.into())
}

/// Answers a call of the service.
pub async fn call(
    backend: &impl Backend,
    call: &CountedCall,
    path: &str,
    body: impl grpc::RequestBody + 'static,
    reading: &grpc::Reading,
) -> Result<Body, Status> {
    macro_rules! message {
        ($kind:ident) => {
            grpc::message::<$kind>(body, reading, call).await?
        };
    }
    macro_rules! refuse {
        ($kind:ident, $error:ident) => {{
            let _ = message!($kind);
            refuse(backend, EtcdError::$error).await
        }};
    }
    match &path["/etcdserverpb.Auth/".len()..] {
        "AuthEnable" => refuse!(AuthEnableRequest, RootUserNotFound),
        "AuthDisable" => {
            let _ = message!(AuthDisableRequest);
            disable(backend).await
        }
        "AuthStatus" => {
            let _ = message!(AuthStatusRequest);
            status(backend).await
        }
        "Authenticate" => refuse!(AuthenticateRequest, AuthNotEnabled),
        // Users and roles cannot be added yet.
        "UserAdd" => match message!(AuthUserAddRequest).name.as_str() {
            "" => Err(EtcdError::UserEmpty.into()),
            _ => Err(EtcdError::NotCapable.into()),
        },
        "RoleAdd" => match message!(AuthRoleAddRequest).name.as_str() {
            "" => Err(EtcdError::RoleEmpty.into()),
            _ => Err(EtcdError::NotCapable.into()),
        },
        "UserGet" => refuse!(AuthUserGetRequest, UserNotFound),
        "UserDelete" => refuse!(AuthUserDeleteRequest, UserNotFound),
        "UserChangePassword" => refuse!(AuthUserChangePasswordRequest, UserNotFound),
        "UserGrantRole" => refuse!(AuthUserGrantRoleRequest, UserNotFound),
        "UserRevokeRole" => refuse!(AuthUserRevokeRoleRequest, UserNotFound),
        "UserList" => {
            let _ = message!(AuthUserListRequest);
            user_list(backend).await
        }
        "RoleGet" => refuse!(AuthRoleGetRequest, RoleNotFound),
        "RoleDelete" => refuse!(AuthRoleDeleteRequest, RoleNotFound),
        "RoleRevokePermission" => refuse!(AuthRoleRevokePermissionRequest, RoleNotFound),
        "RoleGrantPermission" => match message!(AuthRoleGrantPermissionRequest).perm {
            None => Err(EtcdError::PermissionNotGiven.into()),
            Some(_) => refuse(backend, EtcdError::RoleNotFound).await,
        },
        "RoleList" => {
            let _ = message!(AuthRoleListRequest);
            role_list(backend).await
        }
        _ => Err(grpc::unknown(path, &["etcdserverpb.Auth"])),
    }
}
