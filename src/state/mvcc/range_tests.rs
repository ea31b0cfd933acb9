//! Ranges: options, sorting with its quirks, the past, slices.

use crate::proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::proto::etcdserverpb::{RangeRequest, RangeResponse, ResponseHeader};
use crate::state::mvcc::MvccError;
use crate::state::mvcc::range::Progress;
use crate::state::testing::{TestMember, bytes, compact, delete, everything, put, range};
use prost::Message;

/// Revisions 2 to 9: a=9 (versions 1 and 2), b=8, c=7, d deleted, e=5 (created last).
fn member() -> TestMember {
    let mut member = TestMember::new();
    for (key, value) in [("a", "1"), ("b", "8"), ("c", "7"), ("d", "6"), ("a", "9")] {
        member.run(put(key, value)).unwrap();
    }
    member.run(delete("d", "")).unwrap();
    member.run(put("e", "5")).unwrap();
    member.run(put("c", "7")).unwrap();
    member
}

fn keys(response: &RangeResponse) -> String {
    response
        .kvs
        .iter()
        .map(|kv| String::from_utf8_lossy(&kv.key))
        .collect()
}

fn sorted(target: SortTarget, order: SortOrder) -> RangeRequest {
    RangeRequest {
        sort_target: target as i32,
        sort_order: order as i32,
        ..everything()
    }
}

// The length is that of the table.
#[allow(clippy::too_many_lines)]
#[test]
fn options_choose_keys_more_and_count() {
    use SortOrder::{Ascend, Descend, None};
    let member = member();
    let limited = |limit, request: RangeRequest| RangeRequest { limit, ..request };
    let past = |revision, request: RangeRequest| RangeRequest { revision, ..request };
    let table = [
        (everything(), "abce", false, 4),
        (range("b", ""), "b", false, 1),
        (range("d", ""), "", false, 0),
        (range("b", "e"), "bc", false, 2),
        (range("c", "b"), "", false, 0),
        (range("b", "\0"), "bce", false, 3),
        (limited(2, everything()), "ab", true, 4),
        (limited(4, everything()), "abce", false, 4),
        (limited(-1, everything()), "abce", false, 4),
        (limited(i64::MAX, everything()), "abce", false, 4),
        (
            RangeRequest {
                count_only: true,
                limit: 1,
                ..everything()
            },
            "",
            false,
            4,
        ),
        (sorted(SortTarget::Key, Descend), "ecba", false, 4),
        (limited(3, sorted(SortTarget::Key, Descend)), "ecb", true, 4),
        (limited(4, sorted(SortTarget::Key, Descend)), "ecba", false, 4),
        (sorted(SortTarget::Value, Ascend), "ecba", false, 4),
        (sorted(SortTarget::Version, Descend), "acbe", false, 4),
        (sorted(SortTarget::Create, Descend), "ecba", false, 4),
        (sorted(SortTarget::Mod, Ascend), "baec", false, 4),
        // Without an order, the limit plus one cuts in key order before sorting.
        (limited(2, sorted(SortTarget::Value, None)), "cb", true, 4),
        (limited(2, sorted(SortTarget::Value, Ascend)), "ec", true, 4),
        (limited(4, sorted(SortTarget::Value, None)), "ecba", false, 4),
        // Filters apply before the limit; the count ignores them.
        (
            RangeRequest {
                min_mod_revision: 6,
                ..everything()
            },
            "ace",
            false,
            4,
        ),
        (
            RangeRequest {
                max_mod_revision: 6,
                ..everything()
            },
            "ab",
            false,
            4,
        ),
        (
            RangeRequest {
                min_create_revision: 3,
                max_create_revision: 4,
                ..everything()
            },
            "bc",
            false,
            4,
        ),
        (
            limited(
                1,
                RangeRequest {
                    min_mod_revision: 8,
                    ..everything()
                },
            ),
            "c",
            true,
            4,
        ),
        (
            limited(
                1,
                RangeRequest {
                    min_mod_revision: 8,
                    ..sorted(SortTarget::Value, None)
                },
            ),
            "e",
            true,
            4,
        ),
        (past(5, everything()), "abcd", false, 4),
        (past(3, everything()), "ab", false, 2),
        (past(1, everything()), "", false, 0),
        (past(-3, everything()), "abce", false, 4),
        (past(6, limited(3, everything())), "abc", true, 4),
        (past(6, range("d", "")), "d", false, 1),
        (past(7, range("d", "")), "", false, 0),
        (
            past(
                5,
                RangeRequest {
                    count_only: true,
                    ..range("b", "d")
                },
            ),
            "",
            false,
            2,
        ),
    ];
    for (request, expected, more, count) in table {
        let response = member.range(&request);
        assert_eq!(
            (keys(&response).as_str(), response.more, response.count),
            (expected, more, count),
            "{request:?}"
        );
        assert_eq!(response.header.unwrap().revision, 9);
    }
}

#[test]
fn versions_of_the_past_come_back_whole() {
    let member = member();
    let request = RangeRequest {
        revision: 5,
        ..range("a", "")
    };
    let kv = member.range(&request).kvs.pop().unwrap();
    assert_eq!(
        (&kv.value[..], kv.create_revision, kv.mod_revision, kv.version),
        (&b"1"[..], 2, 2, 1)
    );
    let kv = member.range(&range("a", "")).kvs.pop().unwrap();
    assert_eq!(
        (&kv.value[..], kv.create_revision, kv.mod_revision, kv.version),
        (&b"9"[..], 2, 6, 2)
    );
    assert_eq!(member.view().get(&bytes("a")).unwrap(), Some(kv));
    assert_eq!(member.view().get(&bytes("d")).unwrap(), None);
}

