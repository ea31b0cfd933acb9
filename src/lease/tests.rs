//! The pure lessor: tables, and a model that knows each lease's time.

use super::lessor::{Lessor, LessorOptions, Remaining, Renewal};
use super::ttl_min;
use crate::ids::Term;
use crate::proto::log::LeaseCheckpoint;
use crate::state::leases::LeaseChange;
use crate::storage::state::leases::LeaseRecord;
use proptest::prelude::*;
use std::collections::BTreeMap;

const OPTIONS: LessorOptions = LessorOptions {
    extension_ms: 1_000,
    checkpoint_interval_ms: 60_000,
    expiry_retry_ms: 3_000,
};

fn granted(id: i64, ttl: i64, granted_at: u64) -> LeaseChange {
    let record = LeaseRecord {
        ttl,
        granted_at,
        ..LeaseRecord::default()
    };
    LeaseChange::Granted { id, record }
}

fn leader(leases: &[(i64, i64)]) -> Lessor {
    let mut lessor = Lessor::new(OPTIONS);
    lessor.lead(Some(Term(2)), 0);
    for (id, ttl) in leases {
        lessor.apply(granted(*id, *ttl, 7), 0);
    }
    lessor
}

fn expired(lessor: &mut Lessor, now_ms: u64) -> Vec<i64> {
    let expired = lessor.expired(now_ms, 100);
    expired.into_iter().map(|lease| lease.id).collect()
}

#[test]
fn the_shortest_time_is_etcds() {
    for (heartbeat_ms, election_ms, seconds) in [(100, 1000, 2), (10, 100, 1), (100, 5000, 8), (500, 1000, 2)]
    {
        assert_eq!(
            ttl_min(heartbeat_ms, election_ms),
            seconds,
            "{heartbeat_ms} {election_ms}"
        );
    }
}

#[test]
fn leases_end_when_their_time_is_up() {
    let mut lessor = leader(&[(1, 10), (2, 5)]);
    assert!(expired(&mut lessor, 5_000).is_empty());
    assert_eq!(expired(&mut lessor, 5_001), [2]);
    assert_eq!(lessor.renew(2, 5_002), Renewal::Expired, "it may be gone already");
    assert!(expired(&mut lessor, 8_000).is_empty(), "it is proposed already");
    assert_eq!(expired(&mut lessor, 8_001), [2], "that did not come through");
    lessor.apply(LeaseChange::Revoked { id: 2 }, 8_002);
    assert_eq!(lessor.renew(2, 8_003), Renewal::NotFound);
    assert_eq!(expired(&mut lessor, 20_000), [1]);
}

#[test]
fn a_lease_that_is_kept_alive_does_not_end() {
    let mut lessor = leader(&[(1, 10)]);
    for second in 1..100 {
        assert_eq!(lessor.renew(1, second * 1000), Renewal::Renewed { ttl: 10 });
        assert!(expired(&mut lessor, second * 1000).is_empty());
    }
    assert_eq!(lessor.queued(), 1, "one entry, however often it is kept alive");
    let left = lessor.remaining(1, 104_000);
    assert_eq!(
        left,
        Some(Remaining {
            ttl: 5,
            granted_ttl: 10
        })
    );
    assert_eq!(expired(&mut lessor, 109_001), [1]);
    assert_eq!(lessor.remaining(2, 0), None);
}

#[test]
fn an_expiry_names_the_lease_it_means() {
    let mut lessor = leader(&[(1, 10)]);
    lessor.apply(LeaseChange::Revoked { id: 1 }, 5_000);
    lessor.apply(granted(1, 10, 9), 5_000);
    assert!(
        lessor.expired(10_001, 100).is_empty(),
        "the first one has gone before"
    );
    let expired = lessor.expired(15_001, 100);
    assert_eq!((expired.len(), expired[0].granted_at), (1, 9));
}

#[test]
fn a_new_leader_gives_all_time_again_and_an_election_timeout() {
    let mut lessor = Lessor::new(OPTIONS);
    lessor.apply(granted(1, 10, 7), 0);
    let (id, remaining_ttl) = (1, 4);
    assert_eq!(lessor.renew(1, 0), Renewal::NotLeading);
    assert!(
        expired(&mut lessor, 1 << 40).is_empty(),
        "only a leader lets leases expire"
    );
    assert!(lessor.lead(Some(Term(3)), 100_000));
    assert!(!lessor.lead(Some(Term(3)), 105_000), "nothing new");
    assert!(expired(&mut lessor, 111_000).is_empty());
    assert_eq!(expired(&mut lessor, 111_001), [1]);
    // In a later term of this leader, time starts again.
    assert!(lessor.lead(Some(Term(5)), 111_500));
    assert!(expired(&mut lessor, 122_500).is_empty());
    lessor.apply(LeaseChange::Checkpointed { id, remaining_ttl }, 0);
    lessor.lead(None, 0);
    lessor.lead(Some(Term(6)), 200_000);
    assert!(expired(&mut lessor, 205_000).is_empty());
    assert_eq!(expired(&mut lessor, 205_001), [1]);
}

