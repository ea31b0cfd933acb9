//! Links between members with late delivery, in an otherwise healthy cluster.

use super::{ELECTION_TIMEOUT, all_but, answers, calm, everybody, follower, until, write};
use crate::checkers::{Violation, violation};
use crate::cluster::Cluster;
use crate::faults::late_connection;
use crate::history::Input;
use crate::random::RandomStream;
use std::time::Duration;

/// A follower hears from its leader again within this time after a short interruption.
const HEARD_WITHIN: Duration = Duration::from_secs(10);
/// After this time, a connection that was begun is established.
const CONNECTED_AFTER: Duration = Duration::from_millis(500);
/// The latency to and from a distant leader, each way: the round trip is longer than a member waits before it asks for a read
/// index again, and shorter than an election timeout.
const FAR_MS: (u64, u64) = (255, 300);

pub async fn connection_comes_late(cluster: &Cluster, random: &mut RandomStream) -> Result<(), Violation> {
    let (leader, _) = calm(cluster).await?;
    let hearer = follower(cluster, leader, random);
    late_connection::open(cluster, leader, hearer);
    madsim::time::sleep(CONNECTED_AFTER).await;
    write(cluster, leader, &everybody(cluster), 1).await?;
    let commit = cluster.standing(leader).commit;
    if until(HEARD_WITHIN, || cluster.standing(hearer).applied >= commit).await {
        return Ok(());
    }
    violation(format!(
        "{} does not hear its leader, {}, for {HEARD_WITHIN:?}",
        cluster.members[hearer].name, cluster.members[leader].name
    ))
}

/// A write and a read of a follower's client are answered within the time that clients wait, and there is no election.
pub async fn leader_is_far(cluster: &Cluster, random: &mut RandomStream) -> Result<(), Violation> {
    let (leader, term) = calm(cluster).await?;
    let via = follower(cluster, leader, random);
    let delay = Duration::from_millis(random.between(FAR_MS.0, FAR_MS.1));
    let note = format!("{} ms each way", delay.as_millis());
    cluster.event(leader, "! far from all others", &note);
    for other in all_but(cluster, &[leader]) {
        cluster.delay(leader, other, delay);
        cluster.delay(other, leader, delay);
    }
    // Messages in flight have arrived.
    madsim::time::sleep(ELECTION_TIMEOUT).await;
    write(cluster, via, &everybody(cluster), 1).await?;
    let get = Input::Get {
        key: 0,
        serializable: false,
    };
    answers(cluster, via, &get).await?;
    let own = cluster.standing(leader).term;
    cluster.mend_all(&everybody(cluster));
    cluster.event(leader, "near again", "");
    if own != term {
        return violation(format!(
            "{} led in term {term}, and its term is {own} after its links took {delay:?} each way",
            cluster.members[leader].name
        ));
    }
    Ok(())
}
