//! `--force-new-cluster` and `--wal-dir`: what an operator does after a majority is lost, and with the log on another disk.

use crate::support::cluster::Cluster;
use crate::support::{self, etcdctl};
use crate::{assert_refused, cluster_id, get, put, run_to_exit};

#[test]
fn what_is_left_of_a_cluster_goes_on_alone_with_everything_and_takes_new_members() {
    let mut cluster = Cluster::start(&support::callboard_bin(), 3);
    let before = cluster_id(&cluster.members[0]);
    for number in 0..20 {
        put(&cluster.members[0], &format!("key{number}"), "value");
    }
    for member in &mut cluster.members {
        member.kill();
    }
    let mut survivor = cluster.members.remove(0);
    survivor.arguments.push("--force-new-cluster".into());
    survivor.start_ready();
    assert_eq!(cluster_id(&survivor), before, "it is the same cluster");
    for number in 0..20 {
        assert_eq!(get(&survivor, &format!("key{number}")).as_deref(), Some("value"));
    }
    let listed = etcdctl::stdout(survivor.client, &["member", "list"]);
    assert_eq!(listed.trim().lines().count(), 1, "{listed}");
    put(&survivor, "after", "value");
    survivor.terminate();
    survivor.arguments.pop();
    survivor.start_ready();
    assert_eq!(get(&survivor, "after").as_deref(), Some("value"));

    // One that was lost is no member any more; with an empty directory it can be added again.
    let mut lost = cluster.members.remove(0);
    lost.start();
    let ended = lost.wait_for_end();
    assert!(!ended.success(), "{ended}");
    let text = lost.log_text();
    assert!(text.contains("permanently removed"), "{text}");
    std::fs::remove_dir_all(&lost.data_dir).expect("removed");
    let url = format!("http://{}", lost.peer);
    etcdctl::stdout(
        survivor.client,
        &["member", "add", &lost.name, "--peer-urls", &url],
    );
    let both = format!("{}=http://{},{}={url}", survivor.name, survivor.peer, lost.name);
    lost.arguments = support::cluster::arguments(&lost, &both, "callboard-test");
    let place = lost.arguments.iter().position(|argument| argument == "new");
    lost.arguments[place.expect("--initial-cluster-state new")] = "existing".into();
    lost.start_ready();
    assert_eq!(get(&lost, "after").as_deref(), Some("value"));
}

#[test]
fn a_log_on_another_disk_is_missed_if_the_flag_is_and_can_be_moved() {
    let mut cluster = Cluster::start(&support::callboard_bin(), 1);
    let mut member = cluster.members.pop().expect("one member");
    put(&member, "key", "value");
    member.terminate();
    let log_directory = member.data_dir.with_extension("log-disk");
    std::fs::create_dir(&log_directory).expect("made");
    member
        .arguments
        .push(format!("--wal-dir={}", log_directory.display()).into());
    let missing = "there is no log of this member in";
    assert_refused(&run_to_exit(&member), &[missing]);
    std::fs::rename(member.data_dir.join("log"), log_directory.join("log")).expect("moved");
    member.start_ready();
    assert_eq!(get(&member, "key").as_deref(), Some("value"));
    put(&member, "key", "later");
    member.kill();
    let flag = member.arguments.pop().expect("--wal-dir");
    assert_refused(&run_to_exit(&member), &[missing]);
    member.arguments.push(flag);
    member.start_ready();
    assert_eq!(get(&member, "key").as_deref(), Some("later"));
    assert!(!member.data_dir.join("log").exists());
}
