//! Members that are cut off for a while, in an otherwise healthy cluster.

use super::{ELECTION_TIMEOUT, calm, everybody, follower};
use crate::checkers::{Violation, violation};
use crate::cluster::Cluster;
use crate::random::RandomStream;
use crate::world::elapsed;
use std::time::Duration;

/// A leader without a quorum steps down within this time: once per election timeout it checks whether it heard from a quorum
/// since the last check. Messages in flight count, and clocks may be slow.
const LEADS_ALONE_MAX: Duration = Duration::from_millis(2_300);

pub async fn follower_apart(cluster: &Cluster, random: &mut RandomStream) -> Result<(), Violation> {
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

pub async fn leader_apart(cluster: &Cluster) -> Result<(), Violation> {
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
