//! Clusters of cores: elections, replication, reads and snapshots. The test controls every write and message.

use super::core::ReadContext;
use super::start_check::Word;
use super::testing::{Cluster, ELECTION_TICKS, TestMember, put};
use crate::ids::{LogIndex, MemberId};
use crate::proto::peer::{self, Recollection};
use crate::requests::Successor;
use raft::eraftpb::MessageType;

const QUESTION: ReadContext = ReadContext { nonce: 5, count: 1 };

const NOBODY: [u64; 0] = [];

pub(super) fn led_by_one(size: u64) -> Cluster {
    let mut cluster = Cluster::new(size);
    cluster.elect(1);
    assert_eq!(cluster.leaders(), [1]);
    cluster
}

fn is(message: &peer::Message, kind: MessageType) -> bool {
    message.r#type == kind as i32
}

#[test]
fn the_shortest_timeout_wins_the_election() {
    // What each member draws; which member leads in the end.
    let cases: [(&[u64], u64); 4] = [
        (&[0], 1),
        (&[9, 4, 14], 2),
        (&[9, 14, 4], 3),
        (&[20, 15, 10, 5, 24], 4),
    ];
    for (draws, leader) in cases {
        let mut cluster = Cluster::drawing(draws.len() as u64, |id| {
            let drawn = draws[id as usize - 1];
            Box::new(move |_| drawn)
        });
        cluster.pass(ELECTION_TICKS - 1);
        assert_eq!(
            cluster.leaders(),
            NOBODY,
            "nobody stands before the least timeout: {draws:?}"
        );
        cluster.pass(ELECTION_TICKS);
        assert_eq!(cluster.leaders(), [leader], "{draws:?}");
        for id in cluster.ids() {
            let leadership = cluster.member(id).core.leadership();
            assert_eq!(leadership.leader, MemberId(leader), "{draws:?}");
            assert_eq!(leadership.term.0, 2, "one election suffices: {draws:?}");
        }
    }
}

#[test]
fn timeouts_are_drawn_anew_until_somebody_wins() {
    // Both members start elections at the same moments until their draws differ.
    let mut cluster = Cluster::drawing(2, |id| {
        let mut draws = if id == 1 {
            vec![20, 3, 3, 3]
        } else {
            vec![4, 3, 3, 3]
        };
        Box::new(move |_| draws.pop().unwrap_or(id))
    });
    cluster.pass(6 * ELECTION_TICKS);
    assert_eq!(cluster.leaders().len(), 1);
}

#[test]
fn an_entry_is_committed_once_a_quorum_has_it_on_disk() {
    // Members whose disks hang (the leader is 1); whether the entry is committed.
    let cases: [(u64, &[u64], bool); 8] = [
        (1, &[], true),
        (1, &[1], false),
        (3, &[2], true),
        (3, &[2, 3], false),
        (3, &[1], true),
        (3, &[1, 2], false),
        (5, &[4, 5], true),
        (5, &[1, 4, 5], false),
    ];
    for (size, stuck, committed) in cases {
        let mut cluster = led_by_one(size);
        let before = cluster.member(1).core.committed();
        cluster.stuck = stuck.iter().copied().collect();
        assert!(cluster.propose(1, "k"));
        cluster.settle();
        let after = cluster.member(1).core.committed();
        assert_eq!(
            after == before.next(),
            committed,
            "{size} members, stuck: {stuck:?}"
        );
        cluster.stuck.clear();
        cluster.pass(10);
        for id in cluster.ids() {
            assert_eq!(
                cluster.member(id).payloads(),
                [put("k")],
                "{size} members, stuck: {stuck:?}"
            );
        }
    }
}

#[test]
fn a_follower_answers_only_what_is_on_its_disk() {
    let mut cluster = led_by_one(3);
    cluster.stuck.insert(2);
    cluster.propose(1, "k");
    cluster.deliver();
    let is_answer =
        |message: &peer::Message| message.from == 2 && is(message, MessageType::MsgAppendResponse);
    assert!(!cluster.network.iter().any(is_answer));
    cluster.with(2, TestMember::persist);
    assert!(cluster.network.iter().any(is_answer));
}

#[test]
fn a_vote_is_given_only_once_it_is_on_disk() {
    let mut cluster = Cluster::new(3);
    cluster.stuck.insert(2);
    cluster.cut_off.insert(3);
    cluster.pass(2 * ELECTION_TICKS);
    assert_eq!(cluster.leaders(), NOBODY);
    assert_eq!(cluster.member(2).term(), 2, "the vote was asked for");
    assert!(!cluster.member(2).writes.is_empty());
    cluster.stuck.clear();
    cluster.settle();
    assert_eq!(cluster.leaders(), [1]);
}

