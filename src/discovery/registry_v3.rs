//! A registry by the v3 protocol: keys below `/_etcd/registry/<token>` in the key space of any etcd or Callboard. `_config/size` says
//! how many members the cluster is to have, and `members/` has an entry for each, under its id.

use super::Refusal;
use super::error::Failure;
use super::registering::RegistryService;
use super::registry::{Registration, Registry};
use crate::client::{self, ChannelOptions, Client, Options, Watched};
use crate::config::{Credentials, DiscoveryEndpoints};
use crate::env;
use crate::proto::etcdserverpb as pb;
use crate::proto::mvccpb::KeyValue;
use crate::tls::Connector;
use bytes::Bytes;
use std::time::Duration;
use tonic::Code;

/// What all keys begin with.
const PREFIX: &str = "/_etcd/registry";
/// After so long without news the registry is read again.
const WAIT_MAX: Duration = Duration::from_mins(1);

/// The registry of a discovery token.
#[derive(Debug)]
pub(super) struct Service {
    client: Client,
    credentials: Option<Credentials>,
    is_authenticated: bool,
    /// Of the size.
    size_key: String,
    /// What the members' keys begin with.
    members_prefix: String,
    own: Registration,
}

impl Service {
    pub fn new(options: &DiscoveryEndpoints, own: Registration) -> Result<Self, Refusal> {
        let endpoints = client::parse_endpoints(&options.endpoints).map_err(client::Error::from)?;
        let channel = ChannelOptions {
            keep_alive: options.keep_alive,
            connect_timeout: options.dial_timeout,
            tls: connector(options, &endpoints)?,
            ..ChannelOptions::default()
        };
        let client_options = Options {
            request_timeout: options.request_timeout,
            channel,
            ..Options::default()
        };
        let token = options.token.trim_matches('/');
        Ok(Self {
            client: Client::start(endpoints, client_options)?,
            credentials: options.credentials.clone(),
            is_authenticated: false,
            size_key: format!("{PREFIX}/{token}/_config/size"),
            members_prefix: format!("{PREFIX}/{token}/members/"),
            own,
        })
    }

    /// Shows who this member is, unless it has or is nobody.
    async fn authenticate(&mut self) -> Result<(), Failure> {
        let Some(credentials) = self.credentials.as_ref().filter(|_| !self.is_authenticated) else {
            return Ok(());
        };
        let request = pb::AuthenticateRequest {
            name: credentials.user.clone(),
            password: credentials.password.clone(),
        };
        let answer = self
            .client
            .authenticate(request)
            .await
            .map_err(|error| match error {
                client::Error::Refused(_) => Failure::Final(error.into()),
                error => Failure::Passing(error.to_string()),
            })?;
        self.client = self.client.with_token(&answer.token);
        self.is_authenticated = true;
        Ok(())
    }

    /// Any error may pass, as with etcd; a token may have expired.
    fn failed(&mut self, error: &client::Error) -> Failure {
        if error.code() == Code::Unauthenticated {
            self.is_authenticated = false;
        }
        Failure::Passing(error.to_string())
    }

    async fn read(&mut self, key: &str, range_end: Bytes) -> Result<(Vec<KeyValue>, i64), Failure> {
        let request = pb::RangeRequest {
            key: key.to_owned().into(),
            range_end,
            ..pb::RangeRequest::default()
        };
        let answer = self.client.range(request).await;
        let answer = answer.map_err(|error| self.failed(&error))?;
        Ok((answer.kvs, answer.header.unwrap_or_default().revision))
    }
}

impl RegistryService for Service {
    fn own(&self) -> &Registration {
        &self.own
    }

    async fn look(&mut self) -> Result<Registry, Failure> {
        self.authenticate().await?;
        let (size_key, prefix) = (self.size_key.clone(), self.members_prefix.clone());
        let (found, _) = self.read(&size_key, Bytes::new()).await?;
        let size = found.first().ok_or(Refusal::SizeNotFound)?;
        let size = Registry::parse_size(&String::from_utf8_lossy(&size.value))?;
        let (found, revision) = self.read(&prefix, client::prefix_end(prefix.as_bytes())).await?;
        let entries = found.iter().filter_map(|found| registration(&prefix, found));
        Ok(Registry::new(size, entries.collect(), revision as u64))
    }

    /// A member that comes again keeps its place: the key keeps the revision that made it.
    async fn register(&mut self) -> Result<(), Failure> {
        let request = pb::PutRequest {
            key: format!("{}{}", self.members_prefix, self.own.id).into(),
            value: self.own.urls.clone().into(),
            ..pb::PutRequest::default()
        };
        let answer = self.client.put(request).await;
        answer.map(drop).map_err(|error| self.failed(&error))
    }

    async fn wait(&mut self, registry: &Registry) -> Result<(), Failure> {
        let mut watcher = self.client.watcher(pb::WatchCreateRequest {
            key: self.members_prefix.clone().into(),
            range_end: client::prefix_end(self.members_prefix.as_bytes()),
            start_revision: registry.seen as i64 + 1,
            ..pb::WatchCreateRequest::default()
        });
        let news = async {
            loop {
                match watcher.next().await {
                    Watched::Created { .. } | Watched::Progress { .. } => {}
                    // What was compacted meanwhile is read.
                    Watched::Events { .. } | Watched::Compacted { .. } => return Ok(()),
                    Watched::Canceled { reason } => return Err(Failure::Passing(reason)),
                }
            }
        };
        env::timeout(WAIT_MAX, news).await.unwrap_or(Ok(()))
    }
}

/// What endpoints are dialled with: TLS where they say https, and where nothing is said if there is a file for it or plain
/// connections are not allowed.
fn connector(
    options: &DiscoveryEndpoints,
    endpoints: &[client::Endpoint],
) -> Result<Option<Connector>, Refusal> {
    Ok(if options.is_secure {
        Some(options.files.connector()?)
    } else {
        client::connector(endpoints, &options.files)?
    })
}

/// A member's entry; what is none is passed over, as with etcd.
fn registration(prefix: &str, found: &KeyValue) -> Option<Registration> {
    let key = String::from_utf8_lossy(&found.key).trim().to_owned();
    let urls = String::from_utf8_lossy(&found.value).trim().to_owned();
    let id = key.strip_prefix(prefix).filter(|_| urls.contains('='));
    if id.is_none() {
        tracing::warn!(key, urls, "invalid peer info returned from discovery service");
    }
    Some(Registration {
        id: id?.to_owned(),
        urls,
        created: found.create_revision as u64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_told_from_what_else_is_there() {
        let prefix = "/_etcd/registry/t/members/";
        let entry = |key: &str, value: &str| {
            registration(
                prefix,
                &KeyValue {
                    key: key.to_owned().into(),
                    value: value.to_owned().into(),
                    create_revision: 7,
                    ..KeyValue::default()
                },
            )
        };
        let found = entry("/_etcd/registry/t/members/1a", " m1=http://a:1\n");
        assert_eq!(
            found,
            Some(Registration {
                id: "1a".to_owned(),
                urls: "m1=http://a:1".to_owned(),
                created: 7,
            })
        );
        assert_eq!(entry("/_etcd/registry/t/members/1a", "http://a:1"), None);
        assert_eq!(
            client::prefix_end(prefix.as_bytes()),
            "/_etcd/registry/t/members0"
        );
    }
}
