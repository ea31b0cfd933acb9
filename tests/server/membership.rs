//! Who leads, and where members are, as operators change it with etcdctl.

use crate::support::cluster::{Cluster, Member};
use crate::support::process::Finished;
use crate::support::{self, etcdctl, http, poll, ports};
use serde_json::Value;
use std::time::Duration;

const SETTLE_LIMIT: Duration = Duration::from_secs(20);

pub fn status(member: &Member) -> Value {
    etcdctl::status(member.client)
}

pub fn id(member: &Member) -> u64 {
    etcdctl::id(member.client)
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

/// A place for a member that moves.
fn new_place() -> String {
    let [port] = ports::free(1)[..] else {
        panic!("one port");
    };
    format!("http://127.0.0.1:{port}")
}

/// Its next process is for other members at `place`.
fn relocate(member: &mut Member, place: &str) {
    let before = format!("http://{}", member.peer);
    for argument in &mut member.arguments {
        if argument.to_str() == Some(&before) {
            *argument = place.into();
        }
    }
}

fn update(member: &Member, id: u64, place: &str) -> Finished {
    let id = format!("{id:x}");
    etcdctl::run(
        member.client,
        &["member", "update", &id, "--peer-urls", place],
        b"",
    )
}

#[test]
fn a_member_that_has_moved_is_found_where_it_says() {
    let mut cluster = Cluster::start(&support::callboard_bin(), 3);
    let mut moved = cluster.members.pop().expect("three members");
    let (first, moved_id) = (&cluster.members[0], id(&moved));
    let taken = format!("http://{}", cluster.members[1].peer);
    let refused = update(first, moved_id, &taken);
    assert!(
        refused.text().contains("Peer URLs already exists"),
        "{}",
        refused.text()
    );
    let place = new_place();
    moved.terminate();
    relocate(&mut moved, &place);
    etcdctl::stdout(first.client, &["put", "before", "it is listed there"]);
    moved.start_ready();
    let get = ["get", "before", "--print-value-only"];
    assert_eq!(etcdctl::stdout(moved.client, &get).trim(), "it is listed there");
    let listed = || etcdctl::stdout(first.client, &["member", "list"]).contains(&place);
    assert!(!listed());
    let updated = update(first, moved_id, &place);
    assert_eq!(updated.code, 0, "{}", updated.text());
    assert!(listed());
    cluster.members.push(moved);
}

#[test]
fn a_member_that_was_away_finds_those_that_have_moved() {
    let mut cluster = Cluster::start(&support::callboard_bin(), 3);
    // Requests under way while a leader dies may fail.
    let leading = leader(&cluster.members[0]);
    let follows = |member: &Member| id(member) != leading;
    let follower = cluster.members.iter().position(follows).expect("a follower");
    let mut away = cluster.members.remove(follower);
    away.kill();
    for number in [0, 1] {
        let (place, moved_id) = (new_place(), id(&cluster.members[number]));
        let updated = update(&cluster.members[number], moved_id, &place);
        assert_eq!(updated.code, 0, "{}", updated.text());
        let moved = &mut cluster.members[number];
        moved.terminate();
        relocate(moved, &place);
        moved.start_ready();
    }
    etcdctl::stdout(cluster.members[0].client, &["put", "key", "value"]);
    away.start_ready();
    let get = ["get", "key", "--print-value-only"];
    assert_eq!(etcdctl::stdout(away.client, &get).trim(), "value");
    cluster.members.push(away);
}

#[test]
fn a_downgrade_is_told_by_all_members_until_it_is_cancelled() {
    let mut cluster = Cluster::start(&support::callboard_bin(), 3);
    let all_tell = |cluster: &Cluster, version: &str| {
        let wanted = format!(r#""etcdcluster":"{version}","storage":"{version}""#);
        for member in &cluster.members {
            let look = || match http::get(member.client, "/version")?.body {
                body if body.contains(&wanted) => Ok(()),
                body => Err(body),
            };
            poll::until(SETTLE_LIMIT, look).expect("it is told");
        }
    };
    let ask = |cluster: &Cluster, request: &str| {
        let path = "/v3/maintenance/downgrade";
        http::request(cluster.members[1].client, "POST", path, request).expect("an answer")
    };
    all_tell(&cluster, "3.7.0");
    let enable = r#"{"action":"ENABLE","version":"3.6"}"#;
    assert_eq!(ask(&cluster, enable).status, 200);
    all_tell(&cluster, "3.6.0");
    let again = ask(&cluster, r#"{"action":"VALIDATE","version":"3.5"}"#).body;
    assert!(
        again.contains("etcdserver: cluster has a downgrade job in progress"),
        "{again}"
    );
    let restarted = &mut cluster.members[0];
    restarted.kill();
    restarted.start_ready();
    all_tell(&cluster, "3.6.0");
    assert_eq!(ask(&cluster, r#"{"action":"CANCEL"}"#).status, 200);
    all_tell(&cluster, "3.7.0");
    let log = cluster.members[2].log_text();
    assert!(log.contains("The server is ready to downgrade"), "{log}");
}
