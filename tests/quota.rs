//! Space and load on real processes: what is refused, what an operator sees of it, and that it ends on its own.
#![cfg(not(madsim))]
#![allow(clippy::disallowed_methods)] // the tests live in the real world

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use callboard::proto::etcdserverpb as pb;
use support::cluster::{Cluster, Member};
use support::etcdctl::{self, stdout};
use support::kv_client::{Client, Outcome, ask, block_on};
use support::{http, poll};

const REQUEST_LIMIT: Duration = Duration::from_secs(10);

/// A member looks at its space every second, and lowers its alarm after three seconds of calm.
const SETTLE_LIMIT: Duration = Duration::from_secs(30);

fn assert_no_space(member: SocketAddr, words: &[&str]) {
    let finished = etcdctl::run(member, words, b"");
    let text = finished.text();
    assert!(
        finished.code != 0 && text.contains("etcdserver: mvcc: database space exceeded"),
        "{words:?}: {text}"
    );
}

fn health(member: SocketAddr, query: &str) -> (u16, String) {
    let response = http::get(member, &format!("/health{query}")).expect("an answer");
    (response.status, response.body.trim().to_owned())
}

fn status(member: SocketAddr) -> pb::StatusResponse {
    let status = ask(member, REQUEST_LIMIT, async |client| client.status().await);
    status.acked().expect("a status")
}

