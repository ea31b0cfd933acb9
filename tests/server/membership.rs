//! Who leads, and where members are, as operators change it with etcdctl.

use crate::support::cluster::{Cluster, Member};
use crate::support::{self, etcdctl, poll, ports};
use serde_json::Value;
use std::time::Duration;

const SETTLE_LIMIT: Duration = Duration::from_secs(20);

/// What a member says of itself.
pub fn status(member: &Member) -> Value {
    let text = etcdctl::stdout(member.client, &["endpoint", "status", "-w", "json"]);
    let all: Value = serde_json::from_str(&text).expect("JSON");
    all[0]["Status"].clone()
}

pub fn id(member: &Member) -> u64 {
    status(member)["header"]["member_id"].as_u64().expect("a number")
}

fn leader(member: &Member) -> u64 {
    status(member)["leader"].as_u64().expect("a number")
}

#[test]
fn leadership_is_moved() {
    let cluster = Cluster::start(&support::callboard_bin(), 3);
    let first = leader(&cluster.members[0]);
    let (leading, others): (Vec<_>, Vec<_>) = cluster.members.iter().partition(|member| id(member) == first);
    let target = format!("{:x}", id(others[0]));
    let refused = etcdctl::run(others[0].client, &["move-leader", &target], b"");
    assert_ne!(
        refused.code, 0,
        "etcdctl looks for the leader among its endpoints"
    );
    let unknown = etcdctl::run(leading[0].client, &["move-leader", "1234"], b"");
    assert!(
        unknown.text().contains("bad leader transferee"),
        "{}",
        unknown.text()
    );
    let moved = etcdctl::stdout(leading[0].client, &["move-leader", &target]);
    assert_eq!(
        moved.trim(),
        format!("Leadership transferred from {first:x} to {target}")
    );
    for member in &cluster.members {
        let look = || match leader(member) {
            leader if leader == id(others[0]) => Ok(()),
            leader => Err(format!("{leader:x} leads")),
        };
        poll::until(SETTLE_LIMIT, look).expect("all learn of it");
    }
}

#[test]
fn a_member_that_has_moved_is_found_once_its_new_place_is_said() {
    let mut cluster = Cluster::start(&support::callboard_bin(), 3);
    let mut moved = cluster.members.pop().expect("three members");
    let (first, moved_id) = (cluster.members[0].client, format!("{:x}", id(&moved)));
    let [port] = ports::free(1)[..] else {
        panic!("one port");
    };
    let place = format!("http://127.0.0.1:{port}");
    let taken = format!("http://{}", cluster.members[1].peer);
    let refused = etcdctl::run(
        first,
        &["member", "update", &moved_id, "--peer-urls", &taken],
        b"",
    );
    assert!(
        refused.text().contains("Peer URLs already exists"),
        "{}",
        refused.text()
    );
    moved.terminate();
    let before = format!("http://{}", moved.peer);
    for argument in &mut moved.arguments {
        let text = argument.to_str().expect("text");
        if text == before {
            *argument = place.clone().into();
        }
    }
    moved.start();
    etcdctl::stdout(first, &["put", "before", "it is found"]);
    let get = ["get", "before", "--consistency=s", "--print-value-only"];
    assert_eq!(
        etcdctl::stdout(moved.client, &get).trim(),
        "",
        "nobody reaches it there"
    );
    etcdctl::stdout(first, &["member", "update", &moved_id, "--peer-urls", &place]);
    moved.wait_ready().unwrap_or_else(|error| panic!("{error}"));
    let look = || match etcdctl::stdout(moved.client, &get).trim() {
        "it is found" => Ok(()),
        other => Err(format!("{other:?}")),
    };
    poll::until(SETTLE_LIMIT, look).expect("it catches up");
    let members = etcdctl::stdout(first, &["member", "list"]);
    assert!(members.contains(&place), "{members}");
    cluster.members.push(moved);
}
