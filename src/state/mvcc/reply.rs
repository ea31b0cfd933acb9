//! The reply to a range, encoded while it is read.
//!
//! A list of 100,000 keys is 30 MB on the wire. Messages that are built first and encoded later would hold it three times in
//! memory. Here each record is copied once, from the engine's block into the chunk that goes to the socket.

use bytes::Bytes;
use prost::Message;
use prost::encoding::{encode_varint, encoded_len_varint};

use crate::limits::sizes;
use crate::proto::etcdserverpb::{RangeResponse, ResponseHeader};
use crate::proto::mvccpb::KeyValue;
use crate::storage::state::record::Record;

const TAG_HEADER: u8 = 1 << 3 | 2;
const TAG_KVS: u8 = 2 << 3 | 2;
const TAG_MORE: u8 = 3 << 3;
const TAG_COUNT: u8 = 4 << 3;

/// `RangeResponse.kvs`, encoded, in chunks that end between messages.
#[derive(Debug, Default)]
pub struct EncodedKvs {
    chunks: Vec<Bytes>,
    open: Vec<u8>,
    keys: u64,
    bytes: usize,
}

impl EncodedKvs {
    pub fn push(&mut self, key: &[u8], record: &Record) {
        let bytes = record.key_value_bytes(key);
        self.begin(bytes);
        record.encode_key_value(key, &mut self.open);
    }

    /// Adds a record without value and lease.
    pub fn push_key_only(&mut self, key: &[u8], record: &Record) {
        let bytes = record.key_only_bytes(key);
        self.begin(bytes);
        record.encode_key_only(key, &mut self.open);
    }

    pub fn push_message(&mut self, message: &KeyValue) {
        self.begin(message.encoded_len());
        message.encode_raw(&mut self.open);
    }

    fn begin(&mut self, bytes: usize) {
        let field_bytes = 1 + encoded_len_varint(bytes as u64) + bytes;
        let used = self.open.len();
        if used > 0 && used + field_bytes > sizes().reply_chunk_bytes {
            self.seal();
        }
        if self.open.capacity() == 0 {
            // The first chunk is as long as its content: most replies are small.
            let capacity = if self.keys == 0 {
                field_bytes
            } else {
                sizes().reply_chunk_bytes
            };
            self.open.reserve_exact(capacity.max(field_bytes));
        }
        self.open.push(TAG_KVS);
        encode_varint(bytes as u64, &mut self.open);
        self.keys += 1;
        self.bytes += field_bytes;
    }

    fn seal(&mut self) {
        if !self.open.is_empty() {
            self.chunks.push(Bytes::from(std::mem::take(&mut self.open)));
        }
    }

    pub fn keys(&self) -> u64 {
        self.keys
    }

    /// The total length of the chunks.
    pub fn encoded_bytes(&self) -> usize {
        self.bytes
    }

    pub fn into_chunks(mut self) -> Vec<Bytes> {
        self.seal();
        self.chunks
    }
}

/// An encoded `TxnResponse` of a transaction that has only ranges, in pieces.
#[derive(Debug)]
pub struct EncodedTxn {
    pieces: Vec<Bytes>,
    bytes: usize,
}

/// Fields of `TxnResponse` and of `ResponseOp`.
const TAG_SUCCEEDED: u8 = 2 << 3;
const TAG_RESPONSES: u8 = 3 << 3 | 2;
const TAG_RANGE: u8 = 1 << 3 | 2;

impl EncodedTxn {
    pub fn new(header: &ResponseHeader, succeeded: bool) -> Self {
        let mut front = Vec::with_capacity(64);
        front.push(TAG_HEADER);
        header
            .encode_length_delimited(&mut front)
            .expect("a vector grows as needed");
        if succeeded {
            front.extend_from_slice(&[TAG_SUCCEEDED, 1]);
        }
        Self {
            bytes: front.len(),
            pieces: vec![front.into()],
        }
    }

    /// Adds the answer to the next range.
    pub fn push(&mut self, reply: RangeReply) {
        let header = ResponseHeader {
            revision: reply.header_revision,
            ..ResponseHeader::default()
        };
        let (pieces, bytes) = reply.into_encoded(&header);
        let operation_bytes = 1 + encoded_len_varint(bytes as u64) + bytes;
        let mut front = Vec::with_capacity(16);
        front.push(TAG_RESPONSES);
        encode_varint(operation_bytes as u64, &mut front);
        front.push(TAG_RANGE);
        encode_varint(bytes as u64, &mut front);
        self.bytes += front.len() + bytes;
        self.pieces.push(front.into());
        self.pieces.extend(pieces);
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The pieces, to be sent one after another.
    pub fn into_pieces(self) -> Vec<Bytes> {
        self.pieces
    }
}

/// The result of a range.
#[derive(Debug, Default)]
pub struct RangeReply {
    pub kvs: EncodedKvs,
    /// There were more results than the limit allowed.
    pub more: bool,
    /// The number of keys in the range at that revision, regardless of limit and filters.
    pub count: i64,
    /// The revision for the response's header.
    pub header_revision: i64,
}

impl RangeReply {
    /// The encoded `RangeResponse`, in pieces to be sent one after another, and its length.
    pub fn into_encoded(self, header: &ResponseHeader) -> (Vec<Bytes>, usize) {
        let mut front = Vec::with_capacity(64);
        front.push(TAG_HEADER);
        header
            .encode_length_delimited(&mut front)
            .expect("a vector grows as needed");
        let mut back = Vec::with_capacity(16);
        if self.more {
            back.extend_from_slice(&[TAG_MORE, 1]);
        }
        if self.count != 0 {
            back.push(TAG_COUNT);
            encode_varint(self.count as u64, &mut back);
        }
        let mut pieces = vec![Bytes::from(front)];
        pieces.extend(self.kvs.into_chunks());
        if !back.is_empty() {
            pieces.push(Bytes::from(back));
        }
        let bytes = pieces.iter().map(Bytes::len).sum();
        (pieces, bytes)
    }

    /// The message, for small replies and inside transactions. Keys and values share memory with the chunks.
    pub fn into_response(self, header: Option<ResponseHeader>) -> RangeResponse {
        let mut response = RangeResponse {
            header,
            kvs: vec![],
            more: self.more,
            count: self.count,
        };
        response.kvs.reserve_exact(self.kvs.keys as usize);
        for chunk in self.kvs.into_chunks() {
            let part = RangeResponse::decode(chunk).expect("what was just encoded decodes");
            response.kvs.extend(part.kvs);
        }
        response
    }
}
