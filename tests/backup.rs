//! Backups on real processes: Debian's etcdctl takes one and restores it, and Debian's etcd goes on from there.
#![cfg(not(madsim))]
#![allow(clippy::disallowed_methods)] // the tests live in the real world

mod support;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use callboard::proto::etcdserverpb as pb;
use serde_json::Value;
use support::cluster::Cluster;
use support::kv_client::{Client, ask, block_on};
use support::process::{self, Process};
use support::{http, poll, ports};

const REQUEST_LIMIT: Duration = Duration::from_secs(10);
const COMMAND_LIMIT: Duration = Duration::from_secs(30);

/// What it printed.
fn etcdctl(endpoint: SocketAddr, words: &[&str], stdin: &[u8]) -> String {
    let mut command = process::command(&support::etcdctl_bin());
    command.env("ETCDCTL_API", "3");
    command.arg(format!("--endpoints={endpoint}")).args(words);
    let finished =
        process::run(command, stdin, COMMAND_LIMIT).unwrap_or_else(|complaint| panic!("{complaint}"));
    assert_eq!(finished.code, 0, "{words:?}: {}", finished.text());
    String::from_utf8_lossy(&finished.stdout).into_owned()
}

/// Some thousand changes: long and short values, deletes, keys of leases, what is compacted and what is not yet.
fn change(member: SocketAddr) {
    let put = |client: Client, key: String, value: Vec<u8>| async move {
        client.put(key.as_bytes(), &value).await.acked().expect("a put");
    };
    block_on(async {
        for round in 0..3 {
            for number in 0..500 {
                let value = format!("{round} {number} ").repeat(1 + number % 40).into_bytes();
                put(
                    Client::new(&[member], REQUEST_LIMIT),
                    format!("key{number}"),
                    value,
                )
                .await;
            }
        }
        put(
            Client::new(&[member], REQUEST_LIMIT),
            "long".into(),
            vec![7; 1_000_000],
        )
        .await;
    });
    etcdctl(member, &["del", "key1", "key2"], b"");
    etcdctl(member, &["compact", "700"], b"");
    etcdctl(member, &["del", "key3"], b"");
    let granted = etcdctl(member, &["lease", "grant", "600"], b"");
    let lease = granted.split_whitespace().nth(1).expect("an id");
    etcdctl(
        member,
        &["put", "held", "by a lease", &format!("--lease={lease}")],
        b"",
    );
    let txn = "value(\"held\") = \"by a lease\"\n\nput one 1\nput two 2\n\n\n";
    etcdctl(member, &["txn"], txn.as_bytes());
}

fn hash(member: SocketAddr) -> (u32, i64) {
    let hashed = ask(member, REQUEST_LIMIT, async |client| client.hash_kv(0).await);
    let hashed = hashed.acked().expect("a hash");
    (hashed.hash, hashed.compact_revision)
}

/// All keys as of a revision.
fn all(member: SocketAddr, revision: i64) -> (i64, Vec<callboard::proto::mvccpb::KeyValue>) {
    let request = pb::RangeRequest {
        key: b"\0".to_vec().into(),
        range_end: b"\0".to_vec().into(),
        revision,
        ..Default::default()
    };
    let range = ask(member, REQUEST_LIMIT, async |client| client.range(request).await);
    let range = range.acked().expect("a range");
    (range.header.expect("a header").revision, range.kvs)
}

