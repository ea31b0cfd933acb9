//! Whose data directory it is: one process at a time, one member, one cluster.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::support::cluster::{Cluster, arguments};
use super::support::{self, http, ports};
use super::{assert_refused, cluster_id, get, put, run_to_exit};

/// etcd waits for the lock instead; Callboard says who is in the way and ends.
#[test]
fn in_use_by_another_process() {
    let cluster = Cluster::start(&support::callboard_bin(), 1);
    put(&cluster.members[0], "key", "value");
    let mut second = Cluster::prepare(&support::callboard_bin(), &ports::free(2), &[]);
    let intruder = &mut second.members[0];
    intruder.data_dir.clone_from(&cluster.members[0].data_dir);
    intruder.arguments = arguments(
        intruder,
        &format!("m1=http://{}", intruder.peer),
        "callboard-test",
    );
    let finished = run_to_exit(intruder);
    assert_refused(&finished, &["in use", "locked", "another process"]);
    let path = intruder.data_dir.display().to_string();
    assert!(
        finished.text().contains(&path),
        "which directory?\n{}",
        finished.text()
    );
    assert_eq!(
        get(&cluster.members[0], "key").as_deref(),
        Some("value"),
        "the first process lives on"
    );
}

/// Callboard does not read etcd's files, so it must not touch them either.
#[test]
fn of_etcd_is_left_alone() {
    let mut etcd = Cluster::start(&support::etcd_bin(), 1);
    put(&etcd.members[0], "key", "value");
    etcd.members[0].terminate();
    let data_dir = etcd.members[0].data_dir.clone();
    let before = contents(&data_dir);

    etcd.members[0].program = support::callboard_bin();
    let finished = run_to_exit(&etcd.members[0]);
    assert_refused(&finished, &["etcd"]);
    assert!(
        finished.text().contains(data_dir.to_str().expect("UTF-8")),
        "which directory?\n{}",
        finished.text()
    );
    assert!(before == contents(&data_dir), "the directory of etcd has changed");

    etcd.members[0].program = support::etcd_bin();
    etcd.members[0].start_ready();
    assert_eq!(
        get(&etcd.members[0], "key").as_deref(),
        Some("value"),
        "etcd goes on with it"
    );
}

#[test]
fn that_exists_makes_initial_flags_void() {
    let mut cluster = Cluster::start(&support::callboard_bin(), 1);
    put(&cluster.members[0], "key", "value");
    let id = cluster_id(&cluster.members[0]);
    for state in ["new", "existing"] {
        cluster.members[0].terminate();
        let member = &mut cluster.members[0];
        let others = format!(
            "m1=http://{},m2=http://127.0.0.1:1,m3=http://127.0.0.1:2",
            member.peer
        );
        member.arguments = arguments(member, &others, "another-token");
        let last = member.arguments.len() - 1;
        member.arguments[last] = state.into();
        member.start_ready();
        assert_eq!(
            get(member, "key").as_deref(),
            Some("value"),
            "with --initial-cluster-state {state}"
        );
        assert_eq!(cluster_id(member), id, "with --initial-cluster-state {state}");
    }
}

/// A member comes back with the directory of another cluster under its old name and address. Whatever it does, it must
/// not take part: etcd serves the foreign data as the cluster it belongs to, Callboard may also refuse to start.
#[test]
fn of_another_cluster_does_not_mix() {
    let mut cluster = Cluster::start(&support::callboard_bin(), 3);
    put(&cluster.members[0], "ours", "1");
    let ours = cluster_id(&cluster.members[0]);
    cluster.members[2].terminate();

    // The foreign directory: a cluster of one, made at the same address.
    let member = &mut cluster.members[2];
    let own_arguments = member.arguments.clone();
    member.data_dir = member.data_dir.with_extension("foreign");
    member.arguments = arguments(member, &format!("m3=http://{}", member.peer), "another-token");
    member.start_ready();
    put(member, "theirs", "2");
    let theirs = cluster_id(member);
    assert_ne!(theirs, ours);
    member.terminate();

    member.arguments = own_arguments;
    for argument in &mut member.arguments {
        if argument.to_string_lossy().ends_with("m3.data") {
            *argument = member.data_dir.clone().into();
        }
    }
    member.start();
    let joined = member.wait_ready();
    put(&cluster.members[0], "ours", "3");
    assert_eq!(
        get(&cluster.members[1], "ours").as_deref(),
        Some("3"),
        "two of three go on"
    );
    assert_eq!(get(&cluster.members[0], "theirs"), None);
    let member = &mut cluster.members[2];
    if joined.is_ok() {
        assert_eq!(cluster_id(member), theirs);
        assert_eq!(get(member, "theirs").as_deref(), Some("2"));
        assert_eq!(get(member, "ours"), None);
    } else {
        assert!(
            !super::shows_panic(&member.log_text()),
            "it panicked:\n{}",
            member.log_text()
        );
        assert!(
            http::get(member.client, "/health").is_err(),
            "refused, but it answers"
        );
    }
}

/// Every file below `directory` with its contents.
fn contents(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(contents(&path));
        } else {
            let bytes = std::fs::read(&path).expect("a file");
            found.insert(path, bytes);
        }
    }
    found
}
