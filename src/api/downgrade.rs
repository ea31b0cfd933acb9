//! Maintenance.Downgrade: says that the cluster is to go down by one minor version, to which its version then changes. The data
//! stay as they are; what an older etcd needs is a backup, which then says that version.
//!
//! Mirrors etcd's server/etcdserver/v3_server.go and server/etcdserver/version.

use super::backend::{Backend, header};
use super::body::Body;
use super::kv::view;
use super::proposal::foreign_outcome;
use super::status::{CallError, EtcdError};
use crate::proto::etcdserverpb::downgrade_request::DowngradeAction;
use crate::proto::etcdserverpb::{DowngradeRequest, DowngradeResponse};
use crate::proto::log::Downgrade;
use crate::proto::log::command::Request;
use crate::requests::Caller;
use crate::state::machine::Outcome;
use crate::version;
use std::sync::Arc;
use tonic::Status;

pub async fn downgrade(
    backend: &impl Backend,
    caller: &Caller,
    request: DowngradeRequest,
) -> Result<Body, Status> {
    let action = DowngradeAction::try_from(request.action).map_err(|_| EtcdError::UnknownMethod)?;
    let cluster_version = match action {
        DowngradeAction::Validate => {
            let target = target(&request)?;
            let cluster = Arc::clone(&view(backend, false).await?.cluster);
            if cluster.version.is_empty() {
                return Err(EtcdError::ClusterVersionUnavailable.into());
            }
            cluster.check_downgrade(&target).map_err(CallError::from)?;
            cluster.version.clone()
        }
        DowngradeAction::Enable => {
            // The answer names the version from which the cluster goes down, as etcd's does.
            let before = backend.view().cluster.version.clone();
            set(backend, caller, target(&request)?).await?;
            before
        }
        DowngradeAction::Cancel => {
            // etcd confirms whatever happens. Here, what is confirmed is so: there is no downgrade in progress.
            match set(backend, caller, String::new()).await {
                Err(CallError::Known(EtcdError::NoInflightDowngrade)) => {
                    tracing::warn!("there is no downgrade to cancel");
                }
                outcome => outcome?,
            }
            backend.view().cluster.version.clone()
        }
    };
    let minor = cluster_version.rsplit_once('.').map_or("", |(minor, _)| minor);
    Ok(Body::message(&DowngradeResponse {
        header: Some(header(backend, backend.view().revision())),
        version: minor.to_owned(),
    }))
}

fn target(request: &DowngradeRequest) -> Result<String, EtcdError> {
    version::cluster_version(&request.version).ok_or(EtcdError::WrongDowngradeVersionFormat)
}

async fn set(backend: &impl Backend, caller: &Caller, target_version: String) -> Result<(), CallError> {
    let downgrade = Downgrade {
        target_version,
        version_after: version::CLUSTER.to_owned(),
    };
    match backend.propose(caller, Request::Downgrade(downgrade)).await? {
        Outcome::Done => Ok(()),
        _ => Err(foreign_outcome()),
    }
}
