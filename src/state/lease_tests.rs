//! Leases in the log: their keys, what is deleted with them, and which leader may report their expiry.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;

use crate::proto::etcdserverpb::{LeaseGrantRequest, LeaseRevokeRequest, PutRequest};
use crate::proto::log::command::Request;
use crate::proto::log::{ExpiredLease, LeaseCheckpoint, LeaseCheckpoints, LeaseExpiry};
use crate::state::ApplyError;
use crate::state::machine::Outcome;
use crate::state::testing::{TestMember, bytes, delete, everything, put};
use crate::storage::state::leases::LeaseRecord;

/// The term of [`TestMember`]'s entries.
fn term(member: &TestMember) -> u64 {
    member.view().applied_term().get()
}

fn grant(id: i64, ttl: i64) -> Request {
    Request::LeaseGrant(LeaseGrantRequest { id, ttl })
}

fn revoke(id: i64) -> Request {
    Request::LeaseRevoke(LeaseRevokeRequest { id })
}

fn put_with(key: &str, lease: i64) -> Request {
    Request::Put(PutRequest {
        lease,
        ..put(key, "v")
    })
}

fn run(member: &mut TestMember, request: Request) -> Result<Outcome, ApplyError> {
    member.run_all(vec![request]).pop().unwrap()
}

fn keys(member: &TestMember, id: i64) -> Vec<Bytes> {
    member.view().lease_keys(id).map(Result::unwrap).collect()
}

fn leases(member: &TestMember) -> Vec<(i64, LeaseRecord)> {
    member.view().leases().map(Result::unwrap).collect()
}

fn granted_at(member: &TestMember, id: i64) -> u64 {
    let found = leases(member).into_iter().find(|(found, _)| *found == id);
    found.map_or(0, |(_, record)| record.granted_at)
}

fn expiry(member: &TestMember, term: u64, ids: &[i64]) -> Request {
    let leases = ids.iter().map(|id| ExpiredLease {
        id: *id,
        granted_at: granted_at(member, *id),
    });
    Request::LeaseExpiry(LeaseExpiry {
        term,
        leases: leases.collect(),
    })
}

fn revision(member: &TestMember) -> i64 {
    member.view().revision()
}

#[test]
fn ids_are_used_once() {
    let mut member = TestMember::new();
    let Ok(Outcome::LeaseGrant(response)) = run(&mut member, grant(5, 60)) else {
        panic!("a lease")
    };
    assert_eq!((response.id, response.ttl), (5, 60));
    assert_eq!(
        response.header.unwrap().revision,
        1,
        "a lease is no change of a key"
    );
    assert_eq!(run(&mut member, grant(5, 9)), Err(ApplyError::LeaseExists));
    assert!(run(&mut member, grant(-5, 60)).is_ok());
    assert!(run(&mut member, revoke(5)).is_ok());
    assert_eq!(run(&mut member, revoke(5)), Err(ApplyError::LeaseNotFound));
    assert!(run(&mut member, grant(5, 9)).is_ok());
    assert_eq!(run(&mut member, put_with("k", 6)), Err(ApplyError::LeaseNotFound));
}

#[test]
fn keys_go_from_lease_to_lease_and_with_the_lease() {
    let mut member = TestMember::new();
    member.run_all(vec![grant(1, 60), grant(2, 60)]);
    member.run_all(vec![
        put_with("b", 1),
        put_with("a", 1),
        put_with("c", 1),
        put_with("d", 1),
    ]);
    assert_eq!(keys(&member, 1), ["a", "b", "c", "d"]);
    run(&mut member, put_with("b", 2)).unwrap();
    run(&mut member, put_with("c", 0)).unwrap();
    let keep = PutRequest {
        ignore_lease: true,
        ..put("d", "w")
    };
    run(&mut member, Request::Put(keep)).unwrap();
    member.run(delete("a", "")).unwrap();
    assert_eq!(keys(&member, 1), ["d"]);
    assert_eq!(keys(&member, 2), ["b"]);
    member.run_all(vec![put_with("a", 1), put_with("z", 1)]);
    let mut member = member.reopen();
    let before = revision(&member);
    let Ok(Outcome::LeaseRevoke(response)) = run(&mut member, revoke(1)) else {
        panic!("it is there")
    };
    assert_eq!(response.header.unwrap().revision, before + 1, "one revision");
    assert_eq!(revision(&member), before + 1);
    let left: Vec<_> = member
        .range(&everything())
        .kvs
        .into_iter()
        .map(|kv| kv.key)
        .collect();
    assert_eq!(left, ["b", "c"]);
    assert!(keys(&member, 1).is_empty());
    assert_eq!(leases(&member).len(), 1);
    run(&mut member, put_with("b", 0)).unwrap();
    let before = revision(&member);
    run(&mut member, revoke(2)).unwrap();
    assert_eq!(revision(&member), before, "it held nothing");
}

#[test]
fn commands_of_one_entry_see_what_the_leases_hold() {
    let mut member = TestMember::new();
    let outcomes = member.run_all(vec![
        grant(1, 60),
        put_with("a", 1),
        put_with("b", 1),
        put_with("a", 0),
        revoke(1),
        put_with("c", 1),
        grant(1, 30),
        put_with("c", 1),
    ]);
    let refused = outcomes.iter().filter(|outcome| outcome.is_err()).count();
    assert_eq!(refused, 1, "{outcomes:?}");
    assert_eq!(keys(&member, 1), ["c"]);
    let left: Vec<_> = member
        .range(&everything())
        .kvs
        .into_iter()
        .map(|kv| kv.key)
        .collect();
    assert_eq!(left, ["a", "c"]);
}

