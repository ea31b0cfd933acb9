//! Links between members that bring things late, in a cluster that is well otherwise.

use super::{ELECTION_TIMEOUT, all_but, answers, calm, everybody, follower, until, write};
use crate::checkers::{Violation, violation};
use crate::cluster::Cluster;
use crate::faults::late_connection;
use crate::history::Input;
use crate::random::RandomStream;
use std::time::Duration;

/// A follower hears again within this time from a leader that it did not hear for a moment.
const HEARD_WITHIN: Duration = Duration::from_secs(10);
/// After so long a connection that was begun is there.
const CONNECTED_AFTER: Duration = Duration::from_millis(500);
/// How long a message takes from or to a leader that is far: longer, there and back, than a member waits before it asks for
/// a read index again, and not so long that anybody stands for election.
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

/// A write and a read of a follower's client are answered within the time that clients wait, and nobody is elected.
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
    // What was on its way is there.
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
