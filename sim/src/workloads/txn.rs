//! KV.Txn: if each of some keys has its expected value (or does not exist), writes them all, else reads them. Over one key it is
//! compare-and-swap, over several a read-modify-write that must be atomic.

use super::{Memory, failed, key_and_value, key_bytes, value_bytes};
use crate::history::{Answer, Held, Input, Key, Outcome};
use crate::random::RandomStream;
use callboard::client::Client;
use callboard::proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use callboard::proto::etcdserverpb::request_op::Request;
use callboard::proto::etcdserverpb::response_op::Response;
use callboard::proto::etcdserverpb::{Compare, PutRequest, RangeRequest, RequestOp, ResponseOp, TxnRequest};

/// A swap over at most `keys_max` keys that succeeds if no other client has written meanwhile, or one that fails almost
/// certainly.
pub fn sample(random: &mut RandomStream, keys: u32, keys_max: u64, memory: &Memory) -> Input {
    let succeed = random.chance(80);
    let count = random.between(1, keys_max.min(u64::from(keys)));
    let mut chosen: Vec<Key> = (0..keys).collect();
    random.shuffle(&mut chosen);
    chosen.truncate(count as usize);
    chosen.sort_unstable();
    let mut expected: Vec<Held> = chosen
        .iter()
        .map(|key| (*key, memory.values.get(key).copied().flatten()))
        .collect();
    if !succeed {
        let wrong = random.below(count) as usize;
        expected[wrong].1 = Some(random.between(1, 50));
    }
    Input::Swap { expected }
}

pub async fn send(client: &Client, id: u64, expected: &[Held]) -> Outcome {
    match client.txn(request(id, expected)).await {
        Ok(response) => {
            let found = if response.succeeded {
                Vec::new()
            } else {
                expected
                    .iter()
                    .map(|(key, _)| *key)
                    .zip(response.responses.iter().map(value))
                    .collect()
            };
            Outcome::Answered(Answer::Swapped {
                swapped: response.succeeded,
                found,
                revision: response.header.unwrap_or_default().revision,
            })
        }
        Err(error) => failed(&error),
    }
}

fn value(response: &ResponseOp) -> Option<u64> {
    match &response.response {
        Some(Response::ResponseRange(range)) => range.kvs.first().map(|record| key_and_value(record).1),
        _ => Some(0),
    }
}

fn request(id: u64, expected: &[Held]) -> TxnRequest {
    let operation = |request| RequestOp {
        request: Some(request),
    };
    let put = |key| PutRequest {
        key: key_bytes(key),
        value: value_bytes(id),
        ..PutRequest::default()
    };
    let range = |key| RangeRequest {
        key: key_bytes(key),
        ..RangeRequest::default()
    };
    TxnRequest {
        compare: expected.iter().map(compare).collect(),
        success: expected
            .iter()
            .map(|(key, _)| operation(Request::RequestPut(put(*key))))
            .collect(),
        failure: expected
            .iter()
            .map(|(key, _)| operation(Request::RequestRange(range(*key))))
            .collect(),
    }
}

fn compare((key, expected): &Held) -> Compare {
    let (target, union) = match expected {
        Some(value) => (CompareTarget::Value, TargetUnion::Value(value_bytes(*value))),
        None => (CompareTarget::Version, TargetUnion::Version(0)),
    };
    Compare {
        key: key_bytes(*key),
        target: target.into(),
        result: CompareResult::Equal.into(),
        target_union: Some(union),
        ..Compare::default()
    }
}
