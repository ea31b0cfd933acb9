//! Unary calls that take too long, as etcd logs them (server/etcdserver/api/v3rpc/interceptor.go, `logUnaryRequestStats`).
//!
//! A call that is answered at once costs nothing here, and another one two looks at the clock. Only so many are logged in a
//! second: an operator needs to see that calls are slow, and a few of them.

use super::body::{Body, PREFIX_BYTES};
use crate::env::{self, Instant};
use crate::limits::INLINE_WORK_BYTES;
use crate::logging::{self, Sparse};
use crate::requests::{loggable, messages_of};
use bytes::{Buf, Bytes};
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::Duration;
use tonic::Status;

/// etcd's default.
const LIMIT_DEFAULT: Duration = Duration::from_millis(300);
/// Lines about such calls.
const LINES_PER_SECOND: u32 = 10;
/// What is kept of a request that is longer than [`INLINE_WORK_BYTES`].
const PREFIX_KEPT_BYTES: usize = 2 * 1024;

/// What is said of them.
#[derive(Debug)]
pub struct SlowCalls {
    limit: Duration,
    lines: Sparse,
}

impl Default for SlowCalls {
    fn default() -> Self {
        Self::new(LIMIT_DEFAULT)
    }
}

/// The message of a unary call, or the beginning of a long one.
#[derive(Clone, Debug, Default)]
pub struct KeptRequest(OnceLock<(Bytes, usize)>);

impl KeptRequest {
    /// A short one shares its bytes with the request itself, which lives as long.
    pub fn keep(&self, message: &Bytes) {
        let kept = match message.len() {
            ..=INLINE_WORK_BYTES => message.clone(),
            _ => Bytes::copy_from_slice(&message[..PREFIX_KEPT_BYTES]),
        };
        let _ = self.0.set((kept, message.len()));
    }
}

/// A call that has come to its reply.
pub struct AnsweredCall<'a> {
    pub path: &'a str,
    pub remote: Option<SocketAddr>,
    pub begun: Instant,
    pub request: &'a KeptRequest,
    pub reply: &'a Result<Body, Status>,
}

impl SlowCalls {
    /// `limit` is `--warning-unary-request-duration`.
    pub fn new(limit: Duration) -> Self {
        Self {
            limit,
            lines: Sparse::new(LINES_PER_SECOND),
        }
    }

    /// Logs a call if it has taken too long.
    pub fn note(&self, call: &AnsweredCall<'_>) {
        let now = env::now();
        let took = now.saturating_duration_since(call.begun);
        if took <= self.limit || call.reply.as_ref().is_ok_and(Body::is_stream) {
            return;
        }
        if let Some(others) = self.lines.pass(now) {
            log(call, took, others);
        }
    }
}

fn log(call: &AnsweredCall<'_>, took: Duration, others: u64) {
    let stats = Stats::of(call);
    let remote = match call.remote {
        // Sockets of the Unix domain have no address.
        Some(remote) if remote.ip().is_unspecified() => "@".to_owned(),
        Some(remote) => remote.to_string(),
        None => "No remote client info.".to_owned(),
    };
    let start = logging::utc(env::unix_time().saturating_sub(took));
    tracing::warn!(
        "start time" = start,
        "time spent" = ?took,
        "remote" = remote,
        "response type" = call.path,
        "request count" = stats.request_count,
        "request size" = stats.request_bytes,
        "response count" = stats.response_count,
        "response size" = stats.response_bytes,
        "request content" = stats.content,
        others,
        "request stats"
    );
}

/// etcd's figures: -1 for calls that it does not look into.
#[derive(Debug, PartialEq, Eq)]
struct Stats {
    request_count: i64,
    request_bytes: i64,
    response_count: i64,
    response_bytes: i64,
    content: String,
}

impl Stats {
    fn of(call: &AnsweredCall<'_>) -> Self {
        /// Numbers of fields: of a range's reply, a deletion's reply, and a transaction and its reply.
        const COUNT: u32 = 4;
        const DELETED: u32 = 2;
        const SUCCEEDED: u32 = 2;
        const SUCCESS: u32 = 2;
        const FAILURE: u32 = 3;
        let (request, request_bytes) = match call.request.0.get() {
            Some((kept, bytes)) => (&kept[..], *bytes),
            None => (&[][..], 0),
        };
        let pieces = call.reply.as_ref().map(Body::pieces_of_reply);
        let mut reply = Pieces::new(pieces.unwrap_or_default());
        reply.advance(reply.remaining().min(PREFIX_BYTES));
        let mut stats = Self {
            request_count: 0,
            request_bytes: request_bytes as i64,
            response_count: 0,
            response_bytes: reply.remaining() as i64,
            content: String::new(),
        };
        let message = match call.path {
            "/etcdserverpb.KV/Range" => {
                stats.response_count = last_number(reply, COUNT);
                "etcdserverpb.RangeRequest"
            }
            "/etcdserverpb.KV/Put" => {
                stats.request_count = 1;
                "etcdserverpb.PutRequest"
            }
            "/etcdserverpb.KV/DeleteRange" => {
                stats.response_count = last_number(reply, DELETED);
                "etcdserverpb.DeleteRangeRequest"
            }
            "/etcdserverpb.KV/Txn" => {
                let branch = if last_number(reply, SUCCEEDED) == 1 {
                    SUCCESS
                } else {
                    FAILURE
                };
                let operations = messages_of(request, branch);
                (stats.request_count, stats.request_bytes) = operations
                    .fold((0, 0), |(count, bytes), operation| {
                        (count + 1, bytes + operation.len() as i64)
                    });
                "etcdserverpb.TxnRequest"
            }
            _ => {
                return Self {
                    request_count: -1,
                    request_bytes: -1,
                    response_count: -1,
                    response_bytes: -1,
                    content: String::new(),
                };
            }
        };
        stats.content = loggable(message, request);
        stats
    }
}

