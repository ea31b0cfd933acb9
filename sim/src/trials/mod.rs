//! Trials of a healthy cluster, one after another, each with a leader that nothing else disturbs. They find bugs that elections
//! in the safety phase would hide.
//!
//! | action | expected result |
//! |---|---|
//! | a follower is cut off for a while | its term stays, and the leader stays when the follower is back |
//! | the leader is cut off | it considers itself the leader for at most two election timeouts |
//! | clients keep a leader's admission full while a lease expires | the lease is revoked in time |
//! | a connection that the leader gave up reaches a follower after the newer one | the follower still hears the leader |
//! | round trips to the leader take a little less than an election timeout | a follower's clients get replies; the leader stays |
//! | a voter is added that never starts | see `members` |
//! | a learner is promoted while it is cut off | the others go on, and it votes once it hears of it |
//! | the leader is gone, and only the vote of a member that has not heard of a newcomer is left | the newcomer leads |
//! | one of two members is removed and gone at once, and the other one loses power | it leads alone, and a learner joins it |
//! | all members die, and one is forced to go on alone | it has every acknowledged write, and the others join it |
//! | the transfer of a snapshot is disturbed, in four ways | see `transfer` |

mod elections;
mod lease;
mod links;
mod members;
mod survivor;
mod transfer;

use crate::checkers::{Violation, space, violation};
use crate::clients;
use crate::cluster::Cluster;
use crate::history::{Input, Outcome};
use crate::options::Options;
use crate::random::RandomStream;
use crate::rehearsal::DIRECTOR;
use crate::workloads::{self, quota};
use crate::world::elapsed;
use std::rc::Rc;
use std::time::Duration;

/// The percentage of seeds that make each trial.
const PERCENT: u64 = 35;
/// Membership changes take long.
const MEMBERS_PERCENT: u64 = 10;
/// Few seeds have two members.
const REMOVED_PERCENT: u64 = 50;
/// Few seeds have logs that are short enough for this trial.
const TRANSFER_PERCENT: u64 = 90;
/// The members' election timeout, which is etcd's default.
const ELECTION_TIMEOUT: Duration = Duration::from_secs(1);
/// A cluster that serves replies within this time.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);
/// A healthy cluster settles within this time.
const CALM_MAX: Duration = Duration::from_secs(30);

/// Makes the trials of this seed.
pub async fn play(cluster: &Rc<Cluster>, options: &Options) -> Result<(), Violation> {
    let members = options.members;
    let drawn = |name: &str, percent: u64| {
        let mut random = RandomStream::of(options.seed, name);
        random.chance(percent).then_some(random)
    };
    let count = |name| cluster.world.count(name, 1);
    if drawn("trial: lease ends under load", PERCENT).is_some() && lease::ends_under_load(cluster).await? {
        count("trial: lease ends under load");
    }
    if let Some(mut random) = drawn("trial: late connection", PERCENT)
        && members >= 2
    {
        links::connection_comes_late(cluster, &mut random).await?;
        count("trial: late connection");
    }
    if let Some(mut random) = drawn("trial: slow links", PERCENT)
        && members >= 2
    {
        links::leader_is_far(cluster, &mut random).await?;
        count("trial: slow links");
    }
    if let Some(mut random) = drawn("trial: follower apart", PERCENT)
        && members >= 3
    {
        elections::follower_apart(cluster, &mut random).await?;
        count("trial: follower apart");
    }
    if drawn("trial: leader apart", PERCENT).is_some() && members >= 2 {
        elections::leader_apart(cluster).await?;
        count("trial: leader apart");
    }
    if drawn("trial: newcomer never starts", MEMBERS_PERCENT).is_some() {
        members::newcomer_never_starts(cluster).await?;
        count("trial: newcomer never starts");
    }
    if let Some(mut random) = drawn("trial: promoted apart", MEMBERS_PERCENT)
        && members >= 3
    {
        members::promoted_apart(cluster, options, &mut random).await?;
        count("trial: promoted apart");
    }
    if let Some(mut random) = drawn("trial: stranger needs a vote", MEMBERS_PERCENT)
        && members == 3
    {
        members::stranger_needs_a_vote(cluster, options, &mut random).await?;
        count("trial: stranger needs a vote");
    }
    if let Some(mut random) = drawn("trial: removed and gone", REMOVED_PERCENT)
        && members == 2
    {
        members::removed_and_gone(cluster, options, &mut random).await?;
        count("trial: removed and gone");
    }
    if let Some(mut random) = drawn("trial: survivor", MEMBERS_PERCENT)
        && members >= 2
    {
        survivor::goes_on_alone(cluster, options, &mut random).await?;
        count("trial: survivor");
    }
    if let Some(random) = drawn("trial: transfer", TRANSFER_PERCENT)
        && let Some(trial) = transfer::Trial::of(options, random)
        && let Some(disturbed) = trial.play(cluster).await?
    {
        count(disturbed);
    }
    Ok(())
}