/// Debian's etcd on what was restored.
fn start_etcd(directory: &Path) -> (SocketAddr, Process) {
    let ports = ports::free(2);
    let client = format!("http://127.0.0.1:{}", ports[0]);
    let peer = format!("http://127.0.0.1:{}", ports[1]);
    let mut command = process::command(&support::etcd_bin());
    command.arg("--data-dir").arg(directory.join("restored"));
    for (flag, value) in [
        ("--listen-client-urls", &client),
        ("--advertise-client-urls", &client),
        ("--listen-peer-urls", &peer),
    ] {
        command.args([flag, value]);
    }
    let mut process = Process::start(command, &directory.join("etcd.log"));
    let address = SocketAddr::from(([127, 0, 0, 1], ports[0]));
    let healthy = || {
        if let Some(status) = process.ended() {
            panic!("etcd ended with {status}: {}", process.tail());
        }
        let response = http::get(address, "/health")?;
        let is_healthy = response.body.contains("\"true\"");
        if is_healthy { Ok(()) } else { Err(response.body) }
    };
    poll::until(Duration::from_secs(30), healthy).unwrap_or_else(|complaint| panic!("{complaint}"));
    (address, process)
}

#[test]
fn etcd_goes_on_from_a_backup() {
    let cluster = Cluster::start(&support::callboard_bin(), 3);
    let (leader, member) = (cluster.members[0].client, cluster.members[2].client);
    change(leader);
    // A backup is of what the member that is asked has; this one has everything once it has answered a read.
    let (revision, newest) = all(member, 0);
    let (past, before) = (revision - 3, all(member, revision - 3).1);
    let directory = cluster.directory();
    let path = directory.join("backup.db");
    let file = path.to_str().expect("a temporary path in UTF-8");
    etcdctl(member, &["snapshot", "save", file], b"");
    let status = etcdctl(member, &["snapshot", "status", file, "-w", "json"], b"");
    let status: Value = serde_json::from_str(&status).expect("JSON");
    assert_eq!(status["revision"], revision);
    let restored = directory.join("restored");
    let restored = restored.to_str().expect("a temporary path in UTF-8");
    etcdctl(
        member,
        &["snapshot", "restore", file, "--data-dir", restored],
        b"",
    );

    let (etcd, _process) = start_etcd(directory);
    assert_eq!(hash(etcd), hash(member));
    assert_eq!(all(etcd, 0), (revision, newest));
    assert_eq!(all(etcd, past).1, before);
    assert_eq!(
        etcdctl(etcd, &["lease", "list"], b""),
        etcdctl(member, &["lease", "list"], b"")
    );
    etcdctl(etcd, &["put", "more", "of it"], b"");
    assert_eq!(all(etcd, 0).0, revision + 1);
}

/// Bytes as JSON has them.
fn bytes(value: &Value) -> usize {
    let text = value.as_str().expect("base64");
    text.len() / 4 * 3 - text.bytes().rev().take_while(|byte| *byte == b'=').count()
}

#[test]
fn a_backup_comes_as_json_too() {
    let cluster = Cluster::start(&support::callboard_bin(), 1);
    let member = cluster.members[0].client;
    block_on(async {
        let client = Client::new(&[member], REQUEST_LIMIT);
        client
            .put(b"long", &vec![7; 500_000])
            .await
            .acked()
            .expect("a put");
    });
    let response = http::request(member, "POST", "/v3/maintenance/snapshot", "{}").expect("an answer");
    assert_eq!(response.status, 200);
    let lines = response
        .body
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"));
    let mut messages: Vec<Value> = lines.map(|mut line: Value| line["result"].take()).collect();
    let sum = messages.pop().expect("a last one");
    assert_eq!(bytes(&sum["blob"]), 32);
    assert_eq!(sum["version"], "3.7.0");
    // What is left goes down to nothing, which JSON leaves out.
    let left = |message: &Value| {
        let left = message["remaining_bytes"].as_str().unwrap_or("0");
        left.parse::<usize>().expect("a number")
    };
    let mut total = left(&messages[0]) + bytes(&messages[0]["blob"]);
    assert!(total > 500_000 && total.is_multiple_of(4096), "{total}");
    assert!(messages.len() > 5, "{} messages", messages.len());
    for message in &messages {
        total -= bytes(&message["blob"]);
        assert_eq!(left(message), total);
    }
    assert_eq!(total, 0);
}