#[test]
fn only_the_leader_of_the_term_lets_leases_expire() {
    let mut member = TestMember::new();
    member.run_all(vec![grant(1, 60), grant(2, 60), grant(3, 60)]);
    member.run_all(vec![put_with("a", 1), put_with("b", 2), put_with("bb", 2)]);
    let now = term(&member);
    for stale in [now - 1, now + 1] {
        let request = expiry(&member, stale, &[1, 2, 3]);
        assert_eq!(run(&mut member, request), Err(ApplyError::StaleTerm));
    }
    assert_eq!(leases(&member).len(), 3);
    let before = revision(&member);
    let request = expiry(&member, now, &[1, 2, 77]);
    assert_eq!(run(&mut member, request), Ok(Outcome::Done));
    assert_eq!(
        revision(&member),
        before + 2,
        "a revision for each lease with keys"
    );
    assert!(member.range(&everything()).kvs.is_empty());
    assert_eq!(leases(&member).len(), 1);
}

#[test]
fn an_expiry_does_not_end_a_later_lease_of_the_same_id() {
    let mut member = TestMember::new();
    run(&mut member, grant(1, 60)).unwrap();
    let late = expiry(&member, term(&member), &[1]);
    run(&mut member, revoke(1)).unwrap();
    run(&mut member, grant(1, 60)).unwrap();
    run(&mut member, late).unwrap();
    assert_eq!(leases(&member).len(), 1);
}

#[test]
fn checkpoints_are_kept() {
    let mut member = TestMember::new();
    run(&mut member, grant(1, 600)).unwrap();
    let checkpoint = |member: &TestMember, term, remaining_ttl| {
        Request::LeaseCheckpoints(LeaseCheckpoints {
            term,
            checkpoints: vec![
                LeaseCheckpoint {
                    id: 9,
                    granted_at: 2,
                    remaining_ttl,
                },
                LeaseCheckpoint {
                    id: 1,
                    granted_at: granted_at(member, 1),
                    remaining_ttl,
                },
            ],
        })
    };
    let now = term(&member);
    let request = checkpoint(&member, now, 250);
    run(&mut member, request).unwrap();
    let request = checkpoint(&member, now - 1, 100);
    assert_eq!(run(&mut member, request), Err(ApplyError::StaleTerm));
    let member = member.reopen();
    let [(1, record)] = leases(&member)[..] else {
        panic!("one lease")
    };
    assert_eq!((record.ttl, record.remaining_ttl), (600, 250));
}

#[derive(Clone, Debug)]
enum Step {
    Grant(i64),
    Revoke(i64),
    Put(u8, i64),
    Keep(u8),
    Delete(u8, u8),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (1..4i64).prop_map(Step::Grant),
        1 => (1..4i64).prop_map(Step::Revoke),
        5 => (0..5u8, 0..4i64).prop_map(|(key, lease)| Step::Put(key, lease)),
        1 => (0..5u8).prop_map(Step::Keep),
        1 => (0..5u8, 0..5u8).prop_map(|(from, to)| Step::Delete(from, to)),
        1 => Just(Step::Reopen),
    ]
}

fn name(key: u8) -> String {
    char::from(b'a' + key).to_string()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn leases_hold_what_a_model_says(steps in proptest::collection::vec((step(), any::<bool>()), 1..40)) {
        let mut member = TestMember::new();
        // The lease of each key; the leases that exist.
        let mut held: BTreeMap<String, i64> = BTreeMap::new();
        let mut alive: Vec<i64> = vec![];
        let mut batch = vec![];
        for (step, flush) in steps {
            match step {
                Step::Grant(id) => {
                    if !alive.contains(&id) {
                        alive.push(id);
                    }
                    batch.push(grant(id, 60));
                }
                Step::Revoke(id) => {
                    alive.retain(|other| *other != id);
                    held.retain(|_, lease| *lease != id);
                    batch.push(revoke(id));
                }
                Step::Put(key, lease) => {
                    if lease == 0 || alive.contains(&lease) {
                        held.insert(name(key), lease);
                    }
                    batch.push(put_with(&name(key), lease));
                }
                Step::Keep(key) => batch.push(Request::Put(PutRequest {
                    ignore_lease: true,
                    ..put(&name(key), "kept")
                })),
                Step::Delete(from, to) => {
                    let (from, to) = (name(from), name(to));
                    held.retain(|key, _| !(from <= *key && *key < to));
                    batch.push(Request::DeleteRange(delete(&from, &to)));
                }
                Step::Reopen => {
                    member.run_all(std::mem::take(&mut batch));
                    member = member.reopen();
                }
            }
            if flush {
                member.run_all(std::mem::take(&mut batch));
            }
        }
        member.run_all(batch);
        let found: BTreeMap<String, i64> = member
            .range(&everything())
            .kvs
            .into_iter()
            .map(|kv| (String::from_utf8(kv.key.to_vec()).unwrap(), kv.lease))
            .collect();
        prop_assert_eq!(&found, &held);
        alive.sort_unstable();
        let ids: Vec<i64> = leases(&member).into_iter().map(|(id, _)| id).collect();
        prop_assert_eq!(ids, alive);
        for id in 1..4 {
            let of_lease: Vec<Bytes> = held
                .iter()
                .filter(|(_, lease)| **lease == id)
                .map(|(key, _)| bytes(key))
                .collect();
            prop_assert_eq!(keys(&member, id), of_lease);
        }
    }
}
