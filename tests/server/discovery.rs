//! Clusters whose members learn of each other from a discovery service or from DNS.

use crate::support::cluster::{Cluster, Member, READY_LIMIT};
use crate::support::name_server::{Zone, with_names};
use crate::support::{self, etcdctl, http, poll, ports};
use crate::{assert_refused, cluster_id, get, put, run_to_exit};
use std::collections::BTreeSet;
use std::ffi::OsString;

/// What a member is no longer told: who the others are.
const LIST: [&str; 2] = ["--initial-cluster", "--initial-cluster-token"];

/// Takes the list away and gives other flags instead.
fn let_discover(member: &mut Member, flags: &[&str]) {
    let pairs = member.arguments.chunks_exact(2);
    let kept = pairs.filter(|pair| LIST.iter().all(|flag| pair[0] != *flag));
    let kept: Vec<OsString> = kept.flatten().cloned().collect();
    member.arguments = kept;
    member.arguments.extend(flags.iter().map(OsString::from));
}

/// Members that are not started, with these flags.
fn prepare(size: usize, flags: &[&str]) -> Cluster {
    let mut cluster = Cluster::prepare(&support::callboard_bin(), &ports::free(2 * size), &[]);
    for member in &mut cluster.members {
        let_discover(member, flags);
    }
    cluster
}

fn wait_logged(member: &Member, word: &str) {
    let look = || {
        let text = member.log_text();
        if text.contains(word) { Ok(()) } else { Err(text) }
    };
    poll::until(READY_LIMIT, look).unwrap_or_else(|text| panic!("{word:?} is not logged: {text}"));
}

/// Starts all, the last one once the others wait for it, and fails unless they are one cluster.
fn found(members: &mut [Member]) {
    let (last, first) = members.split_last_mut().expect("members");
    for member in &mut *first {
        member.start();
    }
    for member in &mut *first {
        wait_logged(member, "waiting for more");
        assert!(member.is_running(), "it waits");
    }
    last.start();
    assert_one_cluster(members);
}

fn assert_one_cluster(members: &mut [Member]) {
    for member in &mut *members {
        member.wait_ready().unwrap_or_else(|error| panic!("{error}"));
    }
    put(&members[0], "key", "value");
    let ids: BTreeSet<u64> = members.iter().map(cluster_id).collect();
    assert_eq!(ids.len(), 1, "they are of different clusters");
    for member in &*members {
        assert_eq!(get(member, "key").as_deref(), Some("value"));
    }
    // Every member has said its name.
    let named = || {
        let list = etcdctl::stdout(members[0].client, &["member", "list"]);
        let is_listed = |member: &Member| list.contains(&format!("started, {}, http", member.name));
        if members.iter().all(is_listed) {
            Ok(())
        } else {
            Err(list)
        }
    };
    poll::until(READY_LIMIT, named).expect("all are listed");
}

/// The ids of members, as etcdctl and registries write them.
fn ids(member: &Member) -> BTreeSet<String> {
    let list = etcdctl::stdout(member.client, &["member", "list"]);
    let ids = list.lines().filter_map(|line| line.split(',').next());
    ids.map(ToOwned::to_owned).collect()
}

/// An etcd that serves v2 discovery.
fn v2_service() -> Cluster {
    Cluster::start_with(&support::etcd_bin(), 1, &["--enable-v2"])
}

/// Makes a token, for so many members.
fn set_size(service: &Member, token: &str, size: &str) {
    let path = format!("/v2/keys/discovery/{token}/_config/size?value={size}");
    let answer = http::request(service.client, "PUT", &path, "").expect("an answer");
    assert!(matches!(answer.status, 200 | 201), "{answer:?}");
}

#[test]
fn a_cluster_is_founded_through_a_discovery_url() {
    let service = v2_service();
    let service = &service.members[0];
    set_size(service, "three", "3");
    let url = format!("http://{}/v2/keys/discovery/three", service.client);
    let mut cluster = prepare(4, &["--discovery", &url]);
    let mut late = cluster.members.pop().expect("four members");
    found(&mut cluster.members);
    let refused = run_to_exit(&late);
    assert_refused(
        &refused,
        &["failed to join discovery cluster (discovery: cluster is full)"],
    );

    // Members have the ids that etcd gives them for this URL: those that they have registered under.
    let registered = http::get(service.client, "/v2/keys/discovery/three").expect("an answer");
    for id in ids(&cluster.members[0]) {
        assert!(
            registered.body.contains(&format!("/discovery/three/{id}\"")),
            "{id}: {registered:?}"
        );
    }

    let first = &mut cluster.members[0];
    first.kill();
    first.start_ready();
    wait_logged(
        first,
        "discovery token is ignored since cluster already initialized",
    );

    // An empty disk under the same address is another member, and its place is taken.
    first.kill();
    std::fs::remove_dir_all(&first.data_dir).expect("removed");
    assert_refused(&run_to_exit(first), &["discovery: found duplicate id"]);

    // It joins as any other.
    let_discover(&mut late, &["--initial-cluster-state", "existing"]);
    assert_refused(
        &run_to_exit(&late),
        &["discovery url should not be set when joining existing initial cluster"],
    );
}

