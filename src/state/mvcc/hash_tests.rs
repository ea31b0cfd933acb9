//! HashKV against the answers of etcd 3.7.1 and 3.4.23 to the same histories (3.7.1 after a restart, since it caches the hash
//! for the compact revision from before the compaction).

use crate::proto::etcdserverpb::{LeaseGrantRequest, PutRequest, TxnRequest};
use crate::proto::log::command::Request;
use crate::state::mvcc::MvccError;
use crate::state::mvcc::hash::{HashScan, KeyValueHash};
use crate::state::mvcc::range::Progress;
use crate::state::testing::{TestMember, ToOperation, compact, delete, put};

/// Checks (requested revision, hash, compact revision, hashed revision) before and after space is reclaimed, in one go and in
/// passes of a single key.
fn check(member: &TestMember, expected: &[(i64, u32, i64, i64)]) {
    for reclaimed in [false, true] {
        if reclaimed {
            member.state().reclaim().unwrap();
        }
        for (revision, hash, compact_revision, hash_revision) in expected.iter().copied() {
            let expected = KeyValueHash {
                hash,
                compact_revision,
                hash_revision,
            };
            let view = member.view();
            assert_eq!(
                view.hash_kv(revision).unwrap(),
                expected,
                "revision {revision} reclaimed {reclaimed}"
            );
            let mut scan = HashScan::new(view.keys.clone(), revision, 1).unwrap();
            while scan.advance(1).unwrap() == Progress::More {}
            assert_eq!(
                scan.into_hash(),
                expected,
                "in passes, revision {revision} reclaimed {reclaimed}"
            );
        }
    }
}

#[test]
fn hashes_of_puts_deletes_transactions_and_compactions_are_etcds() {
    let mut member = TestMember::new();
    check(&member, &[(0, 1_084_519_789, -1, 1)]);
    for (key, value) in [("a", "1"), ("b", "2"), ("a", "3")] {
        member.run(put(key, value)).unwrap();
    }
    member.run(delete("b", "")).unwrap();
    member.run(put("c", "")).unwrap();
    check(
        &member,
        &[
            (0, 1_947_802_976, -1, 6),
            (2, 2_587_454_935, -1, 2),
            (3, 1_827_592_406, -1, 3),
            (4, 2_069_675_932, -1, 4),
            (5, 1_125_682_900, -1, 5),
            (6, 1_947_802_976, -1, 6),
        ],
    );
    member.run(compact(3)).unwrap();
    check(
        &member,
        &[
            (3, 1_827_592_406, 3, 3),
            (4, 1_107_643_163, 3, 4),
            (5, 1_468_967_122, 3, 5),
            (6, 323_977_103, 3, 6),
        ],
    );
    assert!(matches!(member.view().hash_kv(2), Err(MvccError::Compacted)));
    assert!(matches!(member.view().hash_kv(7), Err(MvccError::FutureRevision)));
    member.run(compact(5)).unwrap();
    check(&member, &[(5, 3_184_071_396, 5, 5), (6, 244_968_164, 5, 6)]);
    let operations = vec![
        put("x", "1").operation(),
        put("y", "2").operation(),
        delete("a", "").operation(),
        put("b", "again").operation(),
    ];
    member
        .run(TxnRequest {
            success: operations,
            ..Default::default()
        })
        .unwrap();
    check(&member, &[(6, 244_968_164, 5, 6), (7, 1_772_731_150, 5, 7)]);
    member.run(put("x", "9")).unwrap();
    member.run(compact(7)).unwrap();
    check(&member, &[(7, 935_389_854, 7, 7), (8, 1_367_818_389, 7, 8)]);
    let member = member.reopen();
    check(&member, &[(7, 935_389_854, 7, 7), (8, 1_367_818_389, 7, 8)]);
}

#[test]
fn hashes_of_a_key_space_that_was_emptied_after_a_compaction_are_etcds() {
    let mut member = TestMember::new();
    for (key, value) in [("a", "1"), ("b", "2"), ("a", "3")] {
        member.run(put(key, value)).unwrap();
    }
    member.run(compact(4)).unwrap();
    member.run(delete("a", "")).unwrap();
    member.run(delete("b", "")).unwrap();
    check(
        &member,
        &[
            (4, 1_107_643_163, 4, 4),
            (5, 2_051_293_682, 4, 5),
            (6, 1_529_031_865, 4, 6),
        ],
    );
    member.run(put("d", "1")).unwrap();
    check(&member, &[(6, 1_529_031_865, 4, 6), (7, 3_597_715_675, 4, 7)]);
    member.run(compact(6)).unwrap();
    check(&member, &[(6, 1_084_519_789, 6, 6), (7, 1_850_270_276, 6, 7)]);
}

#[test]
fn the_hash_of_a_put_with_a_lease_is_etcds() {
    let mut member = TestMember::new();
    member
        .run(Request::LeaseGrant(LeaseGrantRequest { id: 1, ttl: 60 }))
        .expect("a lease");
    let put = PutRequest {
        lease: 1,
        ..put("test-key", "test-value")
    };
    member.run(Request::Put(put)).unwrap();
    check(&member, &[(0, 645_561_629, -1, 2)]);
}

#[test]
fn the_hash_as_if_compacted_is_the_hash_once_compacted() {
    let mut member = TestMember::new();
    for round in 0..4 {
        for (key, value) in [("a", "1"), ("b", "2"), ("c", "3")] {
            member.run(put(key, value)).unwrap();
        }
        member.run(delete(["a", "b", "c", "a"][round], "")).unwrap();
    }
    let as_if = |member: &TestMember, revision, compact_revision| {
        let mut scan = member
            .view()
            .hash_scan_as_compacted(revision, compact_revision)
            .unwrap();
        while scan.advance(1).unwrap() == Progress::More {}
        scan.into_hash()
    };
    let newest = member.view().revision();
    let plain = member.view().hash_kv(0).unwrap();
    assert_eq!(as_if(&member, 0, -1), plain);
    for compacted in [3, 5, 6, 9, 12, newest] {
        let revisions: Vec<_> = (compacted..=newest).collect();
        let expected: Vec<_> = revisions
            .iter()
            .map(|revision| as_if(&member, *revision, compacted))
            .collect();
        assert_ne!(expected.last(), Some(&plain));
        member.run(compact(compacted)).unwrap();
        for (revision, expected) in revisions.iter().zip(&expected) {
            assert_eq!(
                member.view().hash_kv(*revision).unwrap(),
                *expected,
                "{compacted} {revision}"
            );
        }
        // A lower compact revision than the actual one changes nothing.
        assert_eq!(as_if(&member, 0, 2), *expected.last().unwrap());
    }
}
