//! Where a member listens, what its peer port says, and signals that mean nothing to it, beside etcd's.

use crate::support::cluster::Cluster;
use crate::support::kv_client::{self, ask};
use crate::support::{self, http, ports, process};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(5);

fn members() -> [Cluster; 2] {
    [support::callboard_bin(), support::etcd_bin()].map(|program| Cluster::start(&program, 1))
}

/// Status, and the header that says which method is taken.
fn verdict(address: SocketAddr, method: &str, path: &str) -> (u16, Option<String>) {
    let response = http::request(address, method, path, "").expect("an answer");
    let lower = response.headers.to_lowercase();
    let allow = lower
        .lines()
        .find_map(|line| line.strip_prefix("allow: ").map(ToOwned::to_owned));
    (response.status, allow)
}

#[test]
fn the_peer_port_answers_plain_requests_as_etcds() {
    let [ours, theirs] = members();
    let peers = [ours.members[0].peer, theirs.members[0].peer];
    for (method, path) in [
        ("GET", "/"),
        ("GET", "/version"),
        ("POST", "/version"),
        ("GET", "/members"),
        ("POST", "/members"),
        ("GET", "/members/"),
        ("GET", "/members/promote/1"),
        ("POST", "/members/promote/1"),
        ("POST", "/members/promote/x"),
        ("POST", "/members/hashkv"),
        ("GET", "/raft"),
        ("POST", "/raft"),
        ("GET", "/raft/"),
        ("GET", "/raft/probing"),
        ("POST", "/raft/probing"),
        ("GET", "/raft/snapshot"),
        ("POST", "/raft/snapshot"),
        ("GET", "/raft/stream/message/1"),
        ("POST", "/raft/stream/message/1"),
        ("GET", "/leases"),
        ("POST", "/leases"),
        ("GET", "/leases/internal"),
        // Other ports' paths.
        ("GET", "/health"),
        ("GET", "/metrics"),
        ("GET", "/readyz"),
        ("GET", "/debug/vars"),
        ("PUT", "/config/local/log"),
        ("POST", "/v3/kv/range"),
        ("GET", "/v2/keys"),
    ] {
        let [ours, theirs] = peers.map(|peer| verdict(peer, method, path));
        assert_eq!(ours, theirs, "{method} {path}");
    }
}

#[test]
fn the_peer_port_lists_members_and_serves_clients_nothing_else() {
    let cluster = Cluster::start(&support::callboard_bin(), 1);
    let peer = cluster.members[0].peer;
    let refused = ask(peer, LIMIT, async |client| client.put(b"stage", b"left").await);
    let error = refused.acked().expect_err("a put at the peer port");
    assert!(error.contains("unknown service etcdserverpb.KV"), "{error}");
    let list = async {
        let endpoints = callboard::client::parse_endpoints([peer.to_string()]).expect("an endpoint");
        let client = callboard::client::Client::start(endpoints, callboard::client::Options::default());
        client
            .expect("a client")
            .member_list(callboard::proto::etcdserverpb::MemberListRequest::default())
            .await
    };
    let list = kv_client::block_on(list).expect("the members");
    assert_eq!(list.members[0].name, "m1");
    // A lease is kept alive there as etcd's members and tools do it.
    let granted = ask(cluster.members[0].client, LIMIT, async |client| {
        client.lease_grant(7, 60).await
    });
    granted.acked().expect("a lease");
    let renewed = http::request(peer, "POST", "/leases", "\u{8}\u{7}").expect("an answer");
    assert_eq!(
        (renewed.status, renewed.body.as_str()),
        (200, "\u{10}\u{7}\u{18}<")
    );
}

#[test]
fn the_unspecified_address_listens_in_both_families() {
    if TcpListener::bind("[::1]:0").is_err() {
        eprintln!("skipped: this machine has no IPv6");
        return;
    }
    for host in ["0.0.0.0", "[::]"] {
        let mut cluster = Cluster::prepare(&support::callboard_bin(), &ports::free(2), &[]);
        let member = &mut cluster.members[0];
        let mut is_listening = false;
        for argument in &mut member.arguments {
            let text = argument.to_string_lossy().into_owned();
            if is_listening {
                *argument = text.replace("127.0.0.1", host).into();
            }
            is_listening = text.starts_with("--listen-");
        }
        member.start_ready();
        for port in [member.client.port(), member.peer.port()] {
            for address in ["127.0.0.1", "[::1]"] {
                let address: SocketAddr = format!("{address}:{port}").parse().expect("an address");
                TcpStream::connect_timeout(&address, LIMIT)
                    .unwrap_or_else(|error| panic!("{host}, {address}: {error}"));
            }
        }
    }
}

fn outlives_signals(program: &Path) {
    let mut cluster = Cluster::start(program, 1);
    let member = &mut cluster.members[0];
    for signal in [
        libc::SIGUSR1,
        libc::SIGUSR2,
        libc::SIGALRM,
        libc::SIGVTALRM,
        libc::SIGPROF,
        libc::SIGIO,
        libc::SIGPWR,
        libc::SIGXCPU,
        libc::SIGXFSZ,
        libc::SIGRTMIN() + 1,
        libc::SIGRTMAX(),
    ] {
        member.process().signal(signal);
        let health = http::get(member.client, "/health");
        assert!(
            health.is_ok(),
            "{} after signal {signal}: {health:?}",
            program.display()
        );
    }
    assert!(member.is_running());
}

#[test]
fn signals_that_go_programs_ignore_do_not_end_a_member() {
    outlives_signals(&support::callboard_bin());
    outlives_signals(&support::etcd_bin());
}

#[test]
fn clients_and_members_find_each_other_over_sockets_of_the_unix_domain() {
    let mut cluster = Cluster::prepare(&support::callboard_bin(), &ports::free(4), &[]);
    let directory = cluster.directory().to_owned();
    let socket = |name: &str, port: &str| format!("unix://{}/{name}.{port}", directory.display());
    let initial = format!("m1={},m2={}", socket("m1", "peer"), socket("m2", "peer"));
    for member in &mut cluster.members {
        // Clients over TCP as well, to see that it is ready.
        let client = format!("http://{},{}", member.client, socket(&member.name, "client"));
        let peer = socket(&member.name, "peer");
        let flags = [
            ("--listen-client-urls", client.as_str()),
            ("--listen-peer-urls", &peer),
            ("--initial-advertise-peer-urls", &peer),
            ("--initial-cluster", &initial),
        ];
        for (flag, value) in flags {
            let place = member.arguments.iter().position(|argument| argument == flag);
            member.arguments[place.expect("a flag") + 1] = value.into();
        }
        // What a process has left that was killed.
        drop(std::os::unix::net::UnixListener::bind(
            directory.join(format!("{}.peer", member.name)),
        ));
        member.start();
    }
    for member in &mut cluster.members {
        member.wait_ready().unwrap_or_else(|error| panic!("{error}"));
    }
    for (words, expected) in [
        (["put", "key", "value"], "OK"),
        (["get", "key", "--print-value-only"], "value"),
    ] {
        let mut command = process::command(&support::etcdctl_bin());
        command.env("ETCDCTL_API", "3");
        command
            .arg(format!("--endpoints={}", socket("m2", "client")))
            .args(words);
        let ended = process::run(command, b"", LIMIT).expect("etcdctl ends");
        assert_eq!(
            String::from_utf8_lossy(&ended.stdout).trim(),
            expected,
            "{}",
            ended.text()
        );
    }
    for member in &mut cluster.members {
        member.terminate();
    }
    assert!(
        !directory.join("m1.client").exists(),
        "a member that ends leaves no socket"
    );
}
