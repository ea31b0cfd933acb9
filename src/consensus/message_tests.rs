//! A member survives whatever a peer sends: arbitrary messages from a known peer, between ticks, writes and proposals, never
//! make raft panic.

use super::core::ReadContext;
use super::testing::{ELECTION_TICKS, TestMember};
use crate::proto::peer;
use crate::requests::Successor;
use proptest::prelude::*;
use raft::eraftpb::MessageType;

/// A number near what the member holds, or far from it.
#[derive(Clone, Copy, Debug)]
enum Number {
    Near(i64),
    Far(u64),
}

impl Number {
    fn resolve(self, base: u64) -> u64 {
        match self {
            Self::Near(offset) => base.saturating_add_signed(offset),
            Self::Far(number) => number,
        }
    }
}

/// Index, term, voters, learners, and whether the configuration is a joint one.
type DraftSnapshot = (Number, Number, Vec<u64>, Vec<u64>, bool);

#[derive(Clone, Debug)]
struct Draft {
    kind: i32,
    term: Number,
    log_term: Number,
    index: Number,
    commit: Number,
    commit_term: Number,
    reject: bool,
    reject_hint: Number,
    request_snapshot: u64,
    /// Whether the log term is the one that the member has at the message's index.
    fits: bool,
    entries: Vec<(Number, Number, i32)>,
    /// Whether entries are numbered as they should be.
    in_order: bool,
    snapshot: Option<DraftSnapshot>,
    context: Vec<u8>,
    priority: i64,
}

#[derive(Clone, Debug)]
enum Step {
    Message(Box<Draft>),
    /// Responses that make the member win if it is a candidate.
    Votes,
    Ticks(u64),
    Persist,
    Apply,
    Propose,
    Read(u64),
    Restore,
    HandOver,
}

fn number() -> impl Strategy<Value = Number> {
    prop_oneof![
        8 => (-3_i64..4).prop_map(Number::Near),
        2 => (0_u64..4).prop_map(Number::Far),
        1 => prop_oneof![Just(u64::MAX), Just(u64::MAX / 4), Just(u64::MAX / 2), any::<u64>()].prop_map(Number::Far),
    ]
}