#[test]
fn long_leases_are_written_down() {
    let mut lessor = leader(&[(1, 300), (2, 60), (3, 300)]);
    assert!(lessor.due_checkpoints(59_999, 9).is_empty());
    lessor.renew(3, 30_000);
    let due = lessor.due_checkpoints(60_000, 9);
    let expected = LeaseCheckpoint {
        id: 1,
        granted_at: 7,
        remaining_ttl: 241,
    };
    assert_eq!(due, [expected], "2 is short, 3 was kept alive");
    let due = lessor.due_checkpoints(90_002, 9);
    assert_eq!((due.len(), due[0].id, due[0].remaining_ttl), (1, 3, 240));
    assert_eq!(lessor.due_checkpoints(120_000, 9).len(), 1, "and again");
}

#[test]
fn a_checkpoint_is_taken_back_before_its_lease_is_kept_alive() {
    let (id, granted_at) = (1, 7);
    let mut lessor = leader(&[(id, 300)]);
    assert_eq!(lessor.due_checkpoints(60_000, 9).len(), 1);
    // The checkpoint may be in the log already.
    assert_eq!(lessor.renew(id, 61_000), Renewal::Checkpointed);
    let cleared = LeaseCheckpoint {
        id,
        granted_at,
        remaining_ttl: 0,
    };
    assert_eq!(lessor.clear_checkpoint(id), Some(cleared));
    assert_eq!(lessor.clear_checkpoint(id), None, "that is under way");
    assert!(
        lessor.due_checkpoints(120_000, 9).is_empty(),
        "no new one meanwhile"
    );
    let change = |remaining_ttl| LeaseChange::Checkpointed { id, remaining_ttl };
    lessor.apply(change(240), 121_000);
    assert_eq!(lessor.renew(id, 121_000), Renewal::Checkpointed);
    lessor.apply(change(0), 121_000);
    lessor.checkpoint_cleared(id);
    assert_eq!(lessor.renew(id, 121_000), Renewal::Renewed { ttl: 300 });
    // A proposal that fails changes nothing.
    assert_eq!(lessor.due_checkpoints(181_001, 9).len(), 1);
    assert!(lessor.clear_checkpoint(id).is_some());
    lessor.checkpoint_cleared(id);
    assert_eq!(lessor.renew(id, 182_000), Renewal::Checkpointed);
    assert!(lessor.clear_checkpoint(id).is_some());
}

#[test]
fn entries_of_leases_that_have_gone_do_not_pile_up() {
    let mut lessor = leader(&[]);
    for round in 0..10_000 {
        lessor.apply(granted(round, 9_000_000_000, 7), 0);
        lessor.apply(LeaseChange::Revoked { id: round }, 0);
    }
    assert!(lessor.queued() < 2_000, "{}", lessor.queued());
}

#[derive(Clone, Debug)]
enum Step {
    Grant(i64, i64),
    Revoke(i64),
    Renew(i64),
    Pass(u64),
    Lead(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (0..6i64, 1..20i64).prop_map(|(id, ttl)| Step::Grant(id, ttl)),
        1 => (0..6i64).prop_map(Step::Revoke),
        4 => (0..6i64).prop_map(Step::Renew),
        6 => (1..9_000u64).prop_map(Step::Pass),
        1 => any::<bool>().prop_map(Step::Lead),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    /// The model knows the exact time of each lease. Expiries are applied at once.
    #[test]
    fn leases_end_exactly_when_a_model_says_so(steps in proptest::collection::vec(step(), 1..80)) {
        let mut lessor = leader(&[]);
        // The TTL of each lease, and its deadline if there is a leader.
        let mut model: BTreeMap<i64, (i64, u64)> = BTreeMap::new();
        let (mut now_ms, mut term, mut leading) = (0, 2, true);
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Grant(id, ttl) => {
                    model.insert(id, (ttl, now_ms + ttl as u64 * 1000));
                    lessor.apply(granted(id, ttl, number as u64), now_ms);
                }
                Step::Revoke(id) => {
                    model.remove(&id);
                    lessor.apply(LeaseChange::Revoked { id }, now_ms);
                }
                Step::Renew(id) => {
                    let renewal = lessor.renew(id, now_ms);
                    let lease = model.get_mut(&id);
                    prop_assert_eq!(renewal, match lease {
                        _ if !leading => Renewal::NotLeading,
                        None => Renewal::NotFound,
                        Some((ttl, deadline_ms)) => {
                            *deadline_ms = now_ms + *ttl as u64 * 1000;
                            Renewal::Renewed { ttl: *ttl }
                        }
                    });
                }
                Step::Pass(ms) => now_ms += ms,
                Step::Lead(leads) => {
                    term += 1;
                    leading = leads;
                    lessor.lead(leads.then_some(Term(term)), now_ms);
                    for (ttl, deadline_ms) in model.values_mut() {
                        *deadline_ms = now_ms + *ttl as u64 * 1000 + OPTIONS.extension_ms;
                    }
                }
            }
            let mut found = expired(&mut lessor, now_ms);
            found.sort_unstable();
            let due: Vec<i64> = model
                .iter()
                .filter(|(_, (_, deadline_ms))| leading && *deadline_ms < now_ms)
                .map(|(id, _)| *id)
                .collect();
            prop_assert_eq!(&found, &due);
            for id in due {
                model.remove(&id);
                lessor.apply(LeaseChange::Revoked { id }, now_ms);
            }
        }
    }
}