/// Writes one key to the first member again and again until there is no space, and looks at the alarm as an operator
/// does. One of `raisers` must have raised it.
fn fill(cluster: &Cluster, raisers: &[Member]) {
    let first = cluster.members[0].client;
    let value = "v".repeat(4096);
    let mut puts = 0;
    loop {
        puts += 1;
        let finished = etcdctl::run(first, &["put", "filler"], value.as_bytes());
        if finished.code != 0 {
            let text = finished.text();
            assert!(
                text.contains("etcdserver: mvcc: database space exceeded"),
                "{text}"
            );
            break;
        }
        assert!(puts < 100, "no quota");
    }
    assert!(puts > 3, "after {puts} puts");
    let listed = stdout(first, &["alarm", "list"]);
    let mut alarms = raisers.iter().map(|member| {
        let id = status(member.client).header.expect("a header").member_id;
        format!("memberID:{id} alarm:NOSPACE ")
    });
    let alarm = alarms
        .find(|alarm| listed.lines().any(|line| line == alarm))
        .unwrap_or_else(|| panic!("{listed}"));
    let unhealthy = (503, r#"{"health":"false","reason":"ALARM NOSPACE"}"#.to_owned());
    for member in &cluster.members {
        let see = || {
            let errors = status(member.client).errors;
            let seen = errors.iter().any(|error| error.trim() == alarm.trim());
            if seen { Ok(()) } else { Err(format!("{errors:?}")) }
        };
        poll::until(SETTLE_LIMIT, see).expect("the alarm everywhere");
        // 3.4 gives no reason.
        let (code, body) = health(member.client, "");
        assert!(
            (code, &body) == (unhealthy.0, &unhealthy.1) || body == r#"{"health":"false"}"#,
            "{code} {body}"
        );
        assert_eq!(health(member.client, "?exclude=NOSPACE").0, 200);
        assert_no_space(member.client, &["put", "k", "v"]);
        assert_no_space(member.client, &["lease", "grant", "60"]);
        assert_eq!(
            stdout(member.client, &["get", "filler", "--keys-only"]),
            "filler\n\n"
        );
    }
    assert_eq!(stdout(first, &["del", "none"]), "0\n");
}

fn no_alarm_left(cluster: &Cluster) {
    for member in &cluster.members {
        let look = || match health(member.client, "") {
            (200, _) => Ok(()),
            (code, body) => Err(format!("{code} {body}")),
        };
        poll::until(SETTLE_LIMIT, look).expect("alarms lowered on their own");
    }
}

fn compact(member: SocketAddr) {
    let revision = status(member).header.expect("a header").revision.to_string();
    stdout(member, &["compaction", &revision]);
}

fn start(program: &Path, members: usize, flags: &[&str]) -> Cluster {
    Cluster::start_with(program, members, flags)
}

#[test]
fn etcd_refuses_the_same() {
    let cluster = start(&support::etcd_bin(), 3, &["--quota-backend-bytes=65536"]);
    // Each looks at its own file when it applies a write, and whoever is full first raises the alarm.
    fill(&cluster, &cluster.members);
}

#[test]
fn writes_are_refused_beyond_the_quota_until_there_is_room() {
    let mut cluster = start(&support::callboard_bin(), 3, &["--quota-backend-bytes=65536"]);
    fill(&cluster, &cluster.members[..1]);
    let [first, second, third] = [0, 1, 2].map(|number| cluster.members[number].client);
    let full = status(second);
    assert_eq!(full.db_size_quota, 65_536);
    assert!((50_000..65_536).contains(&full.db_size_in_use), "{full:?}");
    compact(third);
    no_alarm_left(&cluster);
    assert_eq!(stdout(first, &["alarm", "list"]), "");
    assert!(status(second).db_size_in_use < 10_000);
    stdout(second, &["put", "k", "v"]);

    // What is raised by hand stays, over calm and over a restart of all.
    let raise = ask(first, REQUEST_LIMIT, async |client| {
        client.raise_alarm(0, pb::AlarmType::Nospace).await
    });
    raise.acked().expect("raise an alarm");
    assert_no_space(second, &["put", "k", "v"]);
    let calm = Instant::now() + Duration::from_secs(6);
    while Instant::now() < calm {
        assert_eq!(stdout(second, &["alarm", "list"]), "alarm:NOSPACE \n");
    }
    for member in &mut cluster.members {
        member.kill();
    }
    for member in &mut cluster.members {
        member.start();
    }
    let listed = || {
        let finished = etcdctl::run(third, &["alarm", "list"], b"");
        let text = finished.text();
        if finished.code == 0 && text == "alarm:NOSPACE \n" {
            Ok(())
        } else {
            Err(text)
        }
    };
    poll::until(SETTLE_LIMIT, listed).expect("the alarm after a restart");
    assert_no_space(third, &["put", "k", "v"]);
    assert_eq!(stdout(first, &["alarm", "disarm"]), "alarm:NOSPACE \n");
    stdout(third, &["put", "k", "v"]);
}

#[test]
fn a_disk_with_little_left_is_not_filled() {
    let mut cluster = start(&support::callboard_bin(), 1, &[]);
    let member = &mut cluster.members[0];
    let client = member.client;
    stdout(client, &["put", "k", "v"]);
    member.terminate();
    let roomy = member.arguments.clone();
    // More than any disk has.
    member
        .arguments
        .push("--quota-free-disk-bytes=1000000000000000000".into());
    member.start();
    let refused = || {
        let text = etcdctl::run(client, &["put", "k", "v"], b"").text();
        if text.contains("database space exceeded") {
            Ok(())
        } else {
            Err(text)
        }
    };
    poll::until(SETTLE_LIMIT, refused).expect("no space");
    assert_eq!(
        health(client, ""),
        (503, r#"{"health":"false","reason":"ALARM NOSPACE"}"#.to_owned())
    );
    assert_eq!(stdout(client, &["get", "k", "--print-value-only"]), "v\n");
    member.terminate();
    member.arguments = roomy;
    member.start_ready();
    stdout(client, &["put", "k", "v"]);
}

#[test]
fn the_past_is_compacted_by_itself() {
    let cluster = start(&support::callboard_bin(), 3, &["--auto-compaction-retention=1s"]);
    let first = cluster.members[0].client;
    for _ in 0..5 {
        stdout(first, &["put", "k", "v"]);
    }
    let compacted = || {
        let text = etcdctl::run(first, &["get", "k", "--rev=5"], b"").text();
        if text.contains("mvcc: required revision has been compacted") {
            Ok(())
        } else {
            Err(text)
        }
    };
    poll::until(SETTLE_LIMIT, compacted).expect("a compaction");
    assert_eq!(stdout(first, &["get", "k", "--print-value-only"]), "v\n");
}

/// Two of three members stand still: nothing is answered, and what waits is bounded.
#[test]
fn what_waits_is_bounded() {
    let mut cluster = start(&support::callboard_bin(), 3, &[]);
    let first = cluster.members[0].client;
    stdout(first, &["put", "k", "v"]);
    for number in [1, 2] {
        cluster.members[number].process().signal(libc::SIGSTOP);
    }
    let value = vec![b'v'; 1_000_000];
    let began = Instant::now();
    let outcomes: Vec<Outcome<pb::PutResponse>> = block_on(async {
        let clients: Vec<Client> = (0..50).map(|_| Client::new(&[first], REQUEST_LIMIT)).collect();
        let puts = clients.iter().map(|client| client.put(b"k", &value));
        futures_util::future::join_all(puts).await
    });
    let refused = outcomes
        .iter()
        .filter(|outcome| match outcome {
            Outcome::Failed(text) | Outcome::Unknown(text) => text.contains("etcdserver: too many requests"),
            Outcome::Acked(_) => panic!("acknowledged by one of three"),
        })
        .count();
    assert!(
        (10..=30).contains(&refused),
        "{refused} of 50 megabytes refused after {:?}",
        began.elapsed()
    );
    for number in [1, 2] {
        cluster.members[number].process().signal(libc::SIGCONT);
    }
    let again = || match etcdctl::run(first, &["put", "k", "v"], b"") {
        finished if finished.code == 0 => Ok(()),
        finished => Err(finished.text()),
    };
    poll::until(SETTLE_LIMIT, again).expect("puts go on");
}

/// The settings that a server begins an HTTP/2 connection with.
fn http2_settings(member: SocketAddr) -> Vec<(u16, u32)> {
    let mut stream = TcpStream::connect(member).expect("a connection");
    stream.set_read_timeout(Some(REQUEST_LIMIT)).expect("a timeout");
    // The client's greeting and an empty frame of settings.
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .expect("a greeting");
    let mut head = [0; 9];
    stream.read_exact(&mut head).expect("a frame");
    assert_eq!(head[3], 4, "settings come first");
    let mut settings = vec![0; usize::from(u16::from_be_bytes([head[1], head[2]]))];
    stream.read_exact(&mut settings).expect("settings");
    let read = |setting: &[u8]| {
        let (name, value) = setting.split_first_chunk().expect("six bytes");
        (
            u16::from_be_bytes(*name),
            u32::from_be_bytes(value.try_into().expect("four bytes")),
        )
    };
    settings.chunks(6).map(read).collect()
}

#[test]
fn streams_of_a_connection_are_bounded() {
    const MAX_CONCURRENT_STREAMS: u16 = 3;
    let cluster = start(&support::callboard_bin(), 1, &["--max-concurrent-streams=7"]);
    let settings = http2_settings(cluster.members[0].client);
    assert!(settings.contains(&(MAX_CONCURRENT_STREAMS, 7)), "{settings:?}");
}
