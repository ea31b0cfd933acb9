//! Measures the width and depth of a transaction in its encoded form, so that one out of bounds is refused before anything is
//! allocated for it. A transaction that passes is decoded and then checked by [`super::check`], which decides.

use super::status::EtcdError;
use crate::limits::{TXN_LEVELS_MAX, TXN_PARTS_PER_OP};
use crate::mutants::{self, Mutant};
use prost::encoding::decode_varint;

/// The bounds of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxnBounds {
    /// Operations on one path from the outermost transaction to an innermost one: at each level the longest of the three lists
    /// counts (etcd: server/etcdserver/api/v3rpc/key.go, `checkTxnRequest`).
    pub ops: usize,
    /// Compares and operations of all levels and branches together.
    pub parts: usize,
    pub levels: usize,
}

impl TxnBounds {
    /// The bounds that follow from `--max-txn-ops`.
    pub fn of(max_txn_ops: usize) -> Self {
        Self {
            ops: max_txn_ops,
            parts: max_txn_ops.saturating_mul(TXN_PARTS_PER_OP),
            levels: if mutants::active(Mutant::DepthUnchecked) {
                usize::MAX
            } else {
                TXN_LEVELS_MAX
            },
        }
    }

    /// The bounds one level deeper, if the longest list of this level has `longest` operations and all of its lists together have
    /// `parts` entries.
    pub(super) fn enter(&mut self, longest: usize, parts: usize) -> Result<Self, EtcdError> {
        let ops = self.ops.checked_sub(longest).ok_or(EtcdError::TooManyOps)?;
        self.parts = self.parts.checked_sub(parts).ok_or(EtcdError::TooManyOps)?;
        Ok(Self {
            ops,
            parts: self.parts,
            levels: self.levels - 1,
        })
    }
}

/// Why a transaction is not decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    OutOfBounds(EtcdError),
    /// Not an encoding that a client library produces.
    Malformed,
}

impl From<EtcdError> for Refused {
    fn from(error: EtcdError) -> Self {
        Self::OutOfBounds(error)
    }
}

/// Fields of `etcdserverpb.TxnRequest` and `etcdserverpb.RequestOp`.
const COMPARE: u64 = 1;
const SUCCESS: u64 = 2;
const FAILURE: u64 = 3;
const REQUEST_TXN: u64 = 4;

/// Checks an encoded `etcdserverpb.TxnRequest`.
pub fn txn(encoded: &[u8], bounds: TxnBounds) -> Result<(), Refused> {
    let mut bounds = bounds;
    level(encoded, &mut bounds)
}

fn level(encoded: &[u8], bounds: &mut TxnBounds) -> Result<(), Refused> {
    if bounds.levels == 0 {
        return Err(EtcdError::TooManyLevels.into());
    }
    let mut lists = [0; 3];
    for field in Fields(encoded) {
        if let (number @ COMPARE..=FAILURE, Some(_)) = field? {
            let list = &mut lists[number as usize - 1];
            *list += 1;
            if *list > bounds.ops {
                return Err(EtcdError::TooManyOps.into());
            }
        }
    }
    let [compares, success, failure] = lists;
    let longest = compares.max(success).max(failure);
    let mut inner = bounds.enter(longest, compares + success + failure)?;
    for field in Fields(encoded) {
        let (SUCCESS | FAILURE, Some(operation)) = field? else {
            continue;
        };
        for field in Fields(operation) {
            if let (REQUEST_TXN, Some(nested)) = field? {
                inner.parts = bounds.parts;
                level(nested, &mut inner)?;
                bounds.parts = inner.parts;
            }
        }
    }
    Ok(())
}

/// Whether a message has at most this many fields, not counting those of nested messages.
pub fn has_few_fields(encoded: &[u8], fields_max: usize) -> bool {
    Fields(encoded).take(fields_max + 1).flatten().count() <= fields_max
}