#[test]
fn a_leader_sends_while_its_disk_writes() {
    let mut cluster = led_by_one(3);
    cluster.stuck.insert(1);
    cluster.propose(1, "k");
    let appends =
        |message: &&peer::Message| is(message, MessageType::MsgAppend) && !message.entries.is_empty();
    assert_eq!(cluster.network.iter().filter(appends).count(), 2);
    assert_eq!(cluster.member(1).writes.len(), 1, "its own write is not done");
    cluster.settle();
    let leader = cluster.member(1);
    assert_eq!(
        leader.core.committed(),
        leader.core.last_index(),
        "the followers are a quorum"
    );
    assert_eq!(
        leader.payloads(),
        Vec::<Vec<u8>>::new(),
        "not applied before it is on the own disk"
    );
    cluster.stuck.clear();
    cluster.settle();
    assert_eq!(cluster.member(1).payloads(), [put("k")]);
}

#[test]
fn a_read_needs_a_quorum_and_a_commit_of_the_term() {
    let mut cluster = Cluster::new(3);
    assert!(!cluster.member(1).core.can_read(), "no leader");
    // The leader's first entry stays uncommitted as long as no follower writes.
    for _ in 0..2 * ELECTION_TICKS {
        cluster.tick(1);
        if cluster.member(1).leads() {
            break;
        }
        cluster.settle();
        cluster.stuck = if cluster.member(1).leads() {
            [2, 3].into()
        } else {
            [].into()
        };
    }
    cluster.stuck = [2, 3].into();
    cluster.settle();
    assert!(cluster.member(1).leads());
    if !cluster.member(1).core.can_read() {
        cluster.with(1, |member| member.core.read_index(QUESTION));
        cluster.settle();
        assert_eq!(cluster.member(1).reads, []);
    }
    cluster.stuck.clear();
    cluster.pass(10);
    assert!(cluster.member(1).core.can_read());
    let committed = cluster.member(1).core.committed();
    cluster.cut_off = [2, 3].into();
    let lonely = ReadContext { count: 2, ..QUESTION };
    cluster.with(1, |member| member.core.read_index(lonely));
    cluster.settle();
    assert_eq!(cluster.member(1).reads, [], "no quorum has answered");
    cluster.cut_off.clear();
    let question = ReadContext { count: 3, ..QUESTION };
    for id in [1, 2] {
        let question = ReadContext {
            nonce: id,
            ..question
        };
        cluster.with(id, |member| member.core.read_index(question));
        // A member that is alone is not confirmed. Requests behind its own wait for at most one tick.
        cluster.pass(1);
        assert_eq!(
            cluster.member(id).reads.pop(),
            Some((question, committed)),
            "asked by member {id}"
        );
    }
}

