//! Trials of a cluster that is well, one after another, each with a leader that nothing else disturbs: what elections in the
//! safety phase would put right before anybody could see that it was wrong.
//!
//! | what is done | what must be true |
//! |---|---|
//! | a follower hears nobody for a while | its term stays, and so does the leader when it is back |
//! | the leader hears nobody | it does not take itself for the leader for longer than two election timeouts |
//! | clients keep a leader's admission full while a lease ends | the lease goes in time |
//! | a connection that the leader had given up reaches a follower behind the one that they use | the follower goes on hearing the leader |
//! | a member dies while it is brought a snapshot, and the sender gives up | it is brought another once it is back |
//! | a member is cut off while it is brought a snapshot, until both ends notice | the transfer is resumed, and what arrives is whole |

use crate::checkers::{Violation, space, violation};
use crate::cluster::Cluster;
use crate::company;
use crate::faults::late_connection;
use crate::history::{Input, Outcome};
use crate::options::Options;
use crate::random::Stream;
use crate::rehearsal::DIRECTOR;
use crate::workloads::{self, quota};
use crate::world::elapsed;
use callboard::client::Client;
use callboard::limits::{self, Sizes};
use callboard::proto::etcdserverpb::{LeaseGrantRequest, LeaseRevokeRequest};
use std::cell::Cell;
use std::time::Duration;

/// Of a hundred seeds, how many make each trial.
const PERCENT: u64 = 35;
/// Few seeds have logs that are short enough for this one.
const TRANSFER_PERCENT: u64 = 70;
/// The members' election timeout, which is etcd's default.
const ELECTION_TIMEOUT: Duration = Duration::from_secs(1);
/// A leader that hears from no quorum steps down within this time: it looks once in an election timeout whether it heard of
/// a quorum since the last look. What was on its way counts, and so do clocks that are slow.
const LEADS_ALONE_MAX: Duration = Duration::from_millis(2_300);
/// A healthy cluster comes to rest within this time.
const CALM_MAX: Duration = Duration::from_secs(30);
/// Everything that a sender of snapshots tries takes no longer than this, if the receiver's machine says that nobody listens.
const GIVEN_UP_MAX: Duration = Duration::from_secs(60);
/// Entries that are written to have logs cut. Where that takes more, the trial is left out.
const ENTRIES_MAX: u64 = 150;
/// After this long both ends of a transfer have noticed that nothing comes, and what has arrived is kept.
const NOTICED_MAX: Duration = Duration::from_secs(16);
/// What is cut off at all is cut off within this time.
const CUT_WITHIN: Duration = Duration::from_secs(10);
/// A transfer may be over before it can be disturbed.
const ATTEMPTS_MAX: u64 = 3;

/// A follower hears again within this time from a leader that it did not hear for a moment.
const HEARD_WITHIN: Duration = Duration::from_secs(10);
/// After so long a connection that was begun is there.
const CONNECTED_AFTER: Duration = Duration::from_millis(500);

/// A lease of this trial, which nothing is bound to, and one that nobody is ever granted.
const TRIAL_LEASE: i64 = 0x7472_6961_6c00;
const NO_LEASE: i64 = TRIAL_LEASE + 1;
/// How long it lives: no less is granted.
const TRIAL_TTL_S: i64 = 2;
/// What has expired goes within this time where there is a leader: it looks every 100 ms, and disks and links are slow. A
/// leader that is refused tries again only after longer.
const EXPIRES_WITHIN: Duration = Duration::from_millis(2_500);

/// Makes the trials of this seed.
pub async fn play(cluster: &Cluster, options: &Options) -> Result<(), Violation> {
    let mut random = Stream::of(options.seed, "trials");
    let trials = [
        random.chance(PERCENT),
        random.chance(PERCENT),
        random.chance(TRANSFER_PERCENT),
        Stream::of(options.seed, "trial of a lease").chance(PERCENT),
    ];
    let [follower, leader, transfer, lease] = trials;
    if lease {
        lease_ends_under_load(cluster).await?;
    }
    if Stream::of(options.seed, "trial of a connection").chance(PERCENT) && options.members >= 2 {
        connection_comes_late(cluster, &mut random).await?;
        cluster.world.count("trial: late connection", 1);
    }
    if follower && options.members >= 3 {
        follower_apart(cluster, &mut random).await?;
        cluster.world.count("trial: follower apart", 1);
    }
    if leader && options.members >= 2 {
        leader_apart(cluster).await?;
        cluster.world.count("trial: leader apart", 1);
    }
    let entries = 2 * options.snapshot_count + options.catch_up_entries;
    if transfer && options.members >= 3 && entries <= ENTRIES_MAX {
        let end = if random.chance(50) {
            Transfer::Fails
        } else {
            Transfer::Resumes
        };
        disturb_transfer(cluster, end, entries, &mut random).await?;
    }
    Ok(())
}

