//! Members that come, learn, vote and go, as operators do it with etcdctl.

use crate::membership::{id, status};
use crate::support::cluster::{Cluster, Member};
use crate::support::{self, etcdctl, poll};
use std::time::Duration;

const SETTLE_LIMIT: Duration = Duration::from_secs(20);
/// Members must have been in reach for five seconds before the cluster changes.
const CHANGE_LIMIT: Duration = Duration::from_secs(30);

const REMOVED: &str = "the member has been permanently removed from the cluster";

/// Repeats a change until the cluster is well enough for it; gives what etcdctl printed.
fn change(member: &Member, words: &[&str]) -> String {
    let look = || {
        let ended = etcdctl::run(member.client, words, b"");
        match ended.code {
            0 => Ok(ended.text()),
            _ => Err(ended.text()),
        }
    };
    poll::until(CHANGE_LIMIT, look).expect("the change is made")
}

fn peer_url(member: &Member) -> String {
    format!("http://{}", member.peer)
}

/// Has a member join what `cluster` lists when it starts with an empty directory.
fn let_join(member: &mut Member) {
    let place = member.arguments.iter().position(|argument| argument == "new");
    member.arguments[place.expect("--initial-cluster-state new")] = "existing".into();
}

#[test]
fn a_removed_member_ends_and_comes_back_under_another_id() {
    let mut cluster = Cluster::start(&support::callboard_bin(), 3);
    let mut removed = cluster.members.pop().expect("three members");
    let first = &cluster.members[0];
    let old = format!("{:x}", id(&removed));
    etcdctl::stdout(first.client, &["put", "key", "value"]);
    change(first, &["member", "remove", &old]);
    let ended = removed.wait_for_end();
    assert!(ended.success(), "nothing is to be started again: {ended}");
    assert!(removed.log_text().contains(REMOVED), "{}", removed.log_text());

    // With its old directory it is refused, whatever its flags say.
    let refused = crate::run_to_exit(&removed);
    assert!(refused.text().contains(REMOVED), "{}", refused.text());
    // An empty one has to be added first.
    std::fs::remove_dir_all(&removed.data_dir).expect("removed");
    let_join(&mut removed);
    let refused = crate::run_to_exit(&removed);
    crate::assert_refused(&refused, &["member count is unequal"]);

    let url = peer_url(&removed);
    let added = change(first, &["member", "add", &removed.name, "--peer-urls", &url]);
    assert!(
        added.contains("ETCD_INITIAL_CLUSTER_STATE=\"existing\""),
        "{added}"
    );
    removed.start_ready();
    let new = format!("{:x}", id(&removed));
    assert_ne!(old, new);
    let get = ["get", "key", "--print-value-only"];
    assert_eq!(etcdctl::stdout(removed.client, &get).trim(), "value");
    let unknown = etcdctl::run(first.client, &["member", "remove", &old], b"");
    assert!(
        unknown.text().contains("etcdserver: member not found"),
        "{}",
        unknown.text()
    );
    cluster.members.push(removed);
}

/// A member that is to be added to a cluster of one.
fn second_of(first: &Member, other: &mut Cluster) -> Member {
    let mut second = other.members.pop().expect("one member");
    "m2".clone_into(&mut second.name);
    let both = format!("{}={},m2={}", first.name, peer_url(first), peer_url(&second));
    second.arguments = support::cluster::arguments(&second, &both, "callboard-test");
    let_join(&mut second);
    second
}

#[test]
fn a_learner_asks_for_its_vote_where_it_is_told_to() {
    let mut cluster = Cluster::start(&support::callboard_bin(), 1);
    let first = cluster.members.pop().expect("one member");
    let mut other = Cluster::prepare(&first.program, &support::ports::free(2), &[]);
    let mut second = second_of(&first, &mut other);
    second.arguments.push("--auto-promote".into());
    let url = peer_url(&second);
    change(&first, &["member", "add", "m2", "--learner", "--peer-urls", &url]);
    second.start_ready();
    let look = || match status(&second)["isLearner"].as_bool() {
        Some(true) => Err("it is a learner"),
        _ => Ok(()),
    };
    poll::until(SETTLE_LIMIT, look).expect("it votes");
}

#[test]
fn a_learner_joins_and_is_promoted_and_a_leader_removes_itself() {
    let mut cluster = Cluster::start(&support::callboard_bin(), 1);
    let mut first = cluster.members.pop().expect("one member");
    let mut other = Cluster::prepare(&first.program, &support::ports::free(2), &[]);
    let mut second = second_of(&first, &mut other);

    etcdctl::stdout(first.client, &["put", "key", "value"]);
    let url = peer_url(&second);
    change(&first, &["member", "add", "m2", "--learner", "--peer-urls", &url]);
    second.start();
    let serializable = ["get", "key", "--consistency=s", "--print-value-only"];
    let look = || match etcdctl::run(second.client, &serializable, b"").text().trim() {
        "value" => Ok(()),
        other => Err(other.to_owned()),
    };
    poll::until(SETTLE_LIMIT, look).expect("a learner has what the others have");
    let refused = etcdctl::run(second.client, &["get", "key"], b"");
    assert!(
        refused
            .text()
            .contains("etcdserver: rpc not supported for learner"),
        "{}",
        refused.text()
    );
    let learner = format!("{:x}", id(&second));
    change(&first, &["member", "promote", &learner]);
    assert_eq!(
        etcdctl::stdout(second.client, &["get", "key", "--print-value-only"]).trim(),
        "value"
    );

    let own = format!("{:x}", id(&first));
    change(&first, &["member", "remove", &own]);
    first.wait_for_end();
    let put = || match etcdctl::run(second.client, &["put", "key", "alone"], b"") {
        ended if ended.code == 0 => Ok(()),
        ended => Err(ended.text()),
    };
    poll::until(SETTLE_LIMIT, put).expect("who is left goes on");
    let last = format!("{:x}", id(&second));
    let refused = etcdctl::run(second.client, &["member", "remove", &last], b"");
    assert!(
        refused
            .text()
            .contains("re-configuration failed due to not enough started members"),
        "{}",
        refused.text()
    );
}
