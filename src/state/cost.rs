//! The estimated size of a command. While a NOSPACE alarm is up, a command that needs space is refused; before a proposal, the
//! size is checked against the quota. Mirrors etcd's server/storage/quota.go.

use crate::proto::etcdserverpb::request_op;
use crate::proto::etcdserverpb::{PutRequest, RequestOp, TxnRequest};
use crate::proto::log::command::Request;

/// The estimated bytes of a record besides its key and value.
const KEY_VALUE_OVERHEAD_BYTES: u64 = 256;
/// The estimated bytes of a lease.
const LEASE_BYTES: u64 = 64;

/// The estimated bytes that a command needs; 0 if it stores nothing.
pub fn cost(request: &Request) -> u64 {
    match request {
        Request::Put(put) => put_cost(put),
        Request::Txn(txn) => txn_cost(txn),
        Request::LeaseGrant(_) => LEASE_BYTES,
        _ => 0,
    }
}

/// Whether a command may delete. A delete moves history that a compaction has left, which takes space until the next
/// compaction.
pub fn deletes(request: &Request) -> bool {
    matches!(request, Request::DeleteRange(_) | Request::Txn(_))
}

fn put_cost(put: &PutRequest) -> u64 {
    KEY_VALUE_OVERHEAD_BYTES + (put.key.len() + put.value.len()) as u64
}

/// The larger branch: which one is taken is not known yet.
fn txn_cost(txn: &TxnRequest) -> u64 {
    let branch = |operations: &[RequestOp]| operations.iter().map(operation_cost).sum::<u64>();
    branch(&txn.success).max(branch(&txn.failure))
}

fn operation_cost(operation: &RequestOp) -> u64 {
    match &operation.request {
        Some(request_op::Request::RequestPut(put)) => put_cost(put),
        Some(request_op::Request::RequestTxn(txn)) => txn_cost(txn),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::etcdserverpb::{DeleteRangeRequest, LeaseGrantRequest};

    fn put(value_bytes: usize) -> RequestOp {
        let put = PutRequest {
            key: "key".into(),
            value: vec![0; value_bytes].into(),
            ..Default::default()
        };
        RequestOp {
            request: Some(request_op::Request::RequestPut(put)),
        }
    }

    fn txn(success: Vec<RequestOp>, failure: Vec<RequestOp>) -> TxnRequest {
        TxnRequest {
            success,
            failure,
            ..Default::default()
        }
    }

    #[test]
    fn a_transaction_costs_as_much_as_its_dearer_branch() {
        let nested = RequestOp {
            request: Some(request_op::Request::RequestTxn(txn(vec![put(5)], vec![put(50)]))),
        };
        let delete = RequestOp {
            request: Some(request_op::Request::RequestDeleteRange(
                DeleteRangeRequest::default(),
            )),
        };
        let cases = [
            (Request::Txn(txn(vec![], vec![])), 0),
            (Request::Txn(txn(vec![delete.clone()], vec![delete.clone()])), 0),
            (Request::Txn(txn(vec![put(10), delete], vec![])), 269),
            (Request::Txn(txn(vec![put(10)], vec![put(1), nested])), 260 + 309),
            (Request::LeaseGrant(LeaseGrantRequest::default()), 64),
            (Request::DeleteRange(DeleteRangeRequest::default()), 0),
        ];
        for (request, bytes) in cases {
            assert_eq!(cost(&request), bytes, "{request:?}");
        }
    }
}
