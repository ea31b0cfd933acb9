//! Clusters of cores whose members change.

use super::cluster_tests::led_by_one;
use super::testing::{Cluster, ELECTION_TICKS, TestMember};
use crate::proto::log::command::Request;
use crate::proto::log::member_change::Change;
use crate::proto::log::{Command, Member, MemberChange};
use crate::proto::peer;
use crate::state::entry::ReadableCommands;
use raft::eraftpb::MessageType;

fn change(change: Change) -> MemberChange {
    MemberChange {
        change: Some(change),
        learners_max: 1,
        ..MemberChange::default()
    }
}

/// Adds a learner.
fn learner(id: u64) -> MemberChange {
    change(Change::Add(Member {
        id,
        is_learner: true,
        ..Member::default()
    }))
}

fn propose(cluster: &mut Cluster, id: u64, change: &MemberChange) -> bool {
    let command = Command {
        origin: 7,
        request: Some(Request::MemberChange(change.clone())),
        ..Command::default()
    };
    let commands = ReadableCommands::of(&command).expect("it is flat");
    cluster.with(id, |member| member.core.propose_member_change(change, &commands))
}

fn conf_state(cluster: &mut Cluster, id: u64) -> peer::ConfState {
    cluster.member(id).views().load().cluster.conf_state.clone()
}

#[test]
fn one_change_at_a_time_and_each_is_taken_up_once_it_is_applied() {
    let mut cluster = led_by_one(3);
    assert!(
        !propose(&mut cluster, 2, &change(Change::Remove(3))),
        "it does not lead"
    );
    assert!(propose(&mut cluster, 1, &change(Change::Remove(3))));
    assert!(cluster.member(1).core.is_changing_members());
    assert!(!propose(&mut cluster, 1, &change(Change::Remove(2))));
    cluster.settle();
    assert!(!cluster.member(1).core.is_changing_members());
    for id in [1, 2] {
        assert_eq!(conf_state(&mut cluster, id).voters, [1, 2]);
    }
    // The remaining members decide without the removed one.
    cluster.cut_off.insert(3);
    assert!(cluster.propose(1, "a"));
    cluster.settle();
    assert_eq!(cluster.member(1).payloads().len(), 2);
    assert!(propose(&mut cluster, 1, &change(Change::Remove(2))));
    cluster.settle();
    assert!(cluster.member(1).core.is_single_voter());
    assert!(!propose(&mut cluster, 1, &MemberChange::default()));
}

#[test]
fn who_is_removed_is_told_once_the_leaders_disk_knows() {
    let mut cluster = led_by_one(3);
    // The others have it on disk, so it is committed.
    cluster.stuck.insert(1);
    assert!(propose(&mut cluster, 1, &change(Change::Remove(3))));
    cluster.settle();
    let removal = cluster.member(1).core.last_index();
    assert_eq!(cluster.member(1).core.committed(), removal);
    cluster.pass(ELECTION_TICKS);
    for id in [2, 3] {
        assert!(cluster.member(id).core.committed() < removal);
    }
    assert_eq!(conf_state(&mut cluster, 1).voters, [1, 2, 3]);
    cluster.stuck.clear();
    cluster.settle();
    for id in [1, 2, 3] {
        assert_eq!(conf_state(&mut cluster, id).voters, [1, 2]);
    }
}

#[test]
fn a_leader_does_not_take_up_its_own_removal_while_no_other_one_knows() {
    let mut cluster = led_by_one(2);
    assert!(propose(&mut cluster, 1, &change(Change::Remove(1))));
    let removal = cluster.member(1).core.last_index();
    while cluster.member(1).core.committed() < removal {
        for id in [1, 2] {
            cluster.with(id, TestMember::persist);
        }
        cluster.deliver();
    }
    cluster.cut_off.insert(2);
    cluster.pass(4 * ELECTION_TICKS);
    assert!(!cluster.member(1).leads(), "it hears nobody");
    assert_eq!(conf_state(&mut cluster, 1).voters, [1, 2]);
    cluster.cut_off.clear();
    cluster.pass(4 * ELECTION_TICKS);
    assert!(cluster.member(2).leads());
    for id in [1, 2] {
        assert_eq!(conf_state(&mut cluster, id).voters, [2]);
    }
}

#[test]
fn what_the_state_refuses_changes_nothing_for_raft() {
    let mut cluster = led_by_one(2);
    assert!(propose(&mut cluster, 1, &change(Change::Remove(9))));
    cluster.settle();
    let again = change(Change::Add(Member {
        id: 2,
        ..Member::default()
    }));
    assert!(propose(&mut cluster, 1, &again));
    cluster.settle();
    assert_eq!(conf_state(&mut cluster, 1).voters, [1, 2]);
    cluster.cut_off.insert(2);
    assert!(cluster.propose(1, "a"));
    cluster.settle();
    assert!(cluster.member(1).payloads().len() < 3, "two of two are needed");
}

#[test]
fn a_learner_has_no_vote_until_it_is_promoted() {
    let mut cluster = led_by_one(3);
    assert!(propose(&mut cluster, 1, &change(Change::Remove(3))));
    cluster.settle();
    assert!(propose(&mut cluster, 1, &learner(4)));
    cluster.settle();
    let made = conf_state(&mut cluster, 1);
    assert_eq!((made.voters, made.learners), (vec![1, 2], vec![4]));
    assert!(cluster.propose(1, "a"));
    cluster.settle();
    let committed = cluster.member(1).payloads().len();
    assert!(propose(&mut cluster, 1, &change(Change::Promote(4))));
    cluster.settle();
    assert_eq!(conf_state(&mut cluster, 1).voters, [1, 2, 4]);
    cluster.cut_off.insert(2);
    assert!(cluster.propose(1, "b"));
    cluster.settle();
    assert_eq!(
        cluster.member(1).payloads().len(),
        committed + 1,
        "two of three are needed"
    );
}

#[test]
fn who_leads_alone_is_heard_once_its_term_is_on_disk() {
    let mut cluster = led_by_one(2);
    assert!(propose(&mut cluster, 1, &change(Change::Remove(2))));
    cluster.settle();
    assert!(propose(&mut cluster, 1, &learner(3)));
    cluster.settle();
    let later_term = peer::Message {
        r#type: MessageType::MsgHeartbeatResponse as i32,
        from: 3,
        to: 1,
        term: cluster.member(1).term() + 1,
        ..peer::Message::default()
    };
    cluster.with(1, |member| member.core.step(later_term));
    assert!(!cluster.member(1).leads());
    cluster.settle();
    while !cluster.member(1).leads() {
        cluster.tick(1);
    }
    assert!(cluster.network.is_empty(), "{:?}", cluster.network);
    cluster.with(1, TestMember::persist);
    assert!(!cluster.network.is_empty());
}

#[test]
fn a_leader_that_was_removed_leads_no_more() {
    let mut cluster = led_by_one(3);
    assert!(propose(&mut cluster, 1, &change(Change::Remove(1))));
    assert!(cluster.propose(1, "what it still has under way"));
    cluster.settle();
    assert!(!cluster.member(1).leads());
    cluster.pass(3 * ELECTION_TICKS);
    let [leader] = cluster.leaders()[..] else {
        panic!("one of the others leads");
    };
    assert_ne!(leader, 1);
    assert!(cluster.propose(leader, "a"));
    cluster.settle();
    assert_eq!(conf_state(&mut cluster, leader).voters, [2, 3]);
}