/// The fields of a message: their numbers, and the content of length-delimited ones.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn next_field(&mut self) -> Option<(u64, Option<&'a [u8]>)> {
        let key = decode_varint(&mut self.0).ok()?;
        let bytes = match key & 7 {
            0 => {
                decode_varint(&mut self.0).ok()?;
                return Some((key >> 3, None));
            }
            1 => 8,
            2 => usize::try_from(decode_varint(&mut self.0).ok()?).ok()?,
            5 => 4,
            // None of these messages has groups.
            _ => return None,
        };
        let (content, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some((key >> 3, (key & 7 == 2).then_some(content)))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Option<&'a [u8]>), Refused>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.next_field();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field.ok_or(Refused::Malformed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::check;
    use crate::proto::etcdserverpb::request_op::Request;
    use crate::proto::etcdserverpb::{Compare, RequestOp, TxnRequest};
    use crate::state::testing::{nested, put};
    use proptest::prelude::*;
    use prost::Message;

    fn operation(request: Request) -> RequestOp {
        RequestOp {
            request: Some(request),
        }
    }

    /// A transaction of `width` operations, each a transaction of `width`, over this many levels.
    fn bushy(width: usize, levels: usize) -> TxnRequest {
        let inner = match levels {
            1 => Request::RequestPut(put("k", "v")),
            _ => Request::RequestTxn(bushy(width, levels - 1)),
        };
        TxnRequest {
            success: vec![operation(inner); width],
            ..TxnRequest::default()
        }
    }

    #[test]
    fn width_depth_and_both_together_are_bounded() {
        let wide = |operations| TxnRequest {
            failure: vec![operation(Request::RequestPut(put("k", "v"))); operations],
            ..TxnRequest::default()
        };
        let compares = |compares| TxnRequest {
            compare: vec![Compare::default(); compares],
            ..TxnRequest::default()
        };
        let too_many = Err(Refused::OutOfBounds(EtcdError::TooManyOps));
        let too_deep = Err(Refused::OutOfBounds(EtcdError::TooManyLevels));
        let cases = [
            (TxnRequest::default(), Ok(())),
            (wide(128), Ok(())),
            (wide(129), too_many),
            (wide(400_000), too_many),
            (compares(128), Ok(())),
            (compares(129), too_many),
            (nested(TXN_LEVELS_MAX), Ok(())),
            (nested(TXN_LEVELS_MAX + 1), too_deep),
            (nested(1_000), too_deep),
            (bushy(6, 4), Ok(())),
            // 7,380 parts, though no path has more than 24 operations.
            (bushy(9, 4), too_many),
            (bushy(60, 3), too_many),
        ];
        for (number, (request, expected)) in cases.into_iter().enumerate() {
            let found = txn(&request.encode_to_vec(), TxnBounds::of(128));
            assert_eq!(found, expected, "case {number}");
        }
    }

    #[test]
    fn the_innermost_level_has_what_the_outer_ones_leave() {
        let bounds = TxnBounds::of(3);
        assert_eq!(txn(&nested(3).encode_to_vec(), bounds), Ok(()));
        let refused = txn(&nested(4).encode_to_vec(), bounds);
        assert_eq!(refused, Err(Refused::OutOfBounds(EtcdError::TooManyOps)));
    }

    proptest! {
        #[test]
        fn nothing_that_is_refused_here_would_pass_the_check_of_the_decoded_request(
            encoded in prop::collection::vec(prop::sample::select(vec![0x0a_u8, 0x12, 0x1a, 0x22, 0, 1, 2, 3, 4, 5, 6, 8, 9]), 0..60),
        ) {
            if let (Ok(request), Err(Refused::OutOfBounds(_))) = (TxnRequest::decode(encoded.as_slice()), txn(&encoded, TxnBounds::of(2))) {
                prop_assert!(check::txn(&request, TxnBounds::of(2)).is_err());
            }
        }
    }
}