/// Waits for a leader that all members follow, and returns it with its term.
async fn calm(cluster: &Cluster) -> Result<(usize, u64), Violation> {
    let deadline = elapsed() + CALM_MAX;
    let mut since = elapsed();
    let mut last = None;
    loop {
        let terms: Vec<u64> = (0..cluster.members.len())
            .map(|number| cluster.standing(number).term)
            .collect();
        let now = cluster
            .leader()
            .filter(|_| terms.iter().all(|term| *term == terms[0]))
            .map(|leader| (leader, terms[0]));
        if now != last {
            (since, last) = (elapsed(), now);
        }
        if let Some(found) = now.filter(|_| elapsed() - since > 2 * ELECTION_TIMEOUT) {
            return Ok(found);
        }
        if elapsed() > deadline {
            return violation(format!(
                "a healthy cluster does not agree on a leader within {CALM_MAX:?}: terms {terms:?}"
            ));
        }
        madsim::time::sleep(Duration::from_millis(50)).await;
    }
}

fn everybody(cluster: &Cluster) -> Vec<usize> {
    (0..cluster.members.len()).collect()
}

/// Any member except the leader.
fn follower(cluster: &Cluster, leader: usize, random: &mut RandomStream) -> usize {
    *random.pick(&all_but(cluster, &[leader]))
}

/// Waits until a condition holds, for a bounded time; whether it does.
async fn until(limit: Duration, holds: impl Fn() -> bool) -> bool {
    let deadline = elapsed() + limit;
    while !holds() {
        if elapsed() > deadline {
            return false;
        }
        madsim::time::sleep(Duration::from_millis(1)).await;
    }
    true
}

/// Waits for a step to end, but not for ever.
async fn in_time<T>(limit: Duration, what: &str, step: impl Future<Output = T>) -> Result<T, Violation> {
    match madsim::time::timeout(limit, step).await {
        Ok(done) => Ok(done),
        Err(_) => violation(format!("not within {limit:?}: {what}")),
    }
}

/// All but these.
fn all_but(cluster: &Cluster, apart: &[usize]) -> Vec<usize> {
    let mut others = everybody(cluster);
    others.retain(|number| !apart.contains(number));
    others
}

/// Writes this many entries while only these members run. If the quota is smaller than that, frees space as an operator would.
async fn write(cluster: &Cluster, via: usize, there: &[usize], entries: u64) -> Result<(), Violation> {
    let mut written = 0;
    while written < entries {
        let refused = answers(cluster, via, &Input::Put { key: 0 }).await?;
        if refused {
            quota::settle(cluster, &cluster.world, there).await?;
        } else {
            written += 1;
        }
    }
    Ok(())
}

/// Sends a request to one member, which must reply in time. True if the reply is a refusal for lack of space.
async fn answers(cluster: &Cluster, via: usize, input: &Input) -> Result<bool, Violation> {
    let client = clients::connect([via], ANSWERED_WITHIN);
    let (id, outcome) = workloads::carry_out(&cluster.world, DIRECTOR, &client, input).await;
    match outcome {
        Outcome::Answered(_) => Ok(false),
        refused if space::is_refusal(&refused) => Ok(true),
        Outcome::Refused(reason) | Outcome::Unknown(reason) => violation(format!(
            "operation {id} of a healthy cluster was not answered by {}: {reason}",
            cluster.members[via].name
        )),
    }
}
