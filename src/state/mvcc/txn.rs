//! The reading part of transactions: conditions, which branches are taken, and whether a transaction only reads.
//!
//! Mirrors etcd's server/etcdserver/txn/txn.go: all conditions, also those of nested transactions, see the state before the
//! first operation. Ranges are checked before any operation is carried out.

use std::cmp::Ordering;

use crate::proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::proto::etcdserverpb::request_op::Request;
use crate::proto::etcdserverpb::{
    Compare, RangeRequest, RangeResponse, RequestOp, ResponseHeader, TxnRequest,
};
use crate::state::mvcc::MvccError;
use crate::state::mvcc::range::{RangeScan, sorting};
use crate::state::mvcc::records::{RecordsAt, Source};
use crate::storage::state::error::StateError;
use crate::storage::state::keys::KeyRange;
use crate::storage::state::record::Header;

/// Whether a transaction can only read: nothing but ranges in both branches. A nested transaction counts as a write.
pub fn is_read_only(request: &TxnRequest) -> bool {
    operations(request).all(|operation| matches!(operation.request, Some(Request::RequestRange(_))))
}

/// Whether a read-only transaction may be answered from the local state of any member.
pub fn is_serializable(request: &TxnRequest) -> bool {
    operations(request).all(
        |operation| matches!(&operation.request, Some(Request::RequestRange(range)) if range.serializable),
    )
}

/// The ranges of a branch. [`is_read_only`] must hold for the transaction.
pub fn ranges(branch: &[RequestOp]) -> impl Iterator<Item = &RangeRequest> {
    branch.iter().filter_map(|operation| match &operation.request {
        Some(Request::RequestRange(range)) => Some(range),
        _ => None,
    })
}

fn operations(request: &TxnRequest) -> impl Iterator<Item = &RequestOp> {
    request.success.iter().chain(&request.failure)
}

/// A transaction with its conditions evaluated.
#[derive(Debug)]
pub struct Plan<'r> {
    pub succeeded: bool,
    pub operations: Vec<Planned<'r>>,
}

