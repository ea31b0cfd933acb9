//! Live bytes are counted like a walk over the whole history counts them.

use super::testing::{TestMember, compact, delete, put};
use crate::proto::etcdserverpb::{LeaseGrantRequest, LeaseRevokeRequest, PutRequest};
use crate::proto::log::command::Request;
use crate::storage::state::StateOptions;
use crate::storage::state::snapshot::{StateImport, StateRecords};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The bytes of a revision besides its key and value.
const OVERHEAD: u64 = 32;

/// Main revision, key, and the length of the value; none for a delete.
pub(super) type Happened<'a> = (i64, &'a [u8], Option<usize>);

/// Adds up all revisions newer than the compact revision, and what each key held at the compact revision.
pub(super) fn live_bytes<'a>(happened: impl IntoIterator<Item = Happened<'a>>, compact_revision: i64) -> u64 {
    let bytes = |key: &[u8], value: Option<usize>| OVERHEAD + (key.len() + value.unwrap_or(0)) as u64;
    let mut held = BTreeMap::new();
    let mut newer = 0;
    for (revision, key, value) in happened {
        if revision > compact_revision {
            newer += bytes(key, value);
        } else {
            held.insert(key, value);
        }
    }
    let held = held.into_iter().filter(|(_, value)| value.is_some());
    newer + held.map(|(key, value)| bytes(key, value)).sum::<u64>()
}

fn live(member: &TestMember) -> u64 {
    member.view().applied.usage.live_bytes()
}

#[test]
fn compactions_free_what_was_replaced_up_to_them() {
    let mut member = TestMember::new();
    assert_eq!(live(&member), 0);
    let requests = [put("a", "12345"), put("b", ""), put("a", "1")];
    for outcome in member.run_all(requests.map(Request::Put).into()) {
        outcome.unwrap();
    }
    member.run(delete("a", "")).unwrap();
    let (first, second, third, deletion) = (OVERHEAD + 6, OVERHEAD + 1, OVERHEAD + 2, OVERHEAD + 1);
    assert_eq!(live(&member), first + second + third + deletion);
    for (revision, bytes) in [
        (2, first + second + third + deletion),
        (3, first + second + third + deletion),
        (4, second + third + deletion),
        (5, second),
    ] {
        member.run(compact(revision)).unwrap();
        assert_eq!(live(&member), bytes, "compacted to {revision}");
        member = member.reopen();
        assert_eq!(live(&member), bytes, "compacted to {revision}, after a restart");
    }
    // A record that existed at the compact revision is live until its replacement is compacted.
    member.run(put("b", "22")).unwrap();
    assert_eq!(live(&member), second + OVERHEAD + 3);
    // A compaction in the middle of a batch that is not yet written.
    let batch = vec![
        Request::Put(put("b", "333")),
        Request::Compaction(compact(6)),
        Request::Put(put("b", "")),
        Request::Compaction(compact(7)),
    ];
    for outcome in member.run_all(batch) {
        outcome.unwrap();
    }
    assert_eq!(live(&member), OVERHEAD + 4 + OVERHEAD + 1);
}

#[test]
fn leases_count_and_snapshots_carry_the_count_along() {
    let mut member = TestMember::new();
    let grant = |id| Request::LeaseGrant(LeaseGrantRequest { id, ttl: 5 });
    let attached = PutRequest {
        lease: 7,
        ..put("a", "1")
    };
    for outcome in member.run_all(vec![grant(7), grant(8), Request::Put(attached)]) {
        outcome.unwrap();
    }
    assert_eq!(live(&member), 2 * 64 + OVERHEAD + 2);
    member
        .run(Request::LeaseRevoke(LeaseRevokeRequest { id: 7 }))
        .unwrap();
    assert_eq!(live(&member), 64 + 2 * OVERHEAD + 3);

    let directory = tempfile::tempdir().unwrap();
    let mut import = StateImport::begin(&directory.path().join("copy"), &StateOptions::simulator()).unwrap();
    let records = StateRecords::new(Arc::clone(member.state()), member.state().snapshot(), None).unwrap();
    import.write(records.map(Result::unwrap)).unwrap();
    let mut copy = TestMember::new();
    copy.machine.replace(import.finish().unwrap()).unwrap();
    copy.index = member.index;
    assert_eq!(live(&copy), live(&member));
    copy.run(compact(3)).unwrap();
    assert_eq!(live(&copy), 64);
}
