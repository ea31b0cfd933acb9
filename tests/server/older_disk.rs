//! A member that comes back with an older copy of its own data directory, as a virtual machine does that is rolled back. It has
//! forgotten what it has promised: it must stop with a message that tells the operator what to do, and the others go on.
//!
//! etcd starts in this case and may lose acknowledged writes; Callboard promises more.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::support::cluster::{Cluster, Member};
use super::support::kv_client::ask;
use super::support::{self, poll};
use super::{REQUEST_LIMIT, get, put, shows_panic};

const STOPS_WITHIN: Duration = Duration::from_secs(20);
const ADVICE: &str = "remove it from the cluster, clear its data directory and add it again";

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-r").args([from, to]).status();
    assert!(copied.expect("cp is there").success(), "{}", from.display());
}

fn put_in_place(copy: &Path, directory: &Path) {
    std::fs::rename(directory, directory.with_extension("own")).expect("renamed");
    std::fs::rename(copy, directory).expect("renamed");
}

/// Starts a member that must stop, and its own disk after that.
fn is_refused_and_comes_back(cluster: &mut Cluster, copy: &Path) {
    let directory = cluster.members[2].data_dir.clone();
    put_in_place(copy, &directory);
    let said_before = cluster.members[2].log_text().len();
    cluster.members[2].start();
    let status = cluster.members[2].process().wait(STOPS_WITHIN);
    let said = cluster.members[2].log_text()[said_before..].to_owned();
    assert!(!status.success(), "it ended as if all was well:\n{said}");
    assert!(said.contains(ADVICE), "it does not say what to do:\n{said}");
    assert!(!shows_panic(&said), "it panicked:\n{said}");
    assert!(
        !said.contains("takes part"),
        "it took part before it stopped:\n{said}"
    );
    others_have_a_leader(cluster);
    put(&cluster.members[0], "without it", "2");
    assert_eq!(get(&cluster.members[1], "after").as_deref(), Some("1"));
    std::fs::remove_dir_all(&directory).expect("removed");
    std::fs::rename(directory.with_extension("own"), &directory).expect("renamed");
    let member: &mut Member = &mut cluster.members[2];
    forget_process(member);
    member.start_ready();
    assert_eq!(get(member, "without it").as_deref(), Some("2"));
}

/// Starts a member on a disk that may not take part, and kills it as soon as it has dialled another in vain.
fn is_killed_early(member: &mut Member) {
    let said_before = member.log_text().len();
    member.start();
    let has_dialled = poll::until(STOPS_WITHIN, || {
        let said = member.log_text()[said_before..].to_owned();
        let has_dialled = said.contains("lost or failed to make a peer connection");
        has_dialled.then_some(()).ok_or(said)
    });
    has_dialled.unwrap_or_else(|said| panic!("{said}"));
    member.kill();
    let said = member.log_text()[said_before..].to_owned();
    assert!(!said.contains("takes part"), "it took part:\n{said}");
}

/// The third member may have been the leader; what is handed to it in the moment of its death has an unknown outcome.
fn others_have_a_leader(cluster: &Cluster) {
    let (first, second) = (&cluster.members[0], &cluster.members[1]);
    let own_and_leader = |member: &Member| {
        let status = ask(member.client, REQUEST_LIMIT, async |client| client.status().await);
        let status = status.acked()?;
        Ok::<_, String>((status.header.map_or(0, |header| header.member_id), status.leader))
    };
    let agreed = poll::until(STOPS_WITHIN, || {
        let (first, first_follows) = own_and_leader(first)?;
        let (second, second_follows) = own_and_leader(second)?;
        let is_one_of_them = first_follows == second_follows && [first, second].contains(&first_follows);
        is_one_of_them
            .then_some(())
            .ok_or_else(|| format!("their leaders are {first_follows:x} and {second_follows:x}"))
    });
    agreed.unwrap_or_else(|complaint| panic!("{complaint}"));
}

/// The process has ended; the next one may start.
fn forget_process(member: &mut Member) {
    assert!(!member.is_running());
    member.kill();
}

#[test]
fn of_before_its_last_start_is_refused() {
    let mut cluster = Cluster::start(&support::callboard_bin(), 3);
    put(&cluster.members[0], "before", "1");
    cluster.members[2].terminate();
    let directory = cluster.members[2].data_dir.clone();
    let older = directory.with_extension("older");
    copy(&directory, &older);
    cluster.members[2].start_ready();
    put(&cluster.members[2], "after", "1");
    cluster.members[2].terminate();
    is_refused_and_comes_back(&mut cluster, &older);
}

#[test]
fn of_the_same_start_is_refused_by_what_it_has_acknowledged() {
    let mut cluster = Cluster::start(&support::callboard_bin(), 3);
    put(&cluster.members[0], "before", "1");
    let directory = cluster.members[2].data_dir.clone();
    let older = directory.with_extension("older");
    cluster.members[2].process().signal(libc::SIGSTOP);
    copy(&directory, &older);
    cluster.members[2].process().signal(libc::SIGCONT);
    let has_it = poll::until(STOPS_WITHIN, || {
        put(&cluster.members[0], "after", "1");
        get(&cluster.members[2], "after").ok_or("it has not caught up")
    });
    has_it.unwrap_or_else(|complaint| panic!("{complaint}"));
    cluster.members[2].kill();
    is_refused_and_comes_back(&mut cluster, &older);
}

/// Nobody who runs remembers anything: what the others have on disk must do.
#[test]
fn is_refused_after_all_members_were_down() {
    let mut cluster = Cluster::start(&support::callboard_bin(), 3);
    cluster.members[2].terminate();
    let directory = cluster.members[2].data_dir.clone();
    let older = directory.with_extension("older");
    copy(&directory, &older);
    cluster.members[2].start_ready();
    put(&cluster.members[2], "after", "1");
    for member in &mut cluster.members {
        member.kill();
    }
    for member in &mut cluster.members[..2] {
        member.start();
    }
    for member in &mut cluster.members[..2] {
        member.wait_ready().unwrap_or_else(|error| panic!("{error}"));
    }
    is_refused_and_comes_back(&mut cluster, &older);
}

/// A start that is killed before anybody could refuse it does not count: else as many of those as the copy lacks would make it
/// look like the newest disk.
#[test]
fn is_refused_after_it_was_started_and_killed_again_and_again() {
    let mut cluster = Cluster::start(&support::callboard_bin(), 3);
    cluster.members[2].terminate();
    let directory = cluster.members[2].data_dir.clone();
    let older = directory.with_extension("older");
    copy(&directory, &older);
    for value in ["0", "1"] {
        cluster.members[2].start_ready();
        put(&cluster.members[2], "after", value);
        cluster.members[2].kill();
    }
    // The others are there for half of these starts, and refuse it.
    put_in_place(&older, &directory);
    for _ in 0..3 {
        is_killed_early(&mut cluster.members[2]);
    }
    for member in &mut cluster.members[..2] {
        member.kill();
    }
    for _ in 0..3 {
        is_killed_early(&mut cluster.members[2]);
    }
    std::fs::rename(&directory, &older).expect("renamed");
    std::fs::rename(directory.with_extension("own"), &directory).expect("renamed");
    for member in &mut cluster.members[..2] {
        member.start();
    }
    for member in &mut cluster.members[..2] {
        member.wait_ready().unwrap_or_else(|error| panic!("{error}"));
    }
    is_refused_and_comes_back(&mut cluster, &older);
}