#[test]
fn keys_only_leaves_values_out() {
    let member = member();
    for target in [SortTarget::Key, SortTarget::Value, SortTarget::Mod] {
        let request = RangeRequest {
            keys_only: true,
            ..sorted(target, SortOrder::Ascend)
        };
        let response = member.range(&request);
        assert_eq!(response.kvs.len(), 4);
        assert!(
            response
                .kvs
                .iter()
                .all(|kv| kv.value.is_empty() && kv.mod_revision > 0 && kv.version > 0)
        );
    }
}

#[test]
fn revisions_out_of_reach_and_unknown_orders_are_refused() {
    let mut member = member();
    member.run(compact(5)).unwrap();
    let view = member.view();
    let at = |revision| RangeRequest {
        revision,
        ..everything()
    };
    assert!(matches!(view.range(&at(10)), Err(MvccError::FutureRevision)));
    assert!(matches!(view.range(&at(4)), Err(MvccError::Compacted)));
    assert_eq!(keys(&member.range(&at(5))), "abcd");
    let unknown = RangeRequest {
        sort_order: 3,
        ..everything()
    };
    assert!(matches!(view.range(&unknown), Err(MvccError::InvalidSortOption)));
}

#[test]
fn the_first_of_many_are_found_without_holding_all() {
    const KEYS: usize = 1_000;
    let mut member = TestMember::new();
    for number in 0..KEYS {
        // Created in another order than the keys', with three keys per value.
        let place = number * 37 % KEYS;
        member
            .run(put(&format!("{place:04}"), &format!("{:04}", place / 3)))
            .unwrap();
    }
    let targets = [SortTarget::Create, SortTarget::Value, SortTarget::Key];
    for (target, order) in targets
        .into_iter()
        .flat_map(|target| [SortOrder::Ascend, SortOrder::Descend].map(|order| (target, order)))
    {
        let all = member.range(&sorted(target, order)).kvs;
        for limit in [1, 2, 63, 64, 65, 200, 999, 1_000, 1_001] {
            for max_create_revision in [0, 501] {
                let request = RangeRequest {
                    limit: limit as i64,
                    max_create_revision,
                    ..sorted(target, order)
                };
                let passing = all
                    .iter()
                    .filter(|kv| max_create_revision == 0 || kv.create_revision <= max_create_revision);
                let expected: Vec<_> = passing.cloned().collect();
                let reply = member.range(&request);
                assert_eq!(reply.more, expected.len() > limit, "{request:?}");
                assert!(
                    reply.kvs[..] == expected[..limit.min(expected.len())],
                    "{request:?}"
                );
                assert_eq!(reply.count, KEYS as i64);
            }
        }
    }
}

#[test]
fn slices_and_encoding_give_the_same_reply() {
    let member = member();
    let view = member.view();
    for request in [
        everything(),
        RangeRequest {
            revision: 6,
            limit: 2,
            ..everything()
        },
    ] {
        let mut scan = view.range(&request).unwrap();
        let mut slices = 0;
        while scan.advance(1).unwrap() == Progress::More {
            slices += 1;
        }
        assert!(slices >= 4);
        let header = ResponseHeader {
            revision: 9,
            raft_term: 2,
            ..Default::default()
        };
        let (pieces, length) = scan.into_reply().into_encoded(&header);
        let encoded = pieces.concat();
        assert_eq!(encoded.len(), length);
        let expected = view
            .range(&request)
            .unwrap()
            .run()
            .unwrap()
            .into_response(Some(header));
        assert_eq!(RangeResponse::decode(&encoded[..]).unwrap(), expected);
        assert_eq!(encoded, expected.encode_to_vec());
    }
    let without_count = view
        .range(&RangeRequest {
            limit: 2,
            ..everything()
        })
        .unwrap()
        .without_count();
    assert_eq!(without_count.run().unwrap().kvs.keys(), 2);
}

#[test]
fn long_replies_come_in_chunks() {
    let mut member = TestMember::new();
    let value = "x".repeat(100_000);
    for number in 0..20 {
        member.run(put(&format!("{number:03}"), &value)).unwrap();
    }
    let reply = member.view().range(&everything()).unwrap().run().unwrap();
    assert_eq!(reply.kvs.keys(), 20);
    let (pieces, length) = reply.into_encoded(&ResponseHeader::default());
    assert!(
        pieces.len() > 8
            && pieces
                .iter()
                .all(|piece| piece.len() <= crate::limits::REPLY_CHUNK_BYTES)
    );
    assert_eq!(RangeResponse::decode(&pieces.concat()[..]).unwrap().kvs.len(), 20);
    assert!(length > 2_000_000);
}

#[test]
fn a_view_stays_what_it_was() {
    let mut member = member();
    let view = member.view();
    let before = view
        .range(&everything())
        .unwrap()
        .run()
        .unwrap()
        .into_response(None);
    let past = RangeRequest {
        revision: 5,
        ..everything()
    };
    let past_before = view.range(&past).unwrap().run().unwrap().into_response(None);
    for round in 0..50 {
        member.run(put("a", &format!("{round}"))).unwrap();
        member.run(delete("b", "\0")).unwrap();
        member.run(put("c", "back")).unwrap();
        if round % 10 == 0 {
            member.state().flush().unwrap();
        }
    }
    member.run(compact(member.view().revision())).unwrap();
    member.state().reclaim().unwrap();
    member.state().rewrite().unwrap();
    assert_eq!(
        view.range(&everything())
            .unwrap()
            .run()
            .unwrap()
            .into_response(None),
        before
    );
    assert_eq!(
        view.range(&past).unwrap().run().unwrap().into_response(None),
        past_before
    );
}