#[test]
fn mistakes_with_a_discovery_url_are_named() {
    let service = v2_service();
    let service = &service.members[0];
    set_size(service, "zero", "0");
    set_size(service, "word", "three");
    let at = |token: &str| format!("http://{}/v2/keys/discovery/{token}", service.client);
    let health = format!("http://{}/health", service.client);
    for (url, word) in [
        (at("nobody"), "100: key not found (/discovery/nobody)"),
        (at("zero"), "discovery: size key is bad"),
        (at("word"), "discovery: size key is bad"),
        (health, "discovery: bad discovery endpoint"),
        ("here".to_owned(), "discovery: invalid url"),
    ] {
        let cluster = prepare(1, &["--discovery", &url]);
        assert_refused(&run_to_exit(&cluster.members[0]), &[word]);
        assert!(!cluster.members[0].data_dir.exists(), "{url}: it has begun");
    }
    // Two members of one name, which both wait for the other.
    set_size(service, "twins", "2");
    let mut cluster = prepare(2, &["--discovery", &at("twins")]);
    for member in &mut cluster.members {
        let_discover(member, &["--name", "twin"]);
        member.start();
    }
    for member in &mut cluster.members {
        assert!(!member.wait_for_end().success());
        let text = member.log_text();
        assert!(text.contains("discovery: found duplicate name"), "{text}");
    }
}

#[test]
fn a_discovery_service_is_reached_through_a_proxy_and_waited_for() {
    // etcd takes requests that are for others as if they were its own, so it does for a proxy.
    let mut service = v2_service();
    let service = &mut service.members[0];
    set_size(service, "one", "1");
    service.terminate();
    let url = "http://discovery.invalid/v2/keys/discovery/one";
    let proxy = service.client.to_string();
    let mut cluster = prepare(1, &["--discovery", url, "--discovery-proxy", &proxy]);
    let member = &mut cluster.members[0];
    member.start();
    wait_logged(member, "retry connecting to discovery service");
    service.start_ready();
    assert_one_cluster(&mut cluster.members);
}

/// A discovery service, its endpoint, and four members, none of them started, with a token for a cluster of three.
fn four_with_a_token_for_three() -> (Cluster, String, Cluster) {
    let service = Cluster::start(&support::callboard_bin(), 1);
    let client = service.members[0].client;
    etcdctl::stdout(client, &["put", "/_etcd/registry/tok/_config/size", "3"]);
    let endpoints = format!("http://{client}");
    let flags = ["--discovery-token", "tok", "--discovery-endpoints", &endpoints];
    let cluster = prepare(4, &flags);
    (service, endpoints, cluster)
}

#[test]
fn a_cluster_is_founded_through_a_discovery_token() {
    let (service, endpoints, mut cluster) = four_with_a_token_for_three();
    let service = &service.members[0];
    let late = cluster.members.pop().expect("four members");
    found(&mut cluster.members);
    assert_refused(
        &run_to_exit(&late),
        &["failed to join discovery cluster (discovery: cluster is full)"],
    );
    let keys = ["get", "/_etcd/registry/tok/members/", "--prefix", "--keys-only"];
    let registered = etcdctl::stdout(service.client, &keys);
    let registered = registered.lines().filter_map(|key| key.rsplit_once('/'));
    let registered: BTreeSet<_> = registered.map(|(_, id)| id.to_owned()).collect();
    assert_eq!(registered, ids(&cluster.members[0]));

    let unknown = ["--discovery-token", "nobody", "--discovery-endpoints", &endpoints];
    let lost = prepare(1, &unknown);
    assert_refused(&run_to_exit(&lost.members[0]), &["discovery: size key not found"]);
}

