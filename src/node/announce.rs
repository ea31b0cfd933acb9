//! What the log says of a member's start and end, in etcd's words: tools and test suites wait for these lines
//! (server/embed/etcd.go, server/embed/serve.go, server/etcdserver/api/membership/cluster.go).

use crate::cluster::{MemberUrl, Scheme};
use crate::config::{self, ClusterState};
use crate::env::{self, ServiceState};
use crate::etcd_errors::EtcdError;
use crate::storage::directory::Identity;
use crate::version;
use serde_json::json;
use std::path::Path;
use std::time::Duration;

fn texts(urls: &[MemberUrl]) -> Vec<&str> {
    urls.iter().map(MemberUrl::as_str).collect()
}

/// With what settings the member is about to start.
pub fn starting(config: &config::Server, catch_up_entries: Option<u64>) {
    let duration = |milliseconds| format!("{:?}", Duration::from_millis(milliseconds));
    let fields = json!({
        "etcd-version": version::SERVER,
        "name": config.name,
        "data-dir": config.data_dir,
        "wal-dir-dedicated": config.wal_dir.as_deref().unwrap_or(Path::new("")),
        "force-new-cluster": config.force_new_cluster,
        "heartbeat-interval": duration(config.heartbeat_interval_ms),
        "election-timeout": duration(config.election_timeout_ms),
        "snapshot-count": config.snapshot_count,
        "snapshot-catchup-entries": catch_up_entries.unwrap_or(config.snapshot_catchup_entries),
        "initial-advertise-peer-urls": texts(&config.initial_advertise_peer_urls),
        "listen-peer-urls": texts(&config.listen_peer_urls),
        "advertise-client-urls": texts(&config.advertise_client_urls),
        "listen-client-urls": texts(&config.listen_client_urls),
        "listen-client-http-urls": texts(&config.listen_client_http_urls),
        "listen-metrics-urls": texts(&config.listen_metrics_urls),
        "host-whitelist": config.host_whitelist,
        "initial-cluster": config.initial_cluster_text,
        "initial-cluster-state": match config.initial_cluster_state {
            ClusterState::New => "new",
            ClusterState::Existing => "existing",
        },
        "initial-cluster-token": config.initial_cluster_token,
        "max-request-bytes": config.max_request_bytes,
        "max-concurrent-streams": config.max_concurrent_streams,
        "pre-vote": config.pre_vote,
    });
    tracing::info!(flatten = %fields, "starting an etcd server");
}

/// The ports are open.
pub fn serving(config: &config::Server, identity: Identity) {
    for url in &config.listen_metrics_urls {
        tracing::info!(address = url.as_str(), "serving metrics");
    }
    tracing::info!(
        local_member_id = %identity.member,
        initial_advertise_peer_urls = ?texts(&config.initial_advertise_peer_urls),
        listen_peer_urls = ?texts(&config.listen_peer_urls),
        advertise_client_urls = ?texts(&config.advertise_client_urls),
        listen_client_urls = ?texts(&config.listen_client_urls),
        listen_metrics_urls = ?texts(&config.listen_metrics_urls),
        "now serving peer/client/metrics"
    );
}

/// The member has joined its cluster.
pub fn ready(config: &config::Server) {
    tracing::info!("ready to serve client requests");
    env::tell_service_manager(ServiceState::Ready);
    let with_grpc = match config.listen_client_http_urls.as_slice() {
        [] => "grpc+http",
        _ => "grpc",
    };
    let calls = config.listen_client_urls.iter().map(|url| (url, with_grpc));
    let plain = config.listen_client_http_urls.iter().map(|url| (url, "http"));
    for (url, traffic) in calls.chain(plain) {
        let address = url.address();
        match url.scheme() {
            Scheme::Https | Scheme::Unixs => {
                tracing::info!(traffic, address, "serving client traffic securely");
            }
            Scheme::Http | Scheme::Unix => tracing::info!(
                traffic,
                address,
                "serving client traffic insecurely; this is strongly discouraged!"
            ),
        }
    }
}

/// The members have agreed on a version. `before` is what this member knew of it when it started.
pub fn version(before: &str, version: &str) {
    tracing::info!(cluster_version = version, "enabled capabilities for version");
    if before != version {
        tracing::info!(cluster_version = version, "set the cluster version");
        tracing::info!(new_storage_version = version::CLUSTER, "updated storage version");
    }
}

/// The member is none any more (etcd: server/etcdserver/server.go).
pub fn removed() {
    tracing::warn!(error = EtcdError::MemberRemoved.text(), "server error");
    tracing::warn!("data-dir used by this member must be removed");
}

/// The member begins to end.
pub fn closing(config: &config::Server) {
    let (name, data_dir) = (&config.name, config.data_dir.display());
    tracing::info!(name, %data_dir, "closing etcd server");
    env::tell_service_manager(ServiceState::Stopping);
}

/// It is through.
pub fn closed(config: &config::Server) {
    let (name, data_dir) = (&config.name, config.data_dir.display());
    tracing::info!(name, %data_dir, "closed etcd server");
}
