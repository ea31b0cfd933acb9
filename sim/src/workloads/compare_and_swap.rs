//! KV.Txn: if the key holds a value (or does not exist), write it, else read it.

use super::{Memory, failed, key_and_value, key_bytes, value_bytes};
use crate::history::{Answer, Input, Key, Outcome, Value};
use crate::random::Stream;
use callboard::client::Client;
use callboard::proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use callboard::proto::etcdserverpb::request_op::Request;
use callboard::proto::etcdserverpb::response_op::Response;
use callboard::proto::etcdserverpb::{Compare, PutRequest, RangeRequest, RequestOp, TxnRequest};

/// A swap that succeeds if nobody else has written meanwhile, or one that fails almost certainly.
pub fn sample(random: &mut Stream, key: Key, memory: &Memory) -> Input {
    let succeed = random.chance(80);
    let expected = if succeed {
        memory.values.get(&key).copied().flatten()
    } else {
        Some(random.between(1, 50))
    };
    Input::CompareAndSwap { key, expected }
}

pub async fn send(client: &Client, id: u64, key: Key, expected: Option<Value>) -> Outcome {
    match client.txn(request(id, key, expected)).await {
        Ok(response) => {
            let found = response
                .responses
                .first()
                .and_then(|response| match &response.response {
                    Some(Response::ResponseRange(range)) => {
                        range.kvs.first().map(|record| key_and_value(record).1)
                    }
                    _ => None,
                });
            Outcome::Answered(Answer::Swapped {
                swapped: response.succeeded,
                found,
                revision: response.header.unwrap_or_default().revision,
            })
        }
        Err(error) => failed(&error),
    }
}

fn request(id: u64, key: Key, expected: Option<Value>) -> TxnRequest {
    let (target, union) = match expected {
        Some(value) => (CompareTarget::Value, TargetUnion::Value(value_bytes(value))),
        None => (CompareTarget::Version, TargetUnion::Version(0)),
    };
    let compare = Compare {
        key: key_bytes(key),
        target: target.into(),
        result: CompareResult::Equal.into(),
        target_union: Some(union),
        ..Compare::default()
    };
    let put = PutRequest {
        key: key_bytes(key),
        value: value_bytes(id),
        ..PutRequest::default()
    };
    let range = RangeRequest {
        key: key_bytes(key),
        ..RangeRequest::default()
    };
    let operation = |request| RequestOp {
        request: Some(request),
    };
    TxnRequest {
        compare: vec![compare],
        success: vec![operation(Request::RequestPut(put))],
        failure: vec![operation(Request::RequestRange(range))],
    }
}
