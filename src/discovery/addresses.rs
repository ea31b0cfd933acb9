//! Where names are. A name that does not resolve is asked for again for a while: the members of a new cluster, and what tells of
//! them, often start at the same time. Mirrors etcd's pkg/netutil/netutil.go.

use crate::cluster::{MemberUrl, Resolved};
use crate::env;
use std::net::SocketAddr;
use std::time::Duration;

/// Names have so long to become known (etcd: server/config/config.go, `advertiseMatchesCluster`).
const RESOLVE_MAX: Duration = Duration::from_secs(30);
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How long names are asked for, all of them together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline(env::Instant);

impl Deadline {
    pub fn from_now() -> Self {
        Self(env::now() + RESOLVE_MAX)
    }

    /// The addresses of `host:port`.
    pub async fn resolve(self, address: &str) -> Result<Vec<SocketAddr>, String> {
        loop {
            let left = self.0.saturating_duration_since(env::now());
            let error = match env::timeout(left, env::resolve(address)).await {
                Ok(Ok(addresses)) => {
                    tracing::info!(host = address, resolved_addr = ?addresses, "resolved URL Host");
                    return Ok(addresses);
                }
                Ok(Err(error)) => error.to_string(),
                Err(env::Elapsed) => "the name servers do not answer".to_owned(),
            };
            tracing::warn!(
                host = address,
                retry_interval = ?RETRY_AFTER,
                error,
                "failed to resolve URL Host"
            );
            if left <= RETRY_AFTER {
                return Err(format!("failed to resolve {address:?} ({error})"));
            }
            env::sleep(RETRY_AFTER).await;
        }
    }
}

/// Where members' URLs are.
pub async fn resolve(urls: impl IntoIterator<Item = &MemberUrl>) -> Result<Resolved, String> {
    let deadline = Deadline::from_now();
    let mut resolved = Resolved::default();
    for url in urls.into_iter().filter(|url| !url.is_unix()) {
        resolved.insert(url, deadline.resolve(&url.address()).await?);
    }
    Ok(resolved)
}
