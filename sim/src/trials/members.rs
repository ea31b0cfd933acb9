//! Changes of the members that go wrong halfway.

use super::{all_but, answers, calm, everybody, follower, in_time, until};
use crate::checkers::{Violation, violation};
use crate::clients;
use crate::cluster::{Cluster, Trouble};
use crate::history::Input;
use crate::options::Options;
use crate::random::RandomStream;
use crate::rehearsal;
use crate::workloads::replacement;
use crate::world::elapsed;
use callboard::client::Client;
use callboard::proto::etcdserverpb::{
    Member, MemberAddRequest, MemberListRequest, MemberPromoteRequest, MemberRemoveRequest,
};
use std::rc::Rc;
use std::time::Duration;

/// No machine has this number.
const ABSENT: usize = 200;
/// Members must have been in reach for some seconds before a change.
const CHANGED_WITHIN: Duration = Duration::from_secs(40);
/// What the leader answers to a change that the cluster is not well enough for.
const REFUSALS: [&str; 2] = ["unhealthy cluster", "not enough started members"];

/// A voter is added and never starts. Clients are served as long as the others are a majority without it, no other voter is
/// added, and it can be removed again. A cluster of one is no majority of two: it goes on once it is forced to.
pub async fn newcomer_never_starts(cluster: &Rc<Cluster>) -> Result<(), Violation> {
    let (leader, _) = calm(cluster).await?;
    let client = clients::connect([leader], Duration::from_secs(5));
    let url = |number: usize| vec![cluster.peer_url(number)];
    let add = |number: usize| {
        client.member_add(MemberAddRequest {
            peer_ur_ls: url(number),
            is_learner: false,
        })
    };
    let find = |members: &[Member]| {
        let mut members = members.iter();
        let found = members.find(|member| member.peer_ur_ls == url(ABSENT));
        found.map(|member| member.id)
    };
    let add_absent = async || add(ABSENT).await.is_ok();
    changed("a member is added", &client, add_absent, |members| {
        find(members).is_some()
    })
    .await?;
    if cluster.members.len() == 1 {
        cluster.kill(leader).await;
        cluster.event(leader, "! forced", "the second member has never started");
        cluster.force(leader);
        if !until(CHANGED_WITHIN, || cluster.leader() == Some(leader)).await {
            return violation("a cluster of one whose second member never starts is forced, and not led");
        }
    } else {
        answers(cluster, leader, &Input::Put { key: 0 }).await?;
        match add(ABSENT + 1).await {
            Err(error) if REFUSALS.iter().any(|text| error.to_string().contains(text)) => {}
            other => {
                return violation(format!(
                    "one voter has not started, another one is added: {other:?}"
                ));
            }
        }
        let listed = client.member_list(MemberListRequest { linearizable: true }).await;
        let id = listed
            .ok()
            .and_then(|listed| find(&listed.members))
            .unwrap_or_default();
        let remove = async || client.member_remove(MemberRemoveRequest { id }).await.is_ok();
        changed("it is removed", &client, remove, |members| {
            find(members).is_none()
        })
        .await?;
    }
    answers(cluster, leader, &Input::Put { key: 0 }).await?;
    calm(cluster).await?;
    Ok(())
}

/// A learner is promoted while it hears nobody. It counts for the quorum from then on; the others go on without it, and it votes
/// once it hears of it.
pub async fn promoted_apart(
    cluster: &Rc<Cluster>,
    options: &Options,
    random: &mut RandomStream,
) -> Result<(), Violation> {
    let (leader, _) = calm(cluster).await?;
    let learner = follower(cluster, leader, random);
    let client = clients::connect([leader], Duration::from_secs(5));
    emptied(cluster, options, learner).await?;
    let joining = replacement::add_learner(cluster, options, learner);
    let id = in_time(CHANGED_WITHIN, "a learner joins", joining).await?;
    answers(cluster, leader, &Input::Put { key: 0 }).await?;
    cluster.cut_off(&[learner]);
    promoted("a learner that hears nobody is promoted", &client, id).await?;
    answers(cluster, leader, &Input::Put { key: 0 }).await?;
    cluster.mend_all(&everybody(cluster));
    cluster.end_trouble(learner);
    if !until(CHANGED_WITHIN, || !cluster.is_learner(learner)).await {
        let name = &cluster.members[learner].name;
        return violation(format!(
            "{name} was promoted, and has not heard of it within {CHANGED_WITHIN:?}"
        ));
    }
    calm(cluster).await?;
    Ok(())
}

/// A member is added while another one lags so far behind that it does not know the newcomer, and then the leader is gone: the
/// newcomer needs the vote of the member that does not know it.
pub async fn stranger_needs_a_vote(
    cluster: &Rc<Cluster>,
    options: &Options,
    random: &mut RandomStream,
) -> Result<(), Violation> {
    let (leader, _) = calm(cluster).await?;
    let newcomer = follower(cluster, leader, random);
    let lagging = all_but(cluster, &[leader, newcomer]);
    emptied(cluster, options, newcomer).await?;
    let listing = replacement::list(cluster, options, newcomer);
    let id = in_time(CHANGED_WITHIN, "it is added again", listing).await?;
    // The lagging member has the entry, which it had to confirm, and may not know that it is committed.
    cluster.cut_off(&lagging);
    let starting = replacement::start(cluster, options, newcomer, id);
    in_time(CHANGED_WITHIN, "a voter joins", starting).await?;
    cluster.end_trouble(newcomer);
    answers(cluster, leader, &Input::Put { key: 0 }).await?;
    cluster.kill(leader).await;
    cluster.mend_all(&everybody(cluster));
    if !until(CHANGED_WITHIN, || cluster.leads(newcomer)).await {
        let name = &cluster.members[newcomer].name;
        return violation(format!(
            "{name} was added and is furthest ahead, and does not lead within {CHANGED_WITHIN:?}"
        ));
    }
    answers(cluster, newcomer, &Input::Put { key: 0 }).await?;
    cluster.restart(leader);
    calm(cluster).await?;
    Ok(())
}

