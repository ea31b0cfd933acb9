//! Backups on real processes: Debian's etcdctl takes one and restores it, and Debian's etcd goes on from there.
#![cfg(not(madsim))]
#![allow(clippy::disallowed_methods)] // the tests live in the real world

mod support;

use std::net::SocketAddr;
use std::time::Duration;

use callboard::proto::etcdserverpb as pb;
use serde_json::Value;
use support::cluster::{Cluster, Member};
use support::etcdctl::{self, stdout};
use support::kv_client::{Client, ask, block_on};
use support::{http, ports};

const REQUEST_LIMIT: Duration = Duration::from_secs(10);

/// Some thousand changes: long and short values, deletes, keys of leases, what is compacted and what is not yet.
fn change(member: SocketAddr) {
    block_on(async {
        let client = Client::new(&[member], REQUEST_LIMIT);
        let put = async |key: &str, value: &[u8]| {
            client.put(key.as_bytes(), value).await.acked().expect("a put");
        };
        for round in 0..3 {
            for number in 0..500 {
                let value = format!("{round} {number} ").repeat(1 + number % 40);
                put(&format!("key{number}"), value.as_bytes()).await;
            }
        }
        put("long", &vec![7; 1_000_000]).await;
    });
    stdout(member, &["del", "key1", "key2"]);
    stdout(member, &["compact", "700"]);
    stdout(member, &["del", "key3"]);
    let granted = stdout(member, &["lease", "grant", "600"]);
    let lease = granted.split_whitespace().nth(1).expect("an id");
    stdout(
        member,
        &["put", "held", "by a lease", &format!("--lease={lease}")],
    );
    let txn = "value(\"held\") = \"by a lease\"\n\nput one 1\nput two 2\n\n\n";
    let finished = etcdctl::run(member, &["txn"], txn.as_bytes());
    assert_eq!(finished.code, 0, "{}", finished.text());
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

/// Has etcdctl make a member's directory of a backup.
fn restore(member: SocketAddr, file: &str, restored: &Member) {
    let directory = restored.data_dir.to_str().expect("a temporary path in UTF-8");
    let peer = format!("http://{}", restored.peer);
    let (name, initial) = (&restored.name, format!("{}={peer}", restored.name));
    let words = [
        "snapshot",
        "restore",
        file,
        "--data-dir",
        directory,
        "--name",
        name,
    ];
    let cluster_words = [
        "--initial-cluster",
        &initial,
        "--initial-advertise-peer-urls",
        &peer,
    ];
    stdout(member, &[&words[..], &cluster_words].concat());
}

#[test]
fn etcd_goes_on_from_a_backup() {
    let cluster = Cluster::start(&support::callboard_bin(), 3);
    let (leader, member) = (cluster.members[0].client, cluster.members[2].client);
    change(leader);
    // A backup is of what the member that is asked has; this one has everything once it has answered a read.
    let (revision, newest) = all(member, 0);
    let (past, before) = (revision - 3, all(member, revision - 3).1);
    let path = cluster.directory().join("backup.db");
    let file = path.to_str().expect("a temporary path in UTF-8");
    stdout(member, &["snapshot", "save", file]);
    let status = stdout(member, &["snapshot", "status", file, "-w", "json"]);
    let status: Value = serde_json::from_str(&status).expect("JSON");
    assert_eq!(status["revision"], revision);

    let mut restored = Cluster::prepare(&support::etcd_bin(), &ports::free(2), &[]);
    let restored = &mut restored.members[0];
    restore(member, file, restored);
    restored.start_ready();
    let etcd = restored.client;
    assert_eq!(hash(etcd), hash(member));
    assert_eq!(all(etcd, 0), (revision, newest));
    assert_eq!(all(etcd, past).1, before);
    assert_eq!(
        stdout(etcd, &["lease", "list"]),
        stdout(member, &["lease", "list"])
    );
    stdout(etcd, &["put", "more", "of it"]);
    assert_eq!(all(etcd, 0).0, revision + 1);
}

/// Where everything was deleted and compacted, the deletes tell the newest revision: etcd keeps them until the next compaction.
#[test]
fn a_backup_of_nothing_tells_the_newest_revision() {
    let cluster = Cluster::start(&support::callboard_bin(), 1);
    let member = cluster.members[0].client;
    for key in ["a", "b", "c"] {
        stdout(member, &["put", key, "1"]);
    }
    stdout(member, &["del", "a", "d"]);
    stdout(member, &["compact", "5"]);
    let path = cluster.directory().join("backup.db");
    let file = path.to_str().expect("a temporary path in UTF-8");
    stdout(member, &["snapshot", "save", file]);
    let status = stdout(member, &["snapshot", "status", file, "-w", "json"]);
    let status: Value = serde_json::from_str(&status).expect("JSON");
    assert_eq!(status["revision"], 5);
    let mut restored = Cluster::prepare(&support::etcd_bin(), &ports::free(2), &[]);
    let restored = &mut restored.members[0];
    restore(member, file, restored);
    restored.start_ready();
    let etcd = restored.client;
    assert_eq!(all(etcd, 0), (5, vec![]));
    for member in [etcd, member] {
        stdout(member, &["put", "a", "2"]);
        let (revision, keys) = all(member, 0);
        let versions = keys.iter().map(|key| (key.version, key.create_revision));
        assert_eq!((revision, versions.collect()), (6, vec![(1, 6)]));
        stdout(member, &["compact", "6"]);
    }
    // Not before: etcd 3.4 keeps no such deletes itself, and its hash of an empty key space counts them. That of 3.7 does not.
    assert_eq!(hash(etcd), hash(member));
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
