//! The requests: gRPC frames prepared once, into which each request writes its own key and value.
//!
//! It owns the choice of keys. A key is its number in decimal, padded with zeros on the left to the requested length.

use super::options::{Command, CommonOptions, Consistency, RangeOptions, ReadOptions};
use crate::client;
use crate::proto::etcdserverpb as pb;
use bytes::Bytes;
use prost::Message;
use std::cell::Cell;

/// Marks the key in a frame during preparation. Neither a tag nor the last byte of a length has this value.
const KEY_MARK: u8 = 0xFE;
/// Marks the value.
const VALUE_MARK: u8 = 0xFD;
/// The offset of a gRPC message in its frame: behind a flag and its length.
const FRAME_HEAD_BYTES: usize = 5;
/// Values are slices of a pool of random bytes of at least this length: more than the window of compressors, less than a cache.
const VALUE_POOL_BYTES: usize = 256 * 1024;

/// The methods that the benchmark calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Put,
    Range,
    Txn,
    LeaseGrant,
}

impl Method {
    pub const ALL: [Self; 4] = [Self::Put, Self::Range, Self::Txn, Self::LeaseGrant];

    pub fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Range => "range",
            Self::Txn => "txn",
            Self::LeaseGrant => "lease grant",
        }
    }

    pub fn path(self) -> &'static str {
        match self {
            Self::Put => "/etcdserverpb.KV/Put",
            Self::Range => "/etcdserverpb.KV/Range",
            Self::Txn => "/etcdserverpb.KV/Txn",
            Self::LeaseGrant => "/etcdserverpb.Lease/LeaseGrant",
        }
    }
}

/// A cheap random sequence (SplitMix64): the operating system's would cost a system call per request.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, without a division.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }
}

/// The command line asks for keys that are too short.
#[derive(Debug, thiserror::Error)]
#[error("--key-bytes {key_bytes} cannot hold the number {number}: use at least {needed}")]
pub struct KeyTooShort {
    key_bytes: u32,
    number: u64,
    needed: usize,
}

/// One message, framed, with the offsets of its keys and its value.
#[derive(Debug)]
struct Template {
    method: Method,
    frame: Vec<u8>,
    keys: Vec<usize>,
    values: Vec<usize>,
}

impl Template {
    fn new(method: Method, message: &impl Message, common: &CommonOptions) -> Self {
        let template = Self::fixed(method, message);
        Self {
            keys: places(&template.frame, KEY_MARK, common.key_bytes as usize),
            values: places(&template.frame, VALUE_MARK, common.value_bytes as usize),
            ..template
        }
    }

    /// A message without keys and values to fill in.
    fn fixed(method: Method, message: &impl Message) -> Self {
        let mut frame = Vec::with_capacity(FRAME_HEAD_BYTES + message.encoded_len());
        frame.push(0);
        frame.extend_from_slice(&(message.encoded_len() as u32).to_be_bytes());
        message.encode(&mut frame).expect("a vector grows");
        Self {
            method,
            frame,
            keys: Vec::new(),
            values: Vec::new(),
        }
    }
}

/// The offsets of runs of `mark` with this length.
fn places(frame: &[u8], mark: u8, length: usize) -> Vec<usize> {
    let mut places = Vec::new();
    let mut at = FRAME_HEAD_BYTES;
    while length > 0 && at + length <= frame.len() {
        if frame[at..at + length].iter().all(|&byte| byte == mark) {
            places.push(at);
            at += length;
        } else {
            at += 1;
        }
    }
    places
}

/// Makes requests.
#[derive(Debug)]
pub struct Load {
    write: Option<Template>,
    read: Option<Template>,
    /// Reads per 2^32 requests.
    reads: u64,
    key_space: u64,
    key_bytes: usize,
    sequential: Option<Cell<u64>>,
    value_bytes: usize,
    value_pool: Vec<u8>,
}

impl Load {
    /// The load for a command line.
    pub fn new(command: &Command, random: &mut Random) -> Result<Self, KeyTooShort> {
        let common = command.common();
        let mut load = Self::empty(common, common.key_space, random)?;
        match command {
            Command::Put(_) | Command::Watch(_) => {
                load.write = Some(Template::new(Method::Put, &put(common), common));
            }
            Command::Txn(_) => load.write = Some(Template::new(Method::Txn, &txn(common), common)),
            Command::Lease(options) => {
                let grant = pb::LeaseGrantRequest {
                    ttl: options.ttl,
                    id: 0,
                };
                load.write = Some(Template::fixed(Method::LeaseGrant, &grant));
            }
            Command::Range(options) => {
                load.reads = 1 << 32;
                load.read = Some(Template::new(Method::Range, &range(options), common));
            }
            Command::Mixed(options) => {
                load.reads = (options.read_ratio * (1_u64 << 32) as f64) as u64;
                load.write = Some(Template::new(Method::Put, &put(common), common));
                load.read = Some(Template::new(Method::Range, &get(common, options.read), common));
            }
        }
        Ok(load)
    }