/// One of two members is removed. As soon as it has confirmed that, or has ended, its machine is gone for good, and the other one
/// loses power: that one must go on alone, and a learner joins it.
pub async fn removed_and_gone(
    cluster: &Rc<Cluster>,
    options: &Options,
    random: &mut RandomStream,
) -> Result<(), Violation> {
    let (leader, _) = calm(cluster).await?;
    let removed = follower(cluster, leader, random);
    let id = cluster.member_id(removed).unwrap_or_default();
    let client = clients::connect([removed], Duration::from_secs(5));
    let deadline = elapsed() + CHANGED_WITHIN;
    cluster.trouble(removed, Trouble::Replaced);
    // What the leader knows may be lost, so it is not asked.
    while !cluster.is_idle(removed) && client.member_remove(MemberRemoveRequest { id }).await.is_err() {
        if elapsed() > deadline {
            return violation(format!(
                "not within {CHANGED_WITHIN:?}: a member of two removes itself"
            ));
        }
        madsim::time::sleep(Duration::from_millis(200)).await;
    }
    take_power(cluster, leader, random).await;
    cluster.kill(removed).await;
    cluster.wipe(removed);
    leads_after_restart(cluster, leader).await?;
    answers(cluster, leader, &Input::Put { key: 0 }).await?;
    let joining = replacement::add_learner(cluster, options, removed);
    let id = in_time(CHANGED_WITHIN, "a learner joins", joining).await?;
    loses_power_with_each_term(cluster, leader, random).await?;
    let client = clients::connect([leader], Duration::from_secs(5));
    promoted("the learner is promoted", &client, id).await?;
    cluster.end_trouble(removed);
    calm(cluster).await?;
    Ok(())
}

/// The only voter leads before its term is on disk. It loses power about then, and leads again; the learner must not have heard of
/// what was lost.
async fn loses_power_with_each_term(
    cluster: &Rc<Cluster>,
    leader: usize,
    random: &mut RandomStream,
) -> Result<(), Violation> {
    // The term and what follows it take so long that the learner could hear of them before.
    callboard::env::set_disk_sync_us_max(400_000);
    for _ in 0..5 {
        take_power(cluster, leader, random).await;
        leads_after_restart(cluster, leader).await?;
        madsim::time::sleep(Duration::from_millis(random.between(0, 500))).await;
    }
    rehearsal::fair_weather();
    Ok(())
}

async fn take_power(cluster: &Rc<Cluster>, number: usize, random: &mut RandomStream) {
    if let Some(lost) = cluster.cut_power(number, random).await {
        cluster.note_lost(number, lost);
    }
}

/// Starts the only voter again.
async fn leads_after_restart(cluster: &Rc<Cluster>, number: usize) -> Result<(), Violation> {
    cluster.restart(number);
    if until(CHANGED_WITHIN, || cluster.leads(number)).await {
        return Ok(());
    }
    violation(format!(
        "{} is the only voter, and does not lead within {CHANGED_WITHIN:?}",
        cluster.members[number].name
    ))
}

/// Makes a learner a voter.
async fn promoted(what: &str, client: &Client, id: u64) -> Result<(), Violation> {
    let promote = async || client.member_promote(MemberPromoteRequest { id }).await.is_ok();
    let votes = |members: &[Member]| members.iter().any(|member| member.id == id && !member.is_learner);
    changed(what, client, promote, votes).await
}

/// Removes a member, and waits until it has ended and has an empty disk.
async fn emptied(cluster: &Rc<Cluster>, options: &Options, number: usize) -> Result<(), Violation> {
    let id = cluster.member_id(number).unwrap_or_default();
    cluster.trouble(number, Trouble::Replaced);
    let removing = replacement::remove(cluster, options, number, id);
    in_time(CHANGED_WITHIN, "a follower is removed", removing).await?;
    if !until(CHANGED_WITHIN, || cluster.is_idle(number)).await {
        let name = &cluster.members[number].name;
        return violation(format!(
            "{name} was removed, and has not ended within {CHANGED_WITHIN:?}"
        ));
    }
    cluster.wipe(number);
    Ok(())
}

/// Asks for a change until the members say that it is made, but not for ever.
async fn changed(
    what: &str,
    client: &Client,
    ask: impl AsyncFn() -> bool,
    is_made: impl Fn(&[Member]) -> bool,
) -> Result<(), Violation> {
    let deadline = elapsed() + CHANGED_WITHIN;
    while !ask().await {
        let listed = client.member_list(MemberListRequest { linearizable: true }).await;
        if listed.is_ok_and(|listed| is_made(&listed.members)) {
            break;
        }
        if elapsed() > deadline {
            return violation(format!("not within {CHANGED_WITHIN:?}: {what}"));
        }
        madsim::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}
