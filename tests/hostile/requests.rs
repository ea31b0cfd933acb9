//! Requests that are deep, wide, huge, or ask for much.

use crate::scene::Scene;
use crate::wire::{call, connect, framed, prefixed, put};
use bytes::Bytes;
use callboard::proto::etcdserverpb as pb;
use callboard::proto::etcdserverpb::request_op::Request;
use futures_util::future::join_all;
use std::net::SocketAddr;

pub const TXN: &str = "/etcdserverpb.KV/Txn";
const PUT: &str = "/etcdserverpb.KV/Put";

pub const OK: u32 = 0;
const INVALID_ARGUMENT: u32 = 3;
const RESOURCE_EXHAUSTED: u32 = 8;

#[test]
fn deep_wide_and_huge_requests_cost_their_sender_an_error() {
    let mut scene = Scene::start(3);
    for levels in [2, 32, 33, 50, 60, 100, 5_000] {
        let expected = if levels <= 32 { OK } else { INVALID_ARGUMENT };
        let request = prefixed(&nested(levels));
        scene.attack_once(|member| expect(member, TXN, request.clone(), expected));
    }
    let deep = prefixed(&nested(50));
    scene.attack("50 levels", 64, |member| {
        many(member, TXN, deep.clone(), INVALID_ARGUMENT, 64)
    });
    let wide = prefixed(&wide(400_000));
    scene.attack("400,000 operations", 192, |member| {
        many(member, TXN, wide.clone(), INVALID_ARGUMENT, 8)
    });
    let bushy = prefixed(&bushy(8, 5));
    scene.attack("8 to the 5 operations", 96, |member| {
        many(member, TXN, bushy.clone(), INVALID_ARGUMENT, 8)
    });
    let huge = put("huge", vec![7; 3 << 20]);
    scene.attack("puts of 3 MB", 96, |member| {
        many(member, PUT, huge.clone(), RESOURCE_EXHAUSTED, 8)
    });
    let large = put("large", vec![7; 1_500_000]);
    scene.attack("puts of 1.5 MB", 384, |member| {
        many(member, PUT, large.clone(), OK, 2)
    });
}

#[test]
fn whole_ranges_in_transactions_that_only_read_leave_room_for_others() {
    let mut scene = Scene::start(3);
    scene.attack_once(|member| fill(member, 20_000));
    let range = pb::RangeRequest {
        key: "k".into(),
        range_end: "l".into(),
        ..Default::default()
    };
    let counted = pb::RangeRequest {
        count_only: true,
        min_mod_revision: 1 << 40,
        ..range.clone()
    };
    let compare = pb::Compare {
        key: "k".into(),
        range_end: "l".into(),
        ..Default::default()
    };
    let whole = |request: &pb::RangeRequest, compares, ranges| {
        framed(&pb::TxnRequest {
            compare: vec![compare.clone(); compares],
            success: vec![operation(Request::RequestRange(request.clone())); ranges],
            failure: vec![operation(Request::RequestRange(request.clone())); 1],
        })
    };
    let ranges = whole(&range, 0, 16);
    scene.attack("16 whole ranges", 256, |member| {
        many(member, TXN, ranges.clone(), OK, 2)
    });
    let counts = whole(&counted, 0, 128);
    scene.attack("128 filtered ranges", 64, |member| {
        many(member, TXN, counts.clone(), OK, 2)
    });
    let compares = whole(&counted, 128, 1);
    scene.attack("128 whole conditions", 64, |member| {
        many(member, TXN, compares.clone(), OK, 2)
    });
}

async fn expect(member: SocketAddr, path: &'static str, request: Bytes, code: u32) {
    let mut sender = connect(member).await;
    let answer = call(&mut sender, path, request).await.expect("an answer");
    assert_eq!(answer.0, code, "{}", answer.1);
}

/// So many at once, each on a connection of its own.
pub async fn many(member: SocketAddr, path: &'static str, request: Bytes, code: u32, count: usize) {
    join_all((0..count).map(|_| expect(member, path, request.clone(), code))).await;
}

pub async fn fill(member: SocketAddr, keys: usize) {
    let mut sender = connect(member).await;
    for first in (0..keys).step_by(100) {
        let puts = (first..first + 100).map(|number| {
            operation(Request::RequestPut(pb::PutRequest {
                key: format!("k{number:06}").into(),
                value: vec![7; 200].into(),
                ..Default::default()
            }))
        });
        let request = pb::TxnRequest {
            success: puts.collect(),
            ..Default::default()
        };
        let answer = call(&mut sender, TXN, framed(&request)).await.expect("an answer");
        assert_eq!(answer.0, OK, "{}", answer.1);
    }
}

pub fn operation(request: Request) -> pb::RequestOp {
    pb::RequestOp {
        request: Some(request),
    }
}

/// A field with a length.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    prost::encode_length_delimiter(content.len(), &mut field).expect("a vector grows");
    field.extend_from_slice(content);
    field
}

const SUCCESS: u8 = 2;
const REQUEST_PUT: u8 = 2;
const REQUEST_TXN: u8 = 4;

fn encoded_put() -> Vec<u8> {
    field(SUCCESS, &field(REQUEST_PUT, &field(1, b"deep")))
}

/// A transaction of so many levels. Encoded by hand: a library's encoder looks at each level once for every level above it.
fn nested(levels: usize) -> Vec<u8> {
    let mut request = encoded_put();
    for _ in 1..levels {
        request = field(SUCCESS, &field(REQUEST_TXN, &request));
    }
    request
}

/// Empty operations side by side: 2 bytes each.
fn wide(operations: usize) -> Vec<u8> {
    field(SUCCESS, &[]).repeat(operations)
}

fn bushy(width: usize, levels: usize) -> Vec<u8> {
    let mut request = encoded_put().repeat(width);
    for _ in 1..levels {
        request = field(SUCCESS, &field(REQUEST_TXN, &request)).repeat(width);
    }
    request
}
