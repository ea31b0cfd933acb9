//! All members die, and one of them is forced to go on alone. It has everything that was acknowledged, whether it knew that or
//! not: a majority was not there without it. The others join it again, with empty disks.

use super::{all_but, answers, calm, everybody, follower, in_time, until};
use crate::checkers::{Violation, violation};
use crate::cluster::{Cluster, Trouble};
use crate::history::Input;
use crate::options::Options;
use crate::random::RandomStream;
use crate::workloads::replacement;
use std::rc::Rc;
use std::time::Duration;

/// A member that needs nobody serves within this time after its start.
const SERVES_WITHIN: Duration = Duration::from_secs(10);
/// The cluster must have been whole for some seconds before each addition.
const JOINED_WITHIN: Duration = Duration::from_secs(60);

pub async fn goes_on_alone(
    cluster: &Rc<Cluster>,
    options: &Options,
    random: &mut RandomStream,
) -> Result<(), Violation> {
    let (leader, _) = calm(cluster).await?;
    let survivor = follower(cluster, leader, random);
    let others = all_but(cluster, &[leader, survivor]);
    // No more than a majority is left, the survivor in it.
    let needed = cluster.members.len() / 2 + 1 - 2;
    cluster.cut_off(&others[needed..]);
    for _ in 0..=random.below(3) {
        answers(cluster, leader, &Input::Put { key: 0 }).await?;
    }
    for number in [leader].into_iter().chain(others).chain([survivor]) {
        cluster.kill(number).await;
    }
    cluster.mend_all(&everybody(cluster));
    cluster.event(survivor, "! forced", "the others are gone");
    cluster.force(survivor);
    if !until(SERVES_WITHIN, || cluster.leader() == Some(survivor)).await {
        let name = &cluster.members[survivor].name;
        return violation(format!(
            "{name} was forced, and does not lead within {SERVES_WITHIN:?}"
        ));
    }
    let read = Input::Get {
        key: 0,
        serializable: false,
    };
    answers(cluster, survivor, &read).await?;
    let mut joined = vec![survivor];
    for number in all_but(cluster, &[survivor]) {
        joined.push(number);
        cluster.trouble(number, Trouble::Replaced);
        cluster.wipe(number);
        cluster.list_joined(number, &joined);
        let joins = format!("{} joins", cluster.members[number].name);
        in_time(JOINED_WITHIN, &joins, replacement::add(cluster, options, number)).await?;
        cluster.end_trouble(number);
        cluster.list_joined(number, &[]);
    }
    calm(cluster).await?;
    Ok(())
}
