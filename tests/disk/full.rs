//! A full disk: the member refuses what does not fit, goes on, and takes writes again once there is room.

use super::put_many;
use super::support::cluster::Cluster;
use super::support::etcdctl::{self, stdout};
use super::support::{callboard_bin, poll, ports};
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Looks at the disk, merges, and three seconds of calm.
const HEAL_LIMIT: Duration = Duration::from_mins(1);

/// tmpfs file systems that are unmounted with this.
struct Disks(Vec<PathBuf>);

impl Disks {
    /// One under each path; none if the machine forbids it.
    fn mount(paths: Vec<PathBuf>, megabytes: usize) -> Option<Self> {
        let mut mounted = Self(Vec::new());
        for path in paths {
            std::fs::create_dir_all(&path).expect("a directory");
            let mut mount = Command::new("mount");
            mount.args([
                "-t",
                "tmpfs",
                "-o",
                &format!("size={megabytes}m,mode=700"),
                "tmpfs",
            ]);
            let done = mount.arg(&path).output();
            if !done.as_ref().is_ok_and(|output| output.status.success()) {
                eprintln!("skipped: this machine forbids to mount a tmpfs ({done:?})");
                return None;
            }
            mounted.0.push(path);
        }
        Some(mounted)
    }
}

impl Drop for Disks {
    fn drop(&mut self) {
        for path in &self.0 {
            // Members that are being killed may have files open still.
            let _ = Command::new("umount").arg("--lazy").arg(path).status();
        }
    }
}

/// Members on small disks of their own; none if the machine forbids to mount any. The disks go after the members.
fn start(members: usize, megabytes: usize) -> Option<(Cluster, Disks)> {
    let cluster = Cluster::prepare(&callboard_bin(), &ports::free(2 * members), &[]);
    let paths = cluster.members.iter().map(|member| member.data_dir.clone());
    let disks = Disks::mount(paths.collect(), megabytes)?;
    let mut cluster = cluster;
    for member in &mut cluster.members {
        member.start();
    }
    for member in &mut cluster.members {
        member.wait_ready().unwrap_or_else(|error| panic!("{error}"));
    }
    Some((cluster, disks))
}

/// Runs etcdctl until it succeeds, and returns what it printed then. On a full disk the engine may meet a write that does not fit
/// at any time; then its member begins anew, and requests under way fail.
fn insist(member: SocketAddr, arguments: &[&str]) -> String {
    let mut is_again = false;
    let run = || {
        let finished = etcdctl::run(member, arguments, b"");
        // An earlier attempt was carried out, though its answer was lost.
        let is_done = is_again && finished.text().contains("required revision has been compacted");
        is_again = true;
        if finished.code == 0 || is_done {
            Ok(String::from_utf8_lossy(&finished.stdout).into_owned())
        } else {
            Err(finished.text())
        }
    };
    poll::until(HEAL_LIMIT, run).expect("reads, deletions and compactions go on")
}

/// Deletes everything and compacts all of the past.
fn delete_all(member: SocketAddr) {
    let deleted = insist(member, &["del", "", "--prefix", "-w", "json"]);
    let deleted: serde_json::Value = serde_json::from_str(&deleted).expect("JSON");
    let revision = deleted["header"]["revision"].to_string();
    insist(member, &["compaction", &revision]);
}

fn addresses(cluster: &Cluster) -> Vec<SocketAddr> {
    cluster.members.iter().map(|member| member.client).collect()
}

/// Polls until a put goes through on every member, and no alarm is left.
fn heals(cluster: &Cluster) {
    for member in &cluster.members {
        let put = || {
            let finished = etcdctl::run(member.client, &["put", "healed", "v"], b"");
            let alarms = etcdctl::run(member.client, &["alarm", "list"], b"").text();
            if finished.code == 0 && alarms.is_empty() {
                Ok(())
            } else {
                Err(format!("{} {alarms}", finished.text()))
            }
        };
        poll::until(HEAL_LIMIT, put).expect("writes go on");
    }
}