    /// Puts of the first `--prepopulate` keys, each once.
    pub fn prepopulate(common: &CommonOptions, random: &mut Random) -> Result<Self, KeyTooShort> {
        let mut load = Self::empty(common, common.prepopulate.max(1), random)?;
        load.write = Some(Template::new(Method::Put, &put(common), common));
        load.sequential = Some(Cell::new(0));
        Ok(load)
    }

    fn empty(common: &CommonOptions, key_space: u64, random: &mut Random) -> Result<Self, KeyTooShort> {
        let needed = (key_space - 1).to_string().len();
        if needed > common.key_bytes as usize {
            return Err(KeyTooShort {
                key_bytes: common.key_bytes,
                number: key_space - 1,
                needed,
            });
        }
        let value_bytes = common.value_bytes as usize;
        let pool_bytes = VALUE_POOL_BYTES.max(2 * value_bytes);
        let value_pool = (0..pool_bytes.div_ceil(8))
            .flat_map(|_| random.next().to_le_bytes())
            .collect();
        Ok(Self {
            write: None,
            read: None,
            reads: 0,
            key_space,
            key_bytes: common.key_bytes as usize,
            sequential: common.sequential.then(|| Cell::new(0)),
            value_bytes,
            value_pool,
        })
    }

    /// The next request.
    pub fn next(&self, random: &mut Random) -> (Method, Bytes) {
        let template = match (&self.read, &self.write) {
            (Some(read), Some(write)) => {
                if random.next() >> 32 < self.reads {
                    read
                } else {
                    write
                }
            }
            (Some(only), None) | (None, Some(only)) => only,
            (None, None) => unreachable!("a load reads or writes"),
        };
        if template.keys.is_empty() && template.values.is_empty() {
            return (template.method, Bytes::copy_from_slice(&template.frame));
        }
        let number = match &self.sequential {
            None => random.below(self.key_space),
            Some(next) => next.replace((next.get() + 1) % self.key_space),
        };
        let mut frame = template.frame.clone();
        for &place in &template.keys {
            write_key(&mut frame[place..place + self.key_bytes], number);
        }
        for &place in &template.values {
            let start = random.below((self.value_pool.len() - self.value_bytes) as u64) as usize;
            frame[place..place + self.value_bytes]
                .copy_from_slice(&self.value_pool[start..start + self.value_bytes]);
        }
        (template.method, frame.into())
    }
}

