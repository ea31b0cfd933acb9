//! Transactions that no member may let into its log: nested too deeply to be decoded from there, too wide, or both. They are
//! refused on arrival, with a clear error, and have no effect.

use crate::checkers::Violation;
use crate::random::RandomStream;
use crate::world::World;
use callboard::client::{Client, Error};
use callboard::etcd_errors::EtcdError;
use callboard::limits::{TXN_LEVELS_MAX, TXN_OPS_MAX_DEFAULT};
use callboard::proto::etcdserverpb as pb;
use callboard::proto::etcdserverpb::request_op::Request as Operation;
use tonic::Code;

/// More levels than the decoder of entries accepts.
const LEVELS_MAX: u64 = 120;
const OPERATIONS_MAX: u64 = 1_000;

/// Sends one, and checks that it is refused.
pub async fn ask(random: &mut RandomStream, world: &World, client: &Client) -> Result<(), Violation> {
    let (request, counter, text) = if random.chance(60) {
        let levels = random.between(TXN_LEVELS_MAX as u64 + 1, LEVELS_MAX);
        (nested(levels), "asked: too deep", "nested too deeply")
    } else {
        let operations = random.between(u64::from(TXN_OPS_MAX_DEFAULT) + 1, OPERATIONS_MAX);
        (wide(operations), "asked: too wide", "too many operations")
    };
    world.count(counter, 1);
    match client.txn(request).await {
        Err(Error::Refused(status))
            if status.code() == Code::InvalidArgument && status.message().contains(text) =>
        {
            Ok(())
        }
        // No member was available to refuse it.
        Err(error)
            if matches!(
                error.code(),
                Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled
            ) =>
        {
            Ok(())
        }
        // A learner does not check the request.
        Err(Error::Refused(status)) if status.message() == EtcdError::NotForLearner.text() => Ok(()),
        Err(error) => Err(Violation(format!(
            "a transaction out of bounds was answered with {error}"
        ))),
        Ok(_) => Err(Violation(
            "a transaction out of bounds was carried out".to_owned(),
        )),
    }
}

fn get() -> pb::RequestOp {
    let get = pb::RangeRequest {
        key: "q".into(),
        ..pb::RangeRequest::default()
    };
    operation(Operation::RequestRange(get))
}

fn operation(request: Operation) -> pb::RequestOp {
    pb::RequestOp {
        request: Some(request),
    }
}

fn nested(levels: u64) -> pb::TxnRequest {
    let mut request = wide(1);
    for _ in 1..levels {
        request = pb::TxnRequest {
            success: vec![operation(Operation::RequestTxn(request))],
            ..pb::TxnRequest::default()
        };
    }
    request
}

fn wide(operations: u64) -> pb::TxnRequest {
    pb::TxnRequest {
        success: (0..operations).map(|_| get()).collect(),
        ..pb::TxnRequest::default()
    }
}