#[test]
fn of_four_that_come_at_once_for_three_places_one_is_refused() {
    let (_service, _, mut cluster) = four_with_a_token_for_three();
    for member in &mut cluster.members {
        member.start();
    }
    let refused = || {
        let place = cluster.members.iter_mut().position(|member| !member.is_running());
        place.ok_or("all run")
    };
    let refused = poll::until(READY_LIMIT, refused).expect("one is refused");
    let refused = cluster.members.remove(refused);
    let text = refused.log_text();
    assert!(text.contains("discovery: cluster is full"), "{text}");
    assert_one_cluster(&mut cluster.members);
}

#[test]
fn a_member_shows_a_discovery_service_its_name_and_password() {
    let service = Cluster::start(&support::etcd_bin(), 1);
    let service = &service.members[0];
    for words in [
        &["put", "/_etcd/registry/tok/_config/size", "1"][..],
        &["user", "add", "root:secret"],
        &["user", "grant-role", "root", "root"],
        &["auth", "enable"],
    ] {
        etcdctl::stdout(service.client, words);
    }
    let endpoints = service.client.to_string();
    let start = |user| {
        let flags = ["--discovery-token", "tok", "--discovery-endpoints", &endpoints];
        prepare(1, &[&flags[..], &["--discovery-user", user]].concat())
    };
    let stranger = start("root:wrong");
    assert_refused(
        &run_to_exit(&stranger.members[0]),
        &["authentication failed, invalid user id or password"],
    );
    let mut cluster = start("root:secret");
    cluster.members[0].start();
    assert_one_cluster(&mut cluster.members);
}

#[test]
fn bootstrap_flags_exclude_each_other() {
    let many = "multiple discovery or bootstrap flags are set";
    for (flags, word) in [
        (&["--discovery", "http://127.0.0.1:1/t"][..], many),
        (&["--discovery-srv", "example.test"], many),
        (
            &["--discovery-token", "t", "--discovery-endpoints", "127.0.0.1:1"],
            many,
        ),
        (
            &["--discovery-token", "t"],
            "both --discovery-token and --discovery-endpoints must be set",
        ),
    ] {
        let cluster = Cluster::prepare(&support::callboard_bin(), &ports::free(2), flags);
        assert_refused(&run_to_exit(&cluster.members[0]), &[word]);
    }
}

#[test]
fn the_list_is_compared_with_the_members_own_urls_by_their_addresses() {
    let zone = Zone::default();
    with_names(&zone, || {
        let mut cluster = Cluster::prepare(&support::callboard_bin(), &ports::free(2), &[]);
        let member = &mut cluster.members[0];
        let list = |host: &str| format!("m1=http://{host}:{}", member.peer.port());
        let (late, elsewhere) = (list("late.callboard.test"), list("127.0.0.9"));
        let_discover(member, &["--initial-cluster", &elsewhere]);
        assert_refused(&run_to_exit(member), &["(resolved urls: "]);
        let_discover(member, &["--initial-cluster", &late]);
        member.start();
        wait_logged(member, "failed to resolve URL Host");
        zone.add_host("late.callboard.test");
        member.wait_ready().unwrap_or_else(|error| panic!("{error}"));
    });
}

#[test]
fn a_cluster_is_founded_through_records_in_dns() {
    let zone = Zone::default();
    with_names(&zone, || {
        let domain = "callboard.test";
        let mut cluster = prepare(4, &["--discovery-srv", domain, "--discovery-srv-name", "blue"]);
        let stranger = cluster.members.pop().expect("four members");
        let refused = run_to_exit(&stranger);
        assert_refused(
            &refused,
            &[
                "error querying dns srv records for _etcd-server-blue lookup _etcd-server-blue._tcp.callboard.test: no such host",
            ],
        );
        for member in &cluster.members {
            let host = format!("{}.{domain}", member.name);
            zone.add_host(&host);
            let service = format!("_etcd-server-blue._tcp.{domain}");
            zone.add_service(&service, &host, member.peer.port());
        }
        assert_refused(&run_to_exit(&stranger), &["cannot find local etcd member"]);
        for member in &mut cluster.members {
            member.start();
        }
        assert_one_cluster(&mut cluster.members);
        let list = etcdctl::stdout(cluster.members[0].client, &["member", "list"]);
        assert!(list.contains(&format!("http://m1.{domain}:")), "{list}");
        // All began with the same state, although each knew no name but its own.
        let first = &mut cluster.members[0];
        first.kill();
        first.start_ready();
        assert_eq!(etcdctl::stdout(first.client, &["alarm", "list"]), "");
    });
}