/// One operation of the branch that is taken.
#[derive(Debug)]
pub enum Planned<'r> {
    Operation(&'r Request),
    Txn(Plan<'r>),
    /// etcd answers an operation without content with a response without content.
    Empty,
}

/// Evaluates the conditions of `request` and of the transactions nested in the branches that are taken.
pub fn plan<'r>(source: &dyn Source<'_>, request: &'r TxnRequest) -> Result<Plan<'r>, StateError> {
    let mut succeeded = true;
    for compare in &request.compare {
        if !holds(source, compare)? {
            succeeded = false;
            break;
        }
    }
    let branch = if succeeded {
        &request.success
    } else {
        &request.failure
    };
    let mut operations = Vec::with_capacity(branch.len());
    for operation in branch {
        operations.push(match &operation.request {
            None => Planned::Empty,
            Some(Request::RequestTxn(nested)) => Planned::Txn(plan(source, nested)?),
            Some(other) => Planned::Operation(other),
        });
    }
    Ok(Plan {
        succeeded,
        operations,
    })
}

fn holds(source: &dyn Source<'_>, compare: &Compare) -> Result<bool, StateError> {
    let mut condition = Condition::new(source, compare)?;
    loop {
        if let Some(holds) = condition.advance(usize::MAX)? {
            return Ok(holds);
        }
    }
}

/// A condition being evaluated. Every key of the range must satisfy it. A range without keys is compared as a key full of
/// zeros, except that a comparison of values is false.
pub struct Condition<'r, 's> {
    compare: &'r Compare,
    walk: CompareWalk<'s>,
}

enum CompareWalk<'s> {
    /// The usual condition, on a number of one key, needs no value.
    Header(Header),
    /// Boxed, since it is many times as large.
    Records(Box<RecordsAt<'s>>, bool),
}

impl<'r, 's> Condition<'r, 's> {
    pub fn new(source: &dyn Source<'s>, compare: &'r Compare) -> Result<Self, StateError> {
        let range = KeyRange::new(compare.key.clone(), compare.range_end.clone());
        let walk = match &range {
            KeyRange::Single(key) if compare.target != CompareTarget::Value as i32 => {
                CompareWalk::Header(source.newest_header(key)?.unwrap_or_default())
            }
            _ => CompareWalk::Records(Box::new(RecordsAt::newest(source, &range)?), false),
        };
        Ok(Self { compare, walk })
    }

    /// Looks at up to `keys_max` records. Returns whether the condition holds, once that is known.
    pub fn advance(&mut self, keys_max: usize) -> Result<Option<bool>, StateError> {
        let compare = self.compare;
        let (records, any) = match &mut self.walk {
            CompareWalk::Header(header) => return Ok(Some(holds_for(compare, header, &[]))),
            CompareWalk::Records(records, any) => (records, any),
        };
        for _ in 0..keys_max {
            let Some((_, record)) = records.next_record()? else {
                let by_value = compare.target == CompareTarget::Value as i32;
                return Ok(Some(
                    *any || (!by_value && holds_for(compare, &Header::default(), &[])),
                ));
            };
            *any = true;
            if !holds_for(compare, &record.header, &record.value()) {
                return Ok(Some(false));
            }
        }
        Ok(None)
    }
}

/// A union field of another target counts as zero.
fn holds_for(compare: &Compare, header: &Header, value: &[u8]) -> bool {
    let Header {
        create_revision,
        mod_revision,
        version,
        lease,
        ..
    } = *header;
    let union = compare.target_union.as_ref();
    let ordering = match CompareTarget::try_from(compare.target) {
        Ok(CompareTarget::Version) => version.cmp(&match union {
            Some(TargetUnion::Version(number)) => *number,
            _ => 0,
        }),
        Ok(CompareTarget::Create) => create_revision.cmp(&match union {
            Some(TargetUnion::CreateRevision(number)) => *number,
            _ => 0,
        }),
        Ok(CompareTarget::Mod) => mod_revision.cmp(&match union {
            Some(TargetUnion::ModRevision(number)) => *number,
            _ => 0,
        }),
        Ok(CompareTarget::Lease) => lease.cmp(&match union {
            Some(TargetUnion::Lease(number)) => *number,
            _ => 0,
        }),
        Ok(CompareTarget::Value) => value.cmp(match union {
            Some(TargetUnion::Value(bytes)) => bytes,
            _ => &[],
        }),
        // etcd leaves the result of the comparison at "equal".
        Err(_) => Ordering::Equal,
    };
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => ordering.is_eq(),
        Ok(CompareResult::NotEqual) => ordering.is_ne(),
        Ok(CompareResult::Greater) => ordering.is_gt(),
        Ok(CompareResult::Less) => ordering.is_lt(),
        Err(_) => true,
    }
}

/// What etcd checks of a range before a transaction starts. Unlike in a plain range, a negative revision counts as compacted,
/// except -1 while nothing has been compacted.
pub fn check_range(source: &dyn Source<'_>, request: &RangeRequest) -> Result<(), MvccError> {
    // Checked here since members that do not answer the client skip the range itself.
    sorting(request)?;
    match request.revision {
        0 => Ok(()),
        revision if revision > source.revision() => Err(MvccError::FutureRevision),
        revision if revision < source.compact_revision() => Err(MvccError::Compacted),
        _ => Ok(()),
    }
}

/// A range inside a transaction: run at once, with a header that has only the revision.
pub fn range(source: &dyn Source<'_>, request: &RangeRequest) -> Result<RangeResponse, MvccError> {
    let header = ResponseHeader {
        revision: source.revision(),
        ..Default::default()
    };
    Ok(RangeScan::new(source, request)?
        .run()?
        .into_response(Some(header)))
}