#[test]
fn questions_that_come_while_one_is_confirmed_are_confirmed_together() {
    let mut cluster = led_by_one(3);
    let asked = |nonce, count| ReadContext { nonce, count };
    cluster.with(1, |member| member.core.read_index(asked(1, 1)));
    let first = cluster.network.clone();
    for (id, count) in [(1, 2), (2, 1), (3, 1)] {
        cluster.with(id, |member| member.core.read_index(asked(id, count)));
    }
    let heartbeats = |cluster: &Cluster| {
        let kinds = cluster.network.iter().map(|message| message.r#type);
        kinds
            .filter(|kind| *kind == MessageType::MsgHeartbeat as i32)
            .count()
    };
    assert_eq!(heartbeats(&cluster), 2, "for the first question alone");
    assert_eq!(first.len(), 2);
    cluster.settle();
    let committed = cluster.member(1).core.committed();
    assert_eq!(
        cluster.member(1).reads,
        [(asked(1, 1), committed), (asked(1, 2), committed)]
    );
    for id in [2, 3] {
        assert_eq!(cluster.member(id).reads, [(asked(id, 1), committed)]);
    }
}

#[test]
fn an_old_question_is_never_answered() {
    let mut cluster = led_by_one(3);
    cluster.with(1, |member| member.core.read_index(QUESTION));
    cluster.network.clear();
    // The leader changes while the question is under way.
    cluster.cut_off.insert(1);
    cluster.pass(4 * ELECTION_TICKS);
    cluster.cut_off.clear();
    cluster.pass(2 * ELECTION_TICKS);
    assert_ne!(cluster.leaders(), [1]);
    assert_eq!(cluster.member(1).reads, []);
    // A request that was answered is not answered again, even if messages are repeated.
    let question = ReadContext { count: 2, ..QUESTION };
    cluster.with(1, |member| member.core.read_index(question));
    let asked = cluster.network.clone();
    cluster.settle();
    assert_eq!(cluster.member(1).reads.len(), 1);
    cluster.cut_off.insert(cluster.leaders()[0]);
    cluster.network = asked;
    cluster.settle();
    assert_eq!(cluster.member(1).reads.len(), 1);
}

#[test]
fn what_a_deposed_leader_had_alone_is_replaced() {
    let mut cluster = led_by_one(3);
    cluster.propose(1, "both have this");
    cluster.settle();
    cluster.cut_off.insert(1);
    for key in ["lost", "lost too"] {
        cluster.propose(1, key);
    }
    cluster.settle();
    cluster.network.clear();
    cluster.pass(4 * ELECTION_TICKS);
    let leader = cluster.leaders()[0];
    assert_ne!(leader, 1);
    cluster.propose(leader, "kept");
    cluster.settle();
    cluster.cut_off.clear();
    cluster.pass(20);
    let replaced = |cluster: &mut Cluster, id| cluster.member(id).suffixes_replaced;
    assert_eq!(replaced(&mut cluster, 1), 1);
    assert_eq!(replaced(&mut cluster, leader), 0);
    let expected = [put("both have this"), put("kept")];
    for id in cluster.ids() {
        assert_eq!(cluster.member(id).payloads(), expected, "member {id}");
        let (log, last) = (
            cluster.member(id).log.clone(),
            cluster.member(id).core.last_index(),
        );
        let on_disk = log.read(LogIndex(4), last.next(), u64::MAX).expect("readable");
        let payloads = on_disk.into_iter().filter(|entry| !entry.data.is_empty());
        let payloads: Vec<_> = payloads.map(|entry| entry.data.to_vec()).collect();
        assert_eq!(payloads, expected, "member {id}'s disk");
    }
}

#[test]
fn a_single_voter_decides_alone() {
    let mut cluster = Cluster::new(1);
    assert!(cluster.member(1).core.is_single_voter());
    cluster.with(1, |member| member.core.campaign());
    assert!(cluster.member(1).leads(), "there is nobody to ask");
    cluster.propose(1, "k");
    assert_eq!(
        cluster.member(1).payloads(),
        Vec::<Vec<u8>>::new(),
        "not on disk yet"
    );
    cluster.settle();
    assert_eq!(cluster.member(1).payloads(), [put("k")]);
    cluster.with(1, |member| member.core.read_index(QUESTION));
    let committed = cluster.member(1).core.committed();
    assert_eq!(cluster.member(1).reads, [(QUESTION, committed)]);
    cluster.pass(4 * ELECTION_TICKS);
    assert!(cluster.member(1).leads(), "it does not lose its quorum");
    assert!(!Cluster::new(3).member(1).core.is_single_voter());
}

#[test]
fn a_member_that_comes_back_does_not_disturb() {
    let mut cluster = led_by_one(3);
    let term = cluster.member(1).term();
    cluster.cut_off.insert(3);
    cluster.pass(8 * ELECTION_TICKS);
    assert_eq!(
        cluster.member(3).term(),
        term,
        "it asks before it raises its term"
    );
    assert_eq!(cluster.member(3).core.leadership().leader, MemberId(0));
    cluster.cut_off.clear();
    cluster.pass(2 * ELECTION_TICKS);
    for id in cluster.ids() {
        let leadership = cluster.member(id).core.leadership();
        assert_eq!(
            (leadership.leader, leadership.term.0),
            (MemberId(1), term),
            "member {id}"
        );
    }
}

#[test]
fn a_leader_without_a_quorum_steps_down() {
    // Cluster size; members that are cut off; whether member 1 still leads.
    let cases: [(u64, &[u64], bool); 5] = [
        (3, &[2], true),
        (3, &[2, 3], false),
        (3, &[1], false),
        (5, &[2, 3], true),
        (5, &[2, 3, 4], false),
    ];
    for (size, cut_off, leads) in cases {
        let mut cluster = led_by_one(size);
        cluster.cut_off = cut_off.iter().copied().collect();
        for _ in 0..2 * ELECTION_TICKS {
            cluster.tick(1);
            cluster.settle();
        }
        assert_eq!(
            cluster.member(1).leads(),
            leads,
            "{size} members without {cut_off:?}"
        );
        let refused = !cluster.propose(1, "k");
        assert_eq!(refused, !leads);
    }
}

#[test]
fn leadership_is_handed_to_the_member_that_is_furthest() {
    let mut cluster = led_by_one(3);
    cluster.cut_off.insert(3);
    cluster.propose(1, "k");
    cluster.settle();
    cluster.with(1, |member| member.core.hand_over_leadership(Successor::Furthest));
    assert!(!cluster.propose(1, "refused meanwhile"));
    cluster.settle();
    assert_eq!(cluster.leaders(), [2]);
}

/// A change to what a member remembers of another, and whether the other may continue when it hears that.
type Change = (&'static str, fn(&mut Recollection), bool);

#[test]
fn an_older_copy_is_told_by_what_it_has_promised() {
    let changes: [Change; 8] = [
        ("nothing", |_| (), true),
        (
            "an entry more",
            |promised| promised.acknowledged_index += 1,
            false,
        ),
        (
            "another entry there",
            |promised| promised.acknowledged_term += 1,
            false,
        ),
        ("an entry less", |promised| promised.acknowledged_index -= 1, true),
        (
            "an entry behind the cut",
            |promised| promised.acknowledged_index = 2,
            true,
        ),
        ("a later term", |promised| promised.term += 1, false),
        ("a vote of this term", |promised| promised.voted = true, false),
        (
            "an earlier term",
            |promised| {
                promised.term -= 1;
                promised.voted = true;
                promised.acknowledged_index += 100;
            },
            true,
        ),
    ];
    for (what, change, goes_on) in changes {
        let mut cluster = led_by_one(3);
        cluster.propose(1, "a");
        cluster.settle();
        cluster.pass(10);
        // Member 2 has not voted for member 3. Apart from that, member 3 would remember what member 1 does.
        let mut promised = cluster.member(1).core.recollection(MemberId(2));
        assert!(promised.voted && promised.acknowledged_index == cluster.member(2).core.last_index().0);
        promised.voted = false;
        change(&mut promised);
        let heard = cluster
            .member(2)
            .core
            .hear(MemberId(3), Word::Remembers(promised));
        assert_eq!(heard.is_ok(), goes_on, "{what}: {heard:?}");
        assert_eq!(cluster.member(2).core.takes_part(), goes_on, "{what}");
        if !goes_on {
            cluster.pass(8 * ELECTION_TICKS);
            let from_it = |message: &peer::Message| message.from == 2;
            assert!(!cluster.network.iter().any(from_it), "{what}: it goes on");
        }
    }
}

#[test]
fn what_is_promised_is_remembered_by_leaders_and_followers() {
    let mut cluster = led_by_one(3);
    cluster.propose(1, "a");
    cluster.settle();
    cluster.pass(10);
    let (term, last) = (cluster.member(1).term(), cluster.member(1).core.last_index().0);
    for (at, of, voted) in [(1, 2, true), (1, 3, true), (2, 1, false), (3, 1, false)] {
        let promised = cluster.member(at).core.recollection(MemberId(of));
        let expected = Recollection {
            term,
            voted,
            acknowledged_index: last,
            acknowledged_term: term,
            last_index: last,
            last_term: term,
            hello: None,
            voters: vec![1, 2, 3],
            applied_index: promised.applied_index,
        };
        assert_eq!(promised, expected, "{of} to {at}");
        let heard = cluster
            .member(of)
            .core
            .hear(MemberId(at), Word::Remembers(promised.clone()));
        assert_eq!(heard, Ok(()), "it keeps what it has promised");
        // A copy of its disk from before it did anything.
        let mut copy = TestMember::new(of, &[1, 2, 3], Box::new(|_| 0));
        let heard = copy.core.hear(MemberId(at), Word::Remembers(promised));
        assert!(heard.is_err(), "{of} to {at}");
    }
    assert_eq!(
        cluster.member(2).core.recollection(MemberId(3)).term,
        0,
        "never heard"
    );
    // A leader does not promise what is not on its own disk.
    cluster.stuck.insert(1);
    cluster.propose(1, "b");
    cluster.pass(10);
    assert_eq!(
        cluster
            .member(2)
            .core
            .recollection(MemberId(1))
            .acknowledged_index,
        last
    );
    assert_eq!(
        cluster
            .member(1)
            .core
            .recollection(MemberId(2))
            .acknowledged_index,
        last + 1
    );
}