/// A leader whom all follow, and its term.
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

/// Anybody but the leader.
fn follower(cluster: &Cluster, leader: usize, random: &mut Stream) -> usize {
    let others: Vec<usize> = (0..cluster.members.len())
        .filter(|number| *number != leader)
        .collect();
    *random.pick(&others)
}

async fn connection_comes_late(cluster: &Cluster, random: &mut Stream) -> Result<(), Violation> {
    let (leader, _) = calm(cluster).await?;
    let hearer = follower(cluster, leader, random);
    late_connection::open(cluster, leader, hearer);
    madsim::time::sleep(CONNECTED_AFTER).await;
    write(cluster, leader, usize::MAX, 1).await?;
    let commit = cluster.standing(leader).commit;
    if until(HEARD_WITHIN, || cluster.standing(hearer).applied >= commit).await {
        return Ok(());
    }
    violation(format!(
        "{} does not hear its leader, {}, for {HEARD_WITHIN:?}",
        cluster.members[hearer].name, cluster.members[leader].name
    ))
}

async fn follower_apart(cluster: &Cluster, random: &mut Stream) -> Result<(), Violation> {
    let (leader, term) = calm(cluster).await?;
    let apart = follower(cluster, leader, random);
    let name = &cluster.members[apart].name;
    cluster.event(apart, "! cut off from all others", "");
    cluster.cut_off(&[apart]);
    let until = elapsed() + Duration::from_millis(random.between(3_000, 8_000));
    while elapsed() < until {
        let own = cluster.standing(apart).term;
        if own != term {
            return violation(format!(
                "{name} hears from nobody, and its term went from {term} to {own}"
            ));
        }
        madsim::time::sleep(Duration::from_millis(50)).await;
    }
    cluster.mend_all(&everybody(cluster));
    cluster.event(apart, "heard again", "");
    let until = elapsed() + 3 * ELECTION_TIMEOUT;
    while elapsed() < until {
        let standing = cluster.standing(leader);
        if !cluster.leads(leader) || standing.term != term {
            return violation(format!(
                "{} led in term {term} and was deposed when {name} was back: its term is {} now",
                cluster.members[leader].name, standing.term
            ));
        }
        madsim::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

async fn leader_apart(cluster: &Cluster) -> Result<(), Violation> {
    let (leader, term) = calm(cluster).await?;
    let name = &cluster.members[leader].name;
    cluster.event(leader, "! cut off from all others", "");
    cluster.cut_off(&[leader]);
    let deadline = elapsed() + LEADS_ALONE_MAX;
    while cluster.leads(leader) {
        if elapsed() > deadline {
            return violation(format!(
                "{name} hears from no quorum, and still takes itself for the leader of term {term} after \
                 {LEADS_ALONE_MAX:?}"
            ));
        }
        madsim::time::sleep(Duration::from_millis(20)).await;
    }
    cluster.mend_all(&everybody(cluster));
    cluster.event(leader, "heard again", "");
    calm(cluster).await?;
    Ok(())
}

async fn lease_ends_under_load(cluster: &Cluster) -> Result<(), Violation> {
    let (leader, term) = calm(cluster).await?;
    let clients = [0, 1, 2].map(|_| company::connect([leader], Duration::from_secs(5)));
    let lease = LeaseGrantRequest {
        id: TRIAL_LEASE,
        ttl: TRIAL_TTL_S,
    };
    // Refused under an alarm: then there is nothing to see.
    if clients[0].lease_grant(lease).await.is_err() {
        return Ok(());
    }
    let usual = limits::sizes();
    limits::set_sizes(Sizes {
        proposals_waiting_max: 1,
        ..usual
    });
    let stop = Cell::new(false);
    let watch = async {
        let is_gone = || {
            let views = cluster.views(leader);
            views.is_some_and(|views| {
                let view = views.load();
                view.leases().flatten().all(|(id, _)| id != TRIAL_LEASE)
            })
        };
        let gone = until(Duration::from_secs(TRIAL_TTL_S as u64) + EXPIRES_WITHIN, is_gone).await;
        stop.set(true);
        gone
    };
    let (gone, one, two, three) = tokio::join!(
        watch,
        crowd(&clients[0], &stop),
        crowd(&clients[1], &stop),
        crowd(&clients[2], &stop)
    );
    limits::set_sizes(usual);
    if !cluster.leads(leader) || cluster.standing(leader).term != term {
        return Ok(());
    }
    if !gone {
        return violation(format!(
            "a lease of {TRIAL_TTL_S} s did not go within {EXPIRES_WITHIN:?} after its time, while its leader's clients \
             were busy"
        ));
    }
    if one + two + three > 0 {
        cluster.world.count("trial: lease ends under load", 1);
    }
    Ok(())
}

/// One command after the other, none of which changes anything; how many were refused for there being too many.
async fn crowd(client: &Client, stop: &Cell<bool>) -> u64 {
    let mut refused = 0;
    while !stop.get() {
        let answer = client.lease_revoke(LeaseRevokeRequest { id: NO_LEASE }).await;
        refused += u64::from(answer.is_err_and(|error| error.to_string().contains("too many requests")));
    }
    refused
}

/// How a transfer is disturbed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transfer {
    /// The receiver dies.
    Fails,
    /// The receiver is cut off.
    Resumes,
}

impl Transfer {
    const fn counter(self) -> &'static str {
        match self {
            Self::Fails => "trial: transfer fails",
            Self::Resumes => "trial: transfer resumes",
        }
    }
}