fn draft() -> impl Strategy<Value = Draft> {
    let numbers = (number(), number(), number(), number(), number(), number());
    let members = || prop::collection::vec(0_u64..5, 0..4);
    let snapshot = (
        number(),
        number(),
        prop_oneof![Just(vec![1, 2, 3]), members()],
        prop_oneof![Just(vec![]), members()],
        any::<bool>(),
    );
    let entries = prop::collection::vec((number(), number(), 0_i32..4), 0..4);
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    let context = prop_oneof![
        Just(b"CampaignTransfer".to_vec()),
        prop::collection::vec(any::<u8>(), 0..20)
    ];
    let rest = (
        0_i32..22,
        prop_oneof![9 => Just(0), 1 => any::<u64>()],
        context,
        any::<i64>(),
    );
    (numbers, prop::option::of(snapshot), entries, flags, rest).prop_map(
        |(
            numbers,
            snapshot,
            entries,
            (reject, fits, in_order),
            (kind, request_snapshot, context, priority),
        )| {
            let (term, log_term, index, commit, commit_term, reject_hint) = numbers;
            Draft {
                kind,
                term,
                log_term,
                index,
                commit,
                commit_term,
                reject,
                reject_hint,
                request_snapshot,
                fits,
                entries,
                in_order,
                snapshot,
                context,
                priority,
            }
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => draft().prop_map(|draft| Step::Message(Box::new(draft))),
        4 => Just(Step::Votes),
        4 => (1..3 * ELECTION_TICKS).prop_map(Step::Ticks),
        4 => Just(Step::Persist),
        4 => Just(Step::Apply),
        2 => Just(Step::Propose),
        2 => (0_u64..3).prop_map(Step::Read),
        1 => Just(Step::Restore),
        1 => Just(Step::HandOver),
    ]
}

/// The draft as a message, relative to the member's state.
fn message(member: &mut TestMember, draft: Draft) -> peer::Message {
    let (term, last) = (member.term(), member.core.last_index().0);
    let index = draft.index.resolve(last);
    let known = raft::Storage::term(member.core.store(), index).unwrap_or(0);
    let log_term = if draft.fits {
        known
    } else {
        draft.log_term.resolve(term)
    };
    let entry = |(place, (entry_index, entry_term, kind)): (usize, &(Number, Number, i32))| peer::Entry {
        r#type: *kind,
        term: if draft.in_order {
            term
        } else {
            entry_term.resolve(term)
        },
        index: if draft.in_order {
            index.saturating_add(1 + place as u64)
        } else {
            entry_index.resolve(last)
        },
        data: draft.context.clone().into(),
        ..peer::Entry::default()
    };
    let snapshot = draft
        .snapshot
        .as_ref()
        .map(|(index, term_of, voters, learners, joint)| {
            let conf_state = peer::ConfState {
                voters: voters.clone(),
                learners: learners.clone(),
                voters_outgoing: if *joint { learners.clone() } else { Vec::new() },
                learners_next: Vec::new(),
                auto_leave: *joint && voters.len() > 2,
            };
            peer::SnapshotMetadata {
                conf_state: Some(conf_state),
                index: index.resolve(last),
                term: term_of.resolve(term),
                ..peer::SnapshotMetadata::default()
            }
        });
    peer::Message {
        r#type: draft.kind,
        to: 1,
        from: 2,
        term: draft.term.resolve(term),
        log_term,
        index,
        entries: draft.entries.iter().enumerate().map(entry).collect(),
        commit: draft.commit.resolve(last),
        snapshot,
        reject: draft.reject,
        reject_hint: draft.reject_hint.resolve(last),
        context: draft.context.clone().into(),
        request_snapshot: draft.request_snapshot,
        commit_term: draft.commit_term.resolve(term),
        priority: draft.priority,
        persisted_index: 0,
        persisted_term: 0,
    }
}

fn vote(kind: MessageType, term: u64) -> peer::Message {
    peer::Message {
        r#type: kind as i32,
        to: 1,
        from: 2,
        term,
        ..peer::Message::default()
    }
}

fn take(member: &mut TestMember, step: Step) {
    match step {
        Step::Message(draft) => {
            let message = message(member, *draft);
            member.core.step(message);
            // As in the actor: a snapshot is processed before the next message.
            if member.restore.is_none() {
                member.collect();
            }
        }
        Step::Votes => {
            let term = member.term();
            member
                .core
                .step(vote(MessageType::MsgRequestPreVoteResponse, term + 1));
            member.core.step(vote(MessageType::MsgRequestVoteResponse, term));
        }
        Step::Ticks(ticks) => (0..ticks).for_each(|_| member.core.tick()),
        Step::Persist if member.restore.is_none() => {
            if let Some(write) = member.writes.pop() {
                member.writes.clear();
                member.core.persisted(write.number);
            }
        }
        Step::Apply => {
            if let Some(last) = member.committed.pop() {
                member.committed.clear();
                member.core.applied(last.index);
            }
        }
        Step::Propose => {
            member.core.propose(vec![1]);
        }
        Step::Read(count) => member.core.read_index(ReadContext { nonce: 1, count }),
        Step::Restore => {
            if let Some(restore) = member.restore.take() {
                member.committed.clear();
                member.core.applied(restore.cut.index);
                member.collect();
                member.core.persisted(restore.number);
            }
        }
        Step::HandOver => member.core.hand_over_leadership(Successor::Furthest),
        Step::Persist => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, max_shrink_iters: 400, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_messages_do_no_harm(steps in prop::collection::vec(step(), 1..120)) {
        let mut member = TestMember::new(1, &[1, 2, 3], Box::new(|bound| bound / 2));
        for step in steps {
            take(&mut member, step);
            member.collect();
        }
    }
}

type Change = fn(&mut peer::Message);

#[test]
fn what_is_not_for_this_member_is_dropped() {
    let heartbeat = peer::Message {
        r#type: MessageType::MsgHeartbeat as i32,
        to: 1,
        from: 2,
        term: 5,
        ..peer::Message::default()
    };
    let cases: [(&str, Change, bool); 9] = [
        ("as it should be", |_| {}, true),
        ("another member's", |message| message.to = 3, false),
        ("from itself", |message| message.from = 1, false),
        ("from nobody", |message| message.from = 0, false),
        ("an unknown kind", |message| message.r#type = 99, false),
        (
            "a local kind",
            |message| message.r#type = MessageType::MsgHup as i32,
            false,
        ),
        (
            "a request for leadership",
            |message| message.r#type = MessageType::MsgTransferLeader as i32,
            false,
        ),
        ("without a term", |message| message.term = 0, false),
        (
            "a commit index beyond the log",
            |message| message.commit = 4,
            false,
        ),
    ];
    for (name, change, taken) in cases {
        let mut member = TestMember::new(1, &[1, 2, 3], Box::new(|_| 0));
        let mut message = heartbeat.clone();
        change(&mut message);
        member.core.step(message);
        assert_eq!(member.term() == 5, taken, "{name}");
    }
}

#[test]
fn a_sole_voter_stands_for_election_only_once_its_log_is_on_disk() {
    let message = |kind: MessageType, term| peer::Message {
        r#type: kind as i32,
        to: 1,
        from: 2,
        term,
        ..peer::Message::default()
    };
    let mut member = TestMember::new(1, &[1], Box::new(|_| 0));
    member.core.campaign();
    member.collect();
    member.persist();
    assert!(member.core.propose(vec![1]));
    member.collect();
    let term = member.term();
    member.core.step(message(MessageType::MsgTimeoutNow, term + 1));
    assert_eq!(member.term(), term, "nobody else can have led");
    // From a member that runs other software and counts terms of its own.
    member.core.step(message(MessageType::MsgHeartbeat, term + 1));
    member.collect();
    (0..3 * ELECTION_TICKS).for_each(|_| member.core.tick());
    assert!(!member.core.leadership().is_leader);
    member.persist();
    (0..3 * ELECTION_TICKS).for_each(|_| member.core.tick());
    member.collect();
    assert!(member.core.leadership().is_leader);
}
