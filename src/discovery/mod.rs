//! Discovery: how the members of a new cluster learn of each other where nobody lists them.
//!
//! Members register with a service and wait there until as many have come as were asked for: by the v2 protocol
//! ([`registry_v2`]: plain HTTP, `--discovery`) or by the v3 protocol ([`registry_v3`]: gRPC, `--discovery-endpoints`). What they have
//! in common is the list ([`registry`]) and the order of steps ([`registering`]). Or DNS lists them ([`service_records`]:
//! `--discovery-srv`). What comes of it is what `--initial-cluster` says elsewhere.
//!
//! Mirrors etcd's server/etcdserver/api/v2discovery and v3discovery, and client/pkg/srv/srv.go. The discovery service itself is not
//! here: any etcd or Callboard is one. Whether a member discovers at all, and what it does with the list, is decided in `bootstrap`.

mod addresses;
mod error;
mod http_client;
mod registering;
mod registry;
mod registry_v2;
mod registry_v3;
mod service_records;

pub use addresses::resolve;
pub use error::{Error, Refusal};

use crate::cluster::{InitialCluster, InitialClusterError, MemberUrl, member_id};
use crate::config::{self, Discovery};

/// The members of the new cluster, this one among them.
pub async fn members(config: &config::Server, discovery: &Discovery) -> Result<InitialCluster, Error> {
    let registered = match discovery {
        Discovery::Srv(srv) => return service_records::find(config, srv).await,
        Discovery::Url(_) | Discovery::Endpoints(_) => join(config, discovery).await,
    };
    match &registered {
        Ok(listed) => tracing::info!(cluster = %listed, "discovery joined cluster successfully"),
        Err(error) => tracing::error!(%error, "discovery failed to join cluster"),
    }
    let listed = registered?;
    match listed.check_join(&config.name) {
        Err(InitialClusterError::DuplicateUrl(listed)) => Err(Error::DuplicateUrl(listed)),
        _ => Ok(listed),
    }
}

/// Registers with the service and waits for the others.
async fn join(config: &config::Server, discovery: &Discovery) -> Result<InitialCluster, Refusal> {
    let urls = &config.initial_advertise_peer_urls;
    let id = member_id(urls.iter().map(MemberUrl::as_str), config.cluster_token());
    let own = registry::Registration {
        id: id.to_string(),
        urls: InitialCluster::single(&config.name, urls).to_string(),
        created: 0,
    };
    match discovery {
        Discovery::Url(options) => {
            let mut service = registry_v2::Service::new(options, own)?;
            registering::join(&mut service).await
        }
        Discovery::Endpoints(options) => {
            let mut service = registry_v3::Service::new(options, own)?;
            registering::join(&mut service).await
        }
        Discovery::Srv(_) => unreachable!("nobody registers with DNS"),
    }
}
