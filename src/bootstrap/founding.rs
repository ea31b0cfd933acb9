//! The first start of a member: what its empty data directory begins with.

use super::StartError;
use super::joining;
use crate::cluster::{self, InitialCluster, MemberUrl};
use crate::config::{self, ClusterState};
use crate::env;
use crate::ids::{ClusterId, Incarnation, LogIndex, MemberId, Term};
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
        return Ok(None);
    }
    let listed = config.initial_cluster()?;
    let beginning = match config.initial_cluster_state {
        ClusterState::New => found(config, &listed)?,
        ClusterState::Existing => joining::join(config, &listed, dialler).await?,
    };
    Ok(Some(beginning))
}

/// A member of a new cluster. Like etcd's, its log begins behind one entry per member, in term 1.
pub(super) fn found(config: &config::Server, listed: &InitialCluster) -> Result<Beginning, StartError> {
    let (cluster, membership) = listed
        .found(&config.initial_cluster_token)
        .map_err(config::Error::from)?;
    let named = membership.iter().find(|member| member.name == config.name);
    let member = named.map_or_else(
        || {
            let own_urls = config.initial_advertise_peer_urls.iter();
            cluster::member_id(own_urls.map(MemberUrl::as_str), &config.initial_cluster_token)
        },
        |member| MemberId(member.id),
    );
    let initial = InitialState {
        applied_index: LogIndex(membership.len() as u64),
        applied_term: Term(1),
        members: membership.iter().cloned().collect(),
        conf_state: ConfState {
            voters: membership.ids().map(|id| id.0).collect(),
            ..ConfState::default()
        },
        cluster_version: String::new(),
    };
    Ok(Beginning::new(member, cluster, initial))
}