/// Writes a number in decimal, padded with zeros on the left. The caller has checked that it fits.
fn write_key(key: &mut [u8], mut number: u64) {
    for digit in key.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

fn key_mark(common: &CommonOptions) -> Bytes {
    vec![KEY_MARK; common.key_bytes as usize].into()
}

fn put(common: &CommonOptions) -> pb::PutRequest {
    pb::PutRequest {
        key: key_mark(common),
        value: vec![VALUE_MARK; common.value_bytes as usize].into(),
        ..pb::PutRequest::default()
    }
}

/// A put behind a compare that always holds: no key has a negative version.
fn txn(common: &CommonOptions) -> pb::TxnRequest {
    use pb::compare::{CompareResult, CompareTarget, TargetUnion};
    let compare = pb::Compare {
        result: CompareResult::Greater as i32,
        target: CompareTarget::Version as i32,
        key: key_mark(common),
        target_union: Some(TargetUnion::Version(-1)),
        range_end: Bytes::new(),
    };
    let put = pb::RequestOp {
        request: Some(pb::request_op::Request::RequestPut(put(common))),
    };
    pb::TxnRequest {
        compare: vec![compare],
        success: vec![put],
        failure: Vec::new(),
    }
}

fn get(common: &CommonOptions, read: ReadOptions) -> pb::RangeRequest {
    pb::RangeRequest {
        key: key_mark(common),
        serializable: read.consistency == Consistency::Serializable,
        ..pb::RangeRequest::default()
    }
}

fn range(options: &RangeOptions) -> pb::RangeRequest {
    let mut request = get(&options.common, options.read);
    request.limit = options.limit;
    request.count_only = options.count_only;
    request.keys_only = options.keys_only;
    if options.range_whole {
        request.key = Bytes::from_static(&[0]);
        request.range_end = Bytes::from_static(&[0]);
    }
    if let Some(prefix) = &options.prefix {
        request.key = if prefix.is_empty() {
            Bytes::from_static(&[0])
        } else {
            prefix.clone().into()
        };
        request.range_end = client::prefix_end(prefix.as_bytes());
    }
    request
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::tests::parse;

    fn load(line: &str) -> Result<Load, KeyTooShort> {
        Load::new(&parse(line).expect("a valid command line"), &mut Random(1))
    }

    /// Decodes the message of a frame.
    fn decode<M: Message + Default>(frame: &Bytes) -> M {
        assert_eq!(frame[0], 0, "not compressed");
        let length = u32::from_be_bytes(frame[1..5].try_into().expect("four bytes"));
        assert_eq!(length as usize, frame.len() - FRAME_HEAD_BYTES);
        M::decode(&frame[FRAME_HEAD_BYTES..]).expect("a message")
    }

    #[test]
    fn puts_have_a_key_of_the_space_and_a_value_of_the_length() {
        for (key_bytes, value_bytes) in [(16, 256), (5, 0), (254, 1), (300, 70_000)] {
            let line = format!("bench put --key-bytes {key_bytes} --value-bytes {value_bytes}");
            let load = load(&line).expect("a load");
            let mut random = Random(7);
            for _ in 0..100 {
                let (method, frame) = load.next(&mut random);
                let request: pb::PutRequest = decode(&frame);
                let key = std::str::from_utf8(&request.key).expect("digits");
                assert!(key.parse::<u64>().expect("a number") < 100_000);
                assert_eq!(
                    (method, key.len(), request.value.len()),
                    (Method::Put, key_bytes, value_bytes)
                );
            }
        }
    }

    #[test]
    fn transactions_compare_and_put_the_same_key() {
        let load = load("bench txn --sequential --key-space 3").expect("a load");
        let mut random = Random(7);
        for number in [0, 1, 2, 0] {
            let (_, frame) = load.next(&mut random);
            let request: pb::TxnRequest = decode(&frame);
            let key = format!("{number:016}");
            assert_eq!(request.compare[0].key, key);
            let Some(pb::request_op::Request::RequestPut(put)) = &request.success[0].request else {
                panic!("a put");
            };
            assert_eq!((put.key.as_ref(), put.value.len()), (key.as_bytes(), 256));
        }
    }

    #[test]
    fn ranges_follow_their_options() {
        let table: [(&str, &[u8], &[u8]); 4] = [
            ("bench range --key-space 1", b"0000000000000000", b""),
            ("bench range --range-whole", b"\0", b"\0"),
            ("bench range --prefix ab", b"ab", b"ac"),
            ("bench range --prefix=", b"\0", b"\0"),
        ];
        for (line, key, range_end) in table {
            let line = format!("{line} --limit 7 --count-only --consistency serializable");
            let load = load(&line).expect("a load");
            let request: pb::RangeRequest = decode(&load.next(&mut Random(7)).1);
            assert_eq!(
                (request.key.as_ref(), request.range_end.as_ref()),
                (key, range_end),
                "{line}"
            );
            assert!(request.limit == 7 && request.count_only && request.serializable);
        }
    }

    #[test]
    fn leases_have_the_asked_time_to_live() {
        for ttl in [1, 254, 9_000_000_000] {
            let load = load(&format!("bench lease --ttl {ttl} --key-bytes 1 --key-space 1")).expect("a load");
            let (method, frame) = load.next(&mut Random(7));
            assert_eq!(method, Method::LeaseGrant);
            assert_eq!(
                decode::<pb::LeaseGrantRequest>(&frame),
                pb::LeaseGrantRequest { ttl, id: 0 }
            );
        }
    }

    #[test]
    fn mixes_have_the_asked_share_of_reads() {
        for (ratio, expected) in [("0", 0..=0), ("0.25", 2_300..=2_700), ("1", 10_000..=10_000)] {
            let load = load(&format!("bench mixed --read-ratio {ratio}")).expect("a load");
            let mut random = Random(7);
            let reads = (0..10_000)
                .filter(|_| load.next(&mut random).0 == Method::Range)
                .count();
            assert!(expected.contains(&reads), "{ratio}: {reads}");
        }
    }

    #[test]
    fn keys_must_hold_their_number() {
        let error = load("bench put --key-bytes 4").expect_err("too short");
        assert_eq!(
            error.to_string(),
            "--key-bytes 4 cannot hold the number 99999: use at least 5"
        );
        load("bench put --key-bytes 4 --key-space 10000").expect("just fits");
    }
}