/// The pieces of an encoded message, one after the other; the first is never empty.
struct Pieces<'a> {
    pieces: VecDeque<&'a [u8]>,
    bytes: usize,
}

impl<'a> Pieces<'a> {
    fn new(pieces: Vec<&'a [u8]>) -> Self {
        let pieces: VecDeque<_> = pieces.into_iter().filter(|piece| !piece.is_empty()).collect();
        let bytes = pieces.iter().map(|piece| piece.len()).sum();
        Self { pieces, bytes }
    }
}

impl Buf for Pieces<'_> {
    fn remaining(&self) -> usize {
        self.bytes
    }

    fn chunk(&self) -> &[u8] {
        self.pieces.front().copied().unwrap_or_default()
    }

    fn advance(&mut self, mut count: usize) {
        self.bytes -= count;
        while let Some(first) = self.pieces.front_mut() {
            let passed = count.min(first.len());
            *first = &first[passed..];
            count -= passed;
            if !first.is_empty() {
                return;
            }
            self.pieces.pop_front();
        }
    }
}

/// The value of a field that holds a number; 0 if it is not there.
fn last_number(mut message: impl Buf, wanted: u32) -> i64 {
    let mut found = 0;
    while message.has_remaining() {
        let Ok((tag, wire_type)) = decode_key(&mut message) else {
            break;
        };
        if tag == wanted && wire_type == WireType::Varint {
            let Ok(number) = decode_varint(&mut message) else {
                break;
            };
            found = number as i64;
        } else if skip_field(wire_type, tag, &mut message, DecodeContext::default()).is_err() {
            break;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::etcdserverpb::{
        DeleteRangeResponse, PutRequest, PutResponse, RangeRequest, RangeResponse, RequestOp, TxnRequest,
        TxnResponse, request_op,
    };
    use crate::proto::mvccpb::KeyValue;
    use prost::Message;

    fn stats(path: &str, request: &impl Message, reply: Body) -> Stats {
        let kept = KeptRequest::default();
        kept.keep(&request.encode_to_vec().into());
        Stats::of(&AnsweredCall {
            path,
            remote: None,
            begun: env::now(),
            request: &kept,
            reply: &Ok(reply),
        })
    }

    fn expected(counts: (i64, i64), bytes: (usize, usize), content: &str) -> Stats {
        Stats {
            request_count: counts.0,
            request_bytes: bytes.0 as i64,
            response_count: counts.1,
            response_bytes: bytes.1 as i64,
            content: content.to_owned(),
        }
    }

    #[test]
    fn figures_are_those_of_etcd() {
        let range = RangeRequest {
            key: "a".into(),
            ..RangeRequest::default()
        };
        let pairs = RangeResponse {
            kvs: vec![
                KeyValue {
                    value: vec![7; 50_000].into(),
                    ..KeyValue::default()
                };
                3
            ],
            count: 300,
            ..RangeResponse::default()
        };
        // In several pieces, as long replies are.
        let encoded = Bytes::from(pairs.encode_to_vec());
        let pieces = encoded.chunks(999).map(Bytes::copy_from_slice).collect();
        let long = Body::pieces(pieces, encoded.len());
        let content = r#"key:"a""#;
        assert_eq!(
            stats("/etcdserverpb.KV/Range", &range, long),
            expected((0, 300), (3, encoded.len()), content)
        );
        let deleted = DeleteRangeResponse {
            deleted: 9,
            ..DeleteRangeResponse::default()
        };
        assert_eq!(
            stats("/etcdserverpb.KV/DeleteRange", &range, Body::message(&deleted)),
            expected((0, 9), (3, 2), content)
        );
        let put = PutRequest {
            key: "k".into(),
            value: "v".repeat(100_000).into(),
            ..PutRequest::default()
        };
        assert_eq!(
            stats(
                "/etcdserverpb.KV/Put",
                &put,
                Body::message(&PutResponse::default())
            ),
            expected((1, 0), (put.encoded_len(), 0), r#"key:"k" value_size:100000 ..."#)
        );
        let operation = RequestOp {
            request: Some(request_op::Request::RequestRange(range.clone())),
        };
        let txn = TxnRequest {
            success: vec![operation.clone(); 2],
            failure: vec![operation],
            ..TxnRequest::default()
        };
        for (succeeded, count) in [(true, 2), (false, 1)] {
            let reply = Body::message(&TxnResponse {
                succeeded,
                ..TxnResponse::default()
            });
            let stats = stats("/etcdserverpb.KV/Txn", &txn, reply);
            assert_eq!((stats.request_count, stats.request_bytes), (count, 5 * count));
            assert!(
                stats.content.starts_with(r#"success:{request_range:{key:"a"}}"#),
                "{}",
                stats.content
            );
        }
        assert_eq!(
            stats("/etcdserverpb.Lease/LeaseGrant", &range, Body::default()),
            Stats {
                request_bytes: -1,
                response_bytes: -1,
                ..expected((-1, -1), (0, 0), "")
            }
        );
    }
}
