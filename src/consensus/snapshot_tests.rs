//! Members that are brought up to date by snapshots.

use super::cluster_tests::led_by_one;
use super::testing::{Cluster, ELECTION_TICKS, TestMember, put};
use crate::ids::{LogIndex, MemberId};
use crate::proto::peer;
use raft::eraftpb::MessageType;

/// Member 3 misses entries that the others no longer have; returns the announcement of the snapshot that it needs.
fn lagging(cluster: &mut Cluster) -> peer::Message {
    cluster.cut_off.insert(3);
    for key in ["a", "b", "c"] {
        cluster.propose(1, key);
        cluster.settle();
    }
    for id in [1, 2] {
        let applied = cluster.member(id).core.committed();
        let cut = cluster
            .member(id)
            .core
            .store()
            .cut(applied)
            .expect("entries to cut");
        let log = &cluster.member(id).log;
        log.cut(cut).expect("written");
        log.sync().expect("synced");
        log.drop_cut().expect("dropped");
    }
    cluster.cut_off.clear();
    cluster.network.clear();
    for _ in 0..4 * ELECTION_TICKS {
        for id in cluster.ids() {
            cluster.tick(id);
        }
        cluster.settle();
        let announced = cluster.snapshots.pop();
        if let Some(message) = announced {
            return message;
        }
    }
    panic!("the leader announces no snapshot");
}

#[test]
fn a_follower_behind_the_cut_gets_a_snapshot() {
    let mut cluster = led_by_one(3);
    let announcement = lagging(&mut cluster);
    assert_eq!((announcement.from, announcement.to), (1, 3));
    let index = LogIndex(
        announcement
            .snapshot
            .as_ref()
            .map_or(0, |snapshot| snapshot.index),
    );
    let view = cluster.member(1).core.store().take_snapshot_view(index);
    assert_eq!(view.map(|view| view.applied_index()), Some(index));
    let source = cluster.member(1).views();
    cluster.with(3, |member| member.core.step(announcement.clone()));
    let follower = cluster.member(3);
    let restore = follower.restore.as_ref().expect("it is taken");
    assert_eq!(restore.cut.index, index);
    assert_eq!(restore.hard_state.commit, index.0);
    assert!(
        follower.writes.is_empty(),
        "nothing may reach the disk before the log is reset"
    );
    // Its clock stands still, and a second snapshot is ignored.
    cluster.with(3, |member| {
        (0..4 * ELECTION_TICKS).for_each(|_| member.core.tick());
        member.core.step(announcement);
    });
    let timeout_now = peer::Message {
        r#type: MessageType::MsgTimeoutNow as i32,
        to: 3,
        from: 1,
        term: cluster.member(1).term(),
        ..peer::Message::default()
    };
    cluster.with(3, |member| member.core.step(timeout_now));
    let answered = |message: &peer::Message| message.from == 3;
    assert!(!cluster.network.iter().any(answered), "nothing is in place yet");
    cluster.with(3, |member| member.replace_state(&source));
    assert!(!cluster.network.iter().any(answered), "its log is not on disk");
    cluster.with(3, TestMember::reset_log);
    assert!(cluster.network.iter().any(answered));
    cluster.with(1, |member| member.core.report_snapshot(MemberId(3), true));
    cluster.propose(1, "d");
    cluster.pass(10);
    assert_eq!(cluster.member(3).payloads(), [put("d")]);
    assert_eq!(
        cluster.member(3).machine.applied_index(),
        cluster.member(1).machine.applied_index()
    );
    let recovered = cluster
        .member(3)
        .log
        .read(index.next(), index.next().next(), u64::MAX);
    assert_eq!(
        recovered.expect("readable").len(),
        1,
        "the log begins behind the snapshot"
    );
}

#[test]
fn a_snapshot_that_is_lost_is_sent_again() {
    let mut cluster = led_by_one(3);
    lagging(&mut cluster);
    cluster.pass(2 * ELECTION_TICKS);
    assert!(
        cluster.snapshots.is_empty(),
        "one is under way as far as the leader knows"
    );
    cluster.with(1, |member| member.core.report_snapshot(MemberId(3), false));
    cluster.pass(2 * ELECTION_TICKS);
    assert!(!cluster.snapshots.is_empty());
}

#[test]
fn entries_behind_a_snapshot_are_written_behind_it() {
    let mut cluster = led_by_one(3);
    let announcement = lagging(&mut cluster);
    let source = cluster.member(1).views();
    cluster.with(3, |member| member.core.step(announcement.clone()));
    let snapshot = announcement.snapshot.expect("a snapshot");
    let append = peer::Message {
        r#type: MessageType::MsgAppend as i32,
        to: 3,
        from: 1,
        term: announcement.term,
        log_term: snapshot.term,
        index: snapshot.index,
        entries: vec![peer::Entry {
            term: announcement.term,
            index: snapshot.index + 1,
            ..peer::Entry::default()
        }],
        ..peer::Message::default()
    };
    cluster.with(3, |member| member.core.step(append));
    let member = cluster.member(3);
    let restore_number = member.restore.as_ref().map(|restore| restore.number);
    assert_eq!(member.writes.len(), 1);
    assert!(Some(member.writes[0].number) > restore_number);
    cluster.with(3, |member| {
        member.replace_state(&source);
        member.reset_log();
    });
    cluster.with(3, TestMember::persist);
    assert_eq!(cluster.member(3).core.last_index(), LogIndex(snapshot.index + 1));
}