async fn disturb_transfer(
    cluster: &Cluster,
    end: Transfer,
    entries: u64,
    random: &mut Stream,
) -> Result<(), Violation> {
    let world = &cluster.world;
    for _ in 0..ATTEMPTS_MAX {
        let (leader, _) = calm(cluster).await?;
        let victim = follower(cluster, leader, random);
        let lags_at = cluster.standing(victim).applied;
        cluster.event(victim, "! killed, to lag", "");
        cluster.kill(victim).await;
        write(cluster, leader, victim, entries + random.between(5, 20)).await?;
        // How many entries that makes, and when they are cut off, is the leader's to decide.
        let is_cut = || {
            let log = cluster.log(leader).map(|(log, _)| log.begins_behind());
            log.is_some_and(|cut| cut.is_ok_and(|cut| cut.index.0 > lags_at))
        };
        if !until(CUT_WITHIN, is_cut).await {
            cluster.restart(victim);
            continue;
        }
        let begun = world.messages("receiving a snapshot");
        let failed = world.messages("failed to send a snapshot");
        let resumed = world.messages("sending the snapshot goes on");
        cluster.restart(victim);
        let begins = until(GIVEN_UP_MAX, || world.messages("receiving a snapshot") > begun).await;
        if !begins {
            return violation(format!(
                "{} lacks what the others have cut off, and is not brought a snapshot within {GIVEN_UP_MAX:?}",
                cluster.members[victim].name
            ));
        }
        let disturbed = match end {
            Transfer::Fails => {
                cluster.event(victim, "! killed in mid-transfer", "");
                cluster.kill(victim).await;
                let given_up = || world.messages("failed to send a snapshot") > failed;
                let given_up = until(GIVEN_UP_MAX, given_up).await;
                cluster.restart(victim);
                cluster.event(victim, "restart", "");
                given_up
            }
            Transfer::Resumes => {
                madsim::time::sleep(Duration::from_millis(random.between(0, 40))).await;
                cluster.event(victim, "! cut off in mid-transfer", "");
                cluster.cut_off(&[victim]);
                madsim::time::sleep(NOTICED_MAX).await;
                cluster.mend_all(&everybody(cluster));
                cluster.event(victim, "heard again", "");
                world.messages("sending the snapshot goes on") > resumed
            }
        };
        let applied = cluster.standing(leader).applied;
        if !until(GIVEN_UP_MAX, || cluster.standing(victim).applied >= applied).await {
            return violation(format!(
                "{} did not get the snapshot that it was sent, and is not brought another within {GIVEN_UP_MAX:?}",
                cluster.members[victim].name
            ));
        }
        if disturbed {
            world.count(end.counter(), 1);
            return Ok(());
        }
    }
    Ok(())
}

/// Waits until something holds, but not for ever; whether it does.
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

/// Has so many entries written while one member is away. Where the quota is smaller than that, space is freed as an operator
/// would.
async fn write(cluster: &Cluster, leader: usize, away: usize, entries: u64) -> Result<(), Violation> {
    let client = company::connect([leader], Duration::from_secs(5));
    let there: Vec<usize> = everybody(cluster)
        .into_iter()
        .filter(|number| *number != away)
        .collect();
    let mut written = 0;
    while written < entries {
        let put = Input::Put { key: 0 };
        let (id, outcome) = workloads::carry_out(&cluster.world, DIRECTOR, &client, &put).await;
        match outcome {
            Outcome::Answered(_) => written += 1,
            refused if space::is_refusal(&refused) => {
                quota::settle(cluster, &cluster.world, &there).await?;
            }
            Outcome::Refused(reason) | Outcome::Unknown(reason) => {
                return violation(format!(
                    "operation {id} of a healthy cluster was not answered: {reason}"
                ));
            }
        }
    }
    Ok(())
}
