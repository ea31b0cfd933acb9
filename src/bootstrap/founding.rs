//! The first start of a member: what its empty data directory begins with.

use super::StartError;
use super::joining;
use crate::cluster::{self, InitialCluster, InitialClusterError, MemberUrl, Resolved};
use crate::config::{self, ClusterState, Discovery};
use crate::discovery;
use crate::env;
use crate::ids::{ClusterId, Incarnation, LogIndex, MemberId, Term};
use crate::proto::log::Member;
use crate::proto::peer::ConfState;
use crate::state::machine::InitialState;
use crate::storage::contacts::Start;
use crate::storage::directory::{DataDirectory, Identity};
use crate::tls::Connector;

/// Who a member is from its first start on, and what its state and its log begin with.
#[derive(Clone, Debug)]
pub struct Beginning {
    pub(super) identity: Identity,
    pub(super) initial: InitialState,
}

impl Beginning {
    pub(super) fn new(member: MemberId, cluster: ClusterId, initial: InitialState) -> Self {
        let identity = Identity {
            member,
            cluster,
            // 0 stands for a member that has never started.
            incarnation: Incarnation(env::random_u64().max(1)),
            start: Start::default(),
        };
        Self { identity, initial }
    }
}

/// What the configured data directory is to begin with; nothing if it has a member already. A member that joins asks the others
/// who they are, with `dialler` where their URLs say https.
pub async fn begin(
    config: &config::Server,
    dialler: Option<&Connector>,
) -> Result<Option<Beginning>, StartError> {
    if DataDirectory::is_claimed(&config.data_dir) {
        if config
            .discovery
            .as_ref()
            .is_some_and(|discovery| discovery.token().is_some())
        {
            tracing::warn!(
                data_dir = %config.data_dir.display(),
                "discovery token is ignored since cluster already initialized; valid logs are found"
            );
        }
        return Ok(None);
    }
    let listed = match &config.discovery {
        None => config.initial_cluster()?,
        Some(discovery) => {
            if discovery.token().is_some() && config.initial_cluster_state == ClusterState::Existing {
                return Err(StartError::DiscoveryOfExisting);
            }
            discovery::members(config, discovery).await?
        }
    };
    let beginning = match config.initial_cluster_state {
        ClusterState::New => {
            check_own_urls(config, &listed)
                .await
                .map_err(config::Error::from)?;
            found(config, &listed)?
        }
        ClusterState::Existing => {
            listed.check_join(&config.name).map_err(config::Error::from)?;
            joining::join(config, &listed, dialler).await?
        }
    };
    Ok(Some(beginning))
}

/// The list and `--initial-advertise-peer-urls` may name the same places differently: what texts do not tell, the resolver is
/// asked, for a while.
async fn check_own_urls(config: &config::Server, listed: &InitialCluster) -> Result<(), InitialClusterError> {
    let (name, advertised) = (&config.name, &config.initial_advertise_peer_urls);
    let by_texts = listed.check_bootstrap(name, advertised, &Resolved::default());
    let own = listed.urls_of(name);
    let Err(InitialClusterError::NotAdvertised { .. }) = &by_texts else {
        return by_texts;
    };
    if own.len() != advertised.len() {
        return by_texts;
    }
    match discovery::resolve(advertised.iter().chain(own)).await {
        Ok(resolved) => listed.check_bootstrap(name, advertised, &resolved),
        Err(error) => by_texts.map_err(|mismatch| mismatch.because(error)),
    }
}

/// A member of a new cluster. Like etcd's, its log begins behind one entry per member, in term 1.
pub(super) fn found(config: &config::Server, listed: &InitialCluster) -> Result<Beginning, StartError> {
    let (cluster, membership) = listed
        .found(config.cluster_token())
        .map_err(config::Error::from)?;
    let named = membership.iter().find(|member| member.name == config.name);
    let member = named.map_or_else(
        || {
            let own_urls = config.initial_advertise_peer_urls.iter();
            cluster::member_id(own_urls.map(MemberUrl::as_str), config.cluster_token())
        },
        |member| MemberId(member.id),
    );
    // Members must begin with the same state, and in DNS records none but the own one has a name. The others say theirs.
    let is_named = !matches!(config.discovery, Some(Discovery::Srv(_)));
    let name_for_all = |member: Member| Member {
        name: if is_named { member.name } else { String::new() },
        ..member
    };
    let initial = InitialState {
        applied_index: LogIndex(membership.len() as u64),
        applied_term: Term(1),
        members: membership.iter().cloned().map(name_for_all).collect(),
        conf_state: ConfState {
            voters: membership.ids().map(|id| id.0).collect(),
            ..ConfState::default()
        },
        cluster_version: String::new(),
    };
    Ok(Beginning::new(member, cluster, initial))
}
