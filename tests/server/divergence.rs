//! Members whose data is not the others' any more: caught at their start, by the leader while they run, or by
//! themselves when they read their disk. etcd promises the first two and only if it is asked to; Callboard notices more.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use callboard::storage::directory::DataDirectory;
use callboard::storage::state::record::{NewRecord, Record};
use callboard::storage::state::{StateDatabase, StateKeyspace, StateOptions};

use super::support::cluster::Cluster;
use super::support::kv_client::ask;
use super::support::process;
use super::support::{self, poll};
use super::{EXIT_LIMIT, REQUEST_LIMIT, put};

/// A check every second, and an election in between.
const ALARM_LIMIT: Duration = Duration::from_secs(20);

fn state_of(data_dir: &Path) -> std::sync::Arc<StateDatabase> {
    let directory = DataDirectory::open(data_dir).expect("a data directory that nobody uses");
    let path = directory.state_path().expect("a state");
    StateDatabase::open(&path, &StateOptions::production()).expect("a sound state")
}

/// Gives a key another record, as sound as the one it had.
fn alter(data_dir: &Path, key: &str, change: impl FnOnce(&mut NewRecord<'_>)) {
    let state = state_of(data_dir);
    let stored = state
        .get(StateKeyspace::Current, key.as_bytes())
        .expect("readable");
    let stored = stored.expect("a record");
    let record = Record::decode("current", key.as_bytes(), stored).expect("sound");
    let value = record.value();
    let mut new = NewRecord {
        key: key.as_bytes(),
        place: record.place(),
        create_revision: record.header.create_revision,
        version: record.header.version,
        value: &value,
        lease: record.header.lease,
    };
    change(&mut new);
    let (key, record) = Record::new(&new);
    let mut batch = state.batch(1);
    batch.insert(StateKeyspace::Current, key, record.stored().clone());
    batch.commit().expect("written");
    state.sync().expect("synced");
}

fn etcdctl(cluster: &Cluster, arguments: &[&str]) -> String {
    let mut command = process::command(&support::etcdctl_bin());
    command
        .arg("--endpoints")
        .arg(cluster.members[0].client.to_string());
    command.args(arguments);
    let finished = process::run(command, b"", EXIT_LIMIT).expect("etcdctl ends");
    finished.text()
}

fn member_id(cluster: &Cluster, index: usize) -> u64 {
    let client = cluster.members[index].client;
    let status = ask(client, REQUEST_LIMIT, async |client| client.status().await);
    status
        .acked()
        .expect("a status")
        .header
        .expect("a header")
        .member_id
}

fn wait_for_alarm(cluster: &Cluster, member_id: u64) {
    let expected = format!("memberID:{member_id} alarm:CORRUPT");
    let seen = poll::until(ALARM_LIMIT, || {
        let listed = etcdctl(cluster, &["alarm", "list"]);
        if listed.contains(&expected) {
            Ok(())
        } else {
            Err(format!("no {expected:?} in {listed:?}"))
        }
    });
    seen.unwrap_or_else(|complaint| panic!("{complaint}"));
    let listed = etcdctl(cluster, &["alarm", "list"]);
    assert_eq!(listed.matches("alarm:").count(), 1, "only that one: {listed}");
}

fn three_members(flags: &[&str]) -> Cluster {
    let cluster = Cluster::start_with(&support::callboard_bin(), 3, flags);
    for number in 0..20 {
        put(&cluster.members[0], &format!("key{number}"), "value");
    }
    cluster
}

#[test]
fn the_initial_check_keeps_an_altered_member_out() {
    let mut cluster = three_members(&["--experimental-initial-corrupt-check"]);
    cluster.members[2].terminate();
    cluster.members[2].start_ready();
    cluster.members[2].terminate();
    alter(&cluster.members[2].data_dir, "key7", |record| {
        record.value = b"other";
    });
    cluster.members[2].start();
    let ended = poll::until(EXIT_LIMIT, || {
        cluster.members[2].process().ended().ok_or("it runs")
    });
    assert_ne!(ended.expect("it ends").code(), Some(0));
    let log = cluster.members[2].log_text();
    assert!(log.contains("found data inconsistency with peers"), "{log}");
    // The others go on, with and without it.
    put(&cluster.members[0], "key", "value");
    assert_eq!(etcdctl(&cluster, &["alarm", "list"]).trim(), "");
}

#[test]
fn the_initial_check_waits_for_nobody_who_is_down() {
    let mut cluster = three_members(&["--feature-gates=InitialCorruptCheck=true"]);
    for member in &mut cluster.members {
        member.terminate();
    }
    cluster.members[0].start();
    let passed = poll::until(Duration::from_secs(5), || {
        let log = cluster.members[0].log_text();
        let passed = log.matches("initial corruption checking passed").count();
        if passed == 1 {
            Ok(())
        } else {
            Err(format!("{passed} checks passed"))
        }
    });
    passed.unwrap_or_else(|complaint| panic!("{complaint}"));
    for index in [1, 2] {
        cluster.members[index].start();
    }
    for member in &mut cluster.members {
        member.wait_ready().unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn the_periodic_check_finds_an_altered_member() {
    let mut cluster = three_members(&["--experimental-corrupt-check-time=1s"]);
    let id = member_id(&cluster, 2);
    cluster.members[2].terminate();
    alter(&cluster.members[2].data_dir, "key7", |record| {
        record.value = b"other";
    });
    cluster.members[2].start();
    wait_for_alarm(&cluster, id);
    let refused = etcdctl(&cluster, &["put", "key", "value"]);
    assert!(refused.contains("etcdserver: corrupt cluster"), "{refused}");
    let read = etcdctl(&cluster, &["get", "key1"]);
    assert!(read.contains("value"), "reads are answered: {read}");
}

#[test]
fn a_change_that_comes_to_another_end_is_noticed_without_any_flag() {
    let mut cluster = three_members(&[]);
    let id = member_id(&cluster, 1);
    cluster.members[1].terminate();
    alter(&cluster.members[1].data_dir, "key7", |record| record.version += 1);
    cluster.members[1].start_ready();
    put(&cluster.members[0], "key8", "nothing is built on what differs");
    put(&cluster.members[0], "key7", "now it is");
    wait_for_alarm(&cluster, id);
}

#[test]
fn a_member_finds_rot_on_its_own_disk() {
    let mut cluster = Cluster::start(&support::callboard_bin(), 1);
    for number in 0..20 {
        put(&cluster.members[0], &format!("key{number}"), "value");
    }
    let id = member_id(&cluster, 0);
    cluster.members[0].terminate();
    let table = {
        let state = state_of(&cluster.members[0].data_dir);
        state.flush().expect("tables");
        let tables = state.tables();
        let current = tables.into_iter().find(|table| table.keyspace == "current");
        current.expect("a table of newest records").path
    };
    let file = std::fs::File::options().read(true).write(true).open(&table);
    let file = file.expect("the table");
    let mut byte = [0];
    file.read_exact_at(&mut byte, 100).expect("a byte");
    file.write_all_at(&[byte[0] ^ 1], 100).expect("a flipped bit");
    cluster.members[0].start();
    wait_for_alarm(&cluster, id);
    let log = cluster.members[0].log_text();
    let line = log
        .lines()
        .find(|line| line.contains("found damaged data on disk"));
    let line = line.expect("a line about it");
    assert!(
        line.contains("\"current\"") && line.contains(table.to_str().expect("UTF-8")),
        "{line}"
    );
}

#[test]
fn etcdctl_sees_equal_hashes() {
    let cluster = three_members(&[]);
    let hashes = poll::until(REQUEST_LIMIT, || {
        let endpoints = cluster.endpoints();
        let mut command = process::command(&support::etcdctl_bin());
        command.args(["--endpoints", &endpoints, "endpoint", "hashkv"]);
        let text = process::run(command, b"", EXIT_LIMIT)
            .expect("etcdctl ends")
            .text();
        let lines = text.lines().filter_map(|line| line.rsplit(", ").next());
        let hashes: Vec<Bytes> = lines.map(|hash| Bytes::from(hash.to_owned())).collect();
        if hashes.len() == 3 && hashes.windows(2).all(|pair| pair[0] == pair[1]) {
            Ok(hashes)
        } else {
            Err(text)
        }
    });
    hashes.unwrap_or_else(|complaint| panic!("{complaint}"));
}