fn all_run(cluster: &mut Cluster) {
    for member in &mut cluster.members {
        assert!(member.is_running(), "{} has ended", member.name);
    }
}

fn full_by_puts(members: usize, megabytes: usize, value_bytes: usize) {
    let Some((mut cluster, _disks)) = start(members, megabytes) else {
        return;
    };
    for round in 0..2 {
        let keys = megabytes * 1_000_000 / value_bytes;
        let puts = put_many(&addresses(&cluster), round, keys, value_bytes, 20);
        assert!(puts.acked > 3 && puts.refused > 0, "round {round}: {puts:?}");
        all_run(&mut cluster);
        let first = cluster.members[0].client;
        let prefix = format!("round {round:03}");
        let found = insist(first, &["get", &prefix, "--prefix", "--keys-only", "--limit=1"]);
        assert!(found.starts_with(&prefix), "{found}");
        delete_all(first);
        heals(&cluster);
        all_run(&mut cluster);
    }
}

#[test]
fn full_by_puts_of_1_kilobyte() {
    full_by_puts(1, 220, 1_000);
}

#[test]
fn full_by_puts_of_100_kilobytes() {
    full_by_puts(3, 220, 100_000);
}

#[test]
fn full_by_puts_of_1_megabyte() {
    full_by_puts(3, 300, 1_000_000);
}

/// Fills a disk to its last byte.
fn fill(directory: &Path) -> PathBuf {
    let path = directory.join("foreign");
    let mut file = std::fs::File::create(&path).expect("a file");
    let piece = vec![1; 1 << 20];
    while file.write_all(&piece).is_ok() {}
    path
}

#[test]
fn full_by_a_foreign_file() {
    let Some((mut cluster, _disks)) = start(1, 300) else {
        return;
    };
    let data_dir = cluster.members[0].data_dir.clone();
    let first = cluster.members[0].client;
    let puts = put_many(&[first], 0, 200, 100_000, 1);
    assert_eq!(puts.acked, 200, "{puts:?}");
    let foreign = fill(&data_dir);
    // Whether it went on or was begun anew: it answers, refuses, and takes deletions.
    let refuses = || {
        let text = etcdctl::run(first, &["put", "k", "v"], b"").text();
        if text.contains("database space exceeded") {
            Ok(())
        } else {
            Err(text)
        }
    };
    poll::until(HEAL_LIMIT, refuses).expect("no space");
    let key = "round 000 key 0000000";
    assert!(insist(first, &["get", key, "--keys-only"]).starts_with(key));
    insist(first, &["del", key]);
    assert_eq!(insist(first, &["get", key]), "");
    all_run(&mut cluster);
    // The same after a restart on the full disk.
    cluster.members[0].kill();
    cluster.members[0].start();
    poll::until(HEAL_LIMIT, refuses).expect("no space after a restart");
    delete_all(first);
    std::fs::remove_file(foreign).expect("removed");
    heals(&cluster);
    all_run(&mut cluster);
}

#[test]
fn read_only_disks_are_said_so() {
    let Some((mut cluster, disks)) = start(1, 220) else {
        return;
    };
    let member = &mut cluster.members[0];
    stdout(member.client, &["put", "k", "v"]);
    member.terminate();
    let remount = |how: &str| {
        let mut mount = Command::new("mount");
        mount.args(["-o", how]).arg(&disks.0[0]);
        assert!(mount.status().expect("mount").success());
    };
    remount("remount,ro");
    member.start();
    let ended = || {
        if member.is_running() {
            Err("it runs")
        } else {
            Ok(())
        }
    };
    poll::until(HEAL_LIMIT, ended).expect("a member that cannot write does not start");
    assert!(
        member.log_text().contains("Read-only file system"),
        "{}",
        member.log_text()
    );
    member.kill();
    remount("remount,rw");
    member.start_ready();
    assert_eq!(stdout(member.client, &["get", "k", "--print-value-only"]), "v\n");
}
