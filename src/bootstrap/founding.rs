//! The first start of a member: what its empty data directory begins with.

use super::running::{Question, Running};
use super::{StartError, joining};
use crate::cluster::{self, InitialCluster, InitialClusterError, MemberUrl, Resolved};
use crate::config::{self, ClusterState, Discovery};
use crate::discovery;
use crate::env;
use crate::ids::{ClusterId, Incarnation, LogIndex, MemberId, Term};
use crate::mutants::{self, Mutant};
use crate::proto::log::Member;
use crate::proto::peer::ConfState;
use crate::state::machine::InitialState;
use crate::storage::contacts::Start;
use crate::storage::directory::{DataDirectory, Identity};
use crate::tls::Connector;
use std::time::Duration;

/// A member of a new cluster looks so long for one that runs already (etcd: `BootstrapTimeoutEffective`). Members that start
/// together do not wait for each other: none listens yet.
const LOOK_TIMEOUT: Duration = Duration::from_secs(1);

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
    let has_token = config.discovery.as_ref().and_then(Discovery::token).is_some();
    if DataDirectory::is_claimed(&config.data_dir) {
        if has_token {
            tracing::warn!(
                data_dir = %config.data_dir.display(),
                "discovery token is ignored since cluster already initialized; valid logs are found"
            );
        }
        return Ok(None);
    }
    if has_token && config.initial_cluster_state == ClusterState::Existing {
        return Err(StartError::DiscoveryOfExisting);
    }
    let listed = match &config.discovery {
        None => config.initial_cluster()?,
        Some(discovery) => discovery::members(config, discovery).await?,
    };
    let beginning = match config.initial_cluster_state {
        ClusterState::New => {
            check_own_urls(config, &listed)
                .await
                .map_err(config::Error::from)?;
            let beginning = found(config, &listed)?;
            let look = Question {
                dialler,
                linearizable: false,
                within: LOOK_TIMEOUT,
                warns: false,
            };
            let running = look.ask_all(&listed.others(&config.name)).await;
            check_founder(&beginning, &running)?;
            beginning
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

/// Whether a member may begin as one of a new cluster, given what runs at the others' URLs. Mirrors `isMemberBootstrapped` of
/// etcd's server/etcdserver/bootstrap.go; etcd starts beside a cluster of another id, and is ignored there for ever. One
/// member that is of the same new cluster outweighs those of other clusters: then it is they who are wrong.
fn check_founder(beginning: &Beginning, running: &[Running]) -> Result<(), StartError> {
    let own = &beginning.identity;
    // What these mistakes lead to is seen only where a blank disk comes as far as the links.
    let blank_disks_begin =
        mutants::active(Mutant::BlankDiskAdmitted) || mutants::active(Mutant::AnswersUnchecked);
    let (mut agrees, mut refusal) = (false, Ok(()));
    for other in running {
        let known = other.members.iter().find(|member| member.id == own.member.0);
        match known.filter(|_| other.cluster == own.cluster) {
            Some(member) if !member.client_urls.is_empty() && !blank_disks_begin => {
                return Err(StartError::StartedBefore { member: own.member });
            }
            Some(_) => agrees = true,
            None => refusal = Err(refuse_beside(beginning, other)),
        }
    }
    if agrees { Ok(()) } else { refusal }
}

/// What is wrong with a member that begins in another cluster than the one that runs, or under another id.
fn refuse_beside(beginning: &Beginning, running: &Running) -> StartError {
    let own = &beginning.identity;
    let founders = &beginning.initial.members;
    let founder = founders.iter().find(|member| member.id == own.member.0);
    let is_here = |member: &&Member| {
        let mut urls = founder.into_iter().flat_map(|founder| &founder.peer_urls);
        urls.any(|url| member.peer_urls.contains(url))
    };
    let (url, cluster) = (running.url.clone(), running.cluster);
    let is_own_name = |name: &str| founder.is_some_and(|own| own.name == name);
    match running.members.iter().find(is_here) {
        // Members that were added have no name before their first start.
        Some(added) if added.name.is_empty() => StartError::AddedBefore { url, cluster },
        Some(added) if !added.client_urls.is_empty() && is_own_name(&added.name) => {
            StartError::StartedBefore {
                member: MemberId(added.id),
            }
        }
        _ if cluster == own.cluster => StartError::RemovedBefore {
            url,
            member: own.member,
        },
        _ => StartError::OtherCluster {
            url,
            cluster,
            own: own.cluster,
        },
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_founds_no_cluster_beside_one_that_runs() {
        let member = |id, name: &str, port: u16, has_started: bool| Member {
            id,
            name: name.to_owned(),
            peer_urls: vec![format!("http://h:{port}")],
            client_urls: has_started.then(String::new).into_iter().collect(),
            ..Member::default()
        };
        let initial = InitialState {
            members: vec![member(5, "a", 5, false), member(6, "b", 6, false)],
            ..InitialState::default()
        };
        let own = Beginning::new(MemberId(5), ClusterId(7), initial);
        let running = |cluster, member| Running {
            url: "http://h:6".to_owned(),
            cluster: ClusterId(cluster),
            members: vec![member],
        };
        let same = running(7, member(5, "a", 5, false));
        let stranger = running(8, member(9, "z", 9, true));
        let table = [
            (vec![], ""),
            (vec![same.clone()], ""),
            (vec![stranger.clone()], "cluster ID mismatch"),
            (vec![stranger, same.clone()], ""),
            (
                vec![same, running(7, member(5, "a", 5, true))],
                "has already been bootstrapped",
            ),
            (vec![running(8, member(9, "a", 5, false))], "cluster ID mismatch"),
            (
                vec![running(7, member(5, "a", 5, true))],
                "has already been bootstrapped",
            ),
            (
                vec![running(8, member(9, "a", 5, true))],
                "has already been bootstrapped",
            ),
            (
                vec![running(8, member(9, "", 5, false))],
                "--initial-cluster-state existing, and not with new",
            ),
            (
                vec![running(7, member(9, "", 5, false))],
                "--initial-cluster-state existing, and not with new",
            ),
            (vec![running(7, member(6, "b", 6, true))], "permanently removed"),
        ];
        for (running, words) in table {
            match check_founder(&own, &running) {
                Ok(()) => assert_eq!(words, "", "{running:?}"),
                Err(error) => {
                    let text = error.to_string();
                    assert!(!words.is_empty() && text.contains(words), "{running:?}: {text}");
                }
            }
        }
    }
}
