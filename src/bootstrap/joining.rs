//! The first start of a member that was added to a running cluster: the others are asked who they are. It begins with an empty log
//! and no say in anything; its leader sends it everything.
//!
//! Mirrors the `existing` branch of etcd's server/etcdserver/bootstrap.go and `ValidateClusterAndAssignIDs` of
//! server/etcdserver/api/membership/cluster.go.

use super::running::{Question, Running};
use super::{Beginning, StartError};
use crate::cluster::{InitialCluster, MemberUrl, Resolved};
use crate::config;
use crate::discovery;
use crate::ids::MemberId;
use crate::proto::log::Member;
use crate::state::machine::InitialState;
use crate::tls::Connector;
use std::time::Duration;

/// A member that does not answer for so long is not waited for.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// The cluster has so long to agree on who its members are.
const AGREEMENT_TIMEOUT: Duration = Duration::from_secs(2);

/// Finds the running cluster that this member was added to. Members that lag behind may describe an older one, in which this member
/// may even be known under an id that was removed since. So what the cluster agrees on counts if it comes soon; a cluster that
/// waits for this member's vote agrees on nothing, and then what any of them says counts if it fits the flags.
pub(super) async fn join(
    config: &config::Server,
    listed: &InitialCluster,
    dialler: Option<&Connector>,
) -> Result<Beginning, StartError> {
    let others = listed.others(&config.name);
    let agreed = Question {
        dialler,
        linearizable: true,
        within: AGREEMENT_TIMEOUT,
        warns: true,
    };
    let mut answers = agreed.ask_all(&others).await;
    if answers.is_empty() {
        let of_any = Question {
            linearizable: false,
            within: ANSWER_TIMEOUT,
            ..agreed
        };
        answers = of_any.ask_all(&others).await;
    }
    let mut found = first_that_fits(config, listed, &answers, &Resolved::default());
    if let Err(StartError::NotOfCluster { .. }) = found {
        // Its members may name the same places differently.
        let known: Vec<MemberUrl> = answers
            .iter()
            .flat_map(|running| running.members.iter().flat_map(peer_urls))
            .collect();
        let listed_urls = listed.iter().flat_map(|(_, urls)| urls);
        if let Ok(resolved) = discovery::resolve(listed_urls.chain(&known)).await {
            found = first_that_fits(config, listed, &answers, &resolved);
        }
    }
    found
}

fn first_that_fits(
    config: &config::Server,
    listed: &InitialCluster,
    answers: &[Running],
    resolved: &Resolved,
) -> Result<Beginning, StartError> {
    let mut refusal = StartError::NoClusterInfo;
    for running in answers {
        match own_member(&config.name, listed, running, resolved) {
            Ok(member) => {
                let initial = InitialState {
                    members: running.members.clone(),
                    ..InitialState::default()
                };
                return Ok(Beginning::new(member, running.cluster, initial));
            }
            Err(error) => refusal = error,
        }
    }
    Err(refusal)
}

fn peer_urls(member: &Member) -> Vec<MemberUrl> {
    let urls = member.peer_urls.iter().map(|url| MemberUrl::parse(url));
    urls.filter_map(Result::ok).collect()
}

/// Which of the running cluster's members this one is. Every listed member must be one of them, by its URLs, and the other way
/// round.
fn own_member(
    name: &str,
    listed: &InitialCluster,
    running: &Running,
    resolved: &Resolved,
) -> Result<MemberId, StartError> {
    let refused = |reason: String| StartError::NotOfCluster {
        listed: listed.to_string(),
        reason,
    };
    if listed.len() != running.members.len() {
        let known = running.members.iter().map(|member| member.peer_urls.join(","));
        return Err(refused(format!(
            "member count is unequal: the running cluster has {}; has this member been added to it (member add), and does \
             --initial-cluster list all of its members?",
            known.collect::<Vec<_>>().join(" ")
        )));
    }
    let mut own = None;
    for member in &running.members {
        let urls = peer_urls(member);
        let is_listed = |(_, listed): &(&str, &[MemberUrl])| resolved.are_all_same(listed, &urls);
        match listed.iter().find(is_listed) {
            Some((found, _)) if found == name => own = Some(member),
            Some(_) => {}
            None => {
                let (id, urls) = (MemberId(member.id), &member.peer_urls);
                return Err(refused(format!(
                    "PeerURLs: no match found for existing member ({id}, {urls:?})"
                )));
            }
        }
    }
    let own = own.ok_or_else(|| refused(format!("none of the running cluster's members is {name}")))?;
    if !own.client_urls.is_empty() {
        return Err(StartError::StartedBefore {
            member: MemberId(own.id),
        });
    }
    Ok(MemberId(own.id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ClusterId;
    use crate::proto::log::Member;

    fn running(members: &[(u64, &str)]) -> Running {
        let member = |(id, url): &(u64, &str)| Member {
            id: *id,
            peer_urls: vec![(*url).to_owned()],
            ..Member::default()
        };
        Running {
            url: "http://h:1".to_owned(),
            cluster: ClusterId(7),
            members: members.iter().map(member).collect(),
        }
    }

    #[test]
    fn a_member_is_found_by_its_urls_and_only_in_the_cluster_that_is_listed() {
        let listed = InitialCluster::parse("a=http://h:1,b=http://h:2").expect("sound");
        let own = |name, members: &[(u64, &str)]| {
            own_member(name, &listed, &running(members), &Resolved::default())
        };
        let both = [(5, "http://h:1"), (6, "http://h:2")];
        assert_eq!(own("a", &both).expect("found"), MemberId(5));
        assert_eq!(own("b", &both).expect("found"), MemberId(6));
        for (members, reason) in [
            (&both[..1], "member count is unequal"),
            (&[both[0], (6, "http://h:3")][..], "no match found"),
            (
                &[both[0], both[0]][..],
                "none of the running cluster's members is b",
            ),
        ] {
            let error = own("b", members).expect_err("refused").to_string();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn a_member_that_has_started_does_not_start_anew_with_an_empty_disk() {
        let listed = InitialCluster::parse("a=http://h:1,b=http://h:2").expect("sound");
        let mut running = running(&[(5, "http://h:1"), (6, "http://h:2")]);
        running.members[1].client_urls = vec!["http://h:9".to_owned()];
        let error = own_member("b", &listed, &running, &Resolved::default()).expect_err("refused");
        assert!(matches!(error, StartError::StartedBefore { member: MemberId(6) }));
        assert!(own_member("a", &listed, &running, &Resolved::default()).is_ok());
    }
}
