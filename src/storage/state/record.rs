//! The record of one version of a key, as stored in `current`, `history` and `replaced`.
//!
//! Stored form: CRC-32C of the user key and all that follows the sum (4 bytes, little-endian); the sub revision (varint); then
//! the fields 2 to 6 of etcd's `mvccpb.KeyValue` in their order, exactly as protobuf writes them. So a reply, and the input of
//! HashKV, is the key followed by a copy of the stored bytes. The sum covers the user key, not the stored one: a record moves
//! between keyspaces without being rebuilt.

use bytes::{Buf, Bytes};
use prost::encoding::{WireType, decode_varint, encode_varint, encoded_len_varint};

use crate::proto::mvccpb::KeyValue;
use crate::storage::state::error::StateError;
use crate::storage::state::keys::Place;

const CRC_BYTES: usize = 4;
const TAG_KEY: u8 = tag(1, WireType::LengthDelimited);
const TAG_CREATE: u8 = tag(2, WireType::Varint);
const TAG_MODIFICATION: u8 = tag(3, WireType::Varint);
const TAG_VERSION: u8 = tag(4, WireType::Varint);
const TAG_VALUE: u8 = tag(5, WireType::LengthDelimited);
const TAG_LEASE: u8 = tag(6, WireType::Varint);

const fn tag(field: u8, wire_type: WireType) -> u8 {
    field << 3 | wire_type as u8
}

/// One version of a key without key and value: all that a newer version needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    pub sub: u32,
    pub value_bytes: u32,
    pub create_revision: i64,
    pub mod_revision: i64,
    pub version: i64,
    pub lease: i64,
}

impl Header {
    pub fn place(&self) -> Place {
        Place {
            main: self.mod_revision,
            sub: self.sub,
        }
    }
}

/// One version of a key.
#[derive(Clone, Debug)]
pub struct Record {
    stored: Bytes,
    fields_start: u32,
    value_start: u32,
    pub header: Header,
}

/// The content of a new record.
#[derive(Clone, Copy, Debug)]
pub struct NewRecord<'a> {
    pub key: &'a [u8],
    pub place: Place,
    pub create_revision: i64,
    pub version: i64,
    pub value: &'a [u8],
    pub lease: i64,
}

fn parse(stored: Bytes) -> Option<Record> {
    let mut rest = stored.get(CRC_BYTES..)?;
    let sub = u32::try_from(decode_varint(&mut rest).ok()?).ok()?;
    let mut header = Header {
        sub,
        ..Header::default()
    };
    let fields_start = (stored.len() - rest.len()) as u32;
    let mut value_start = 0;
    while rest.has_remaining() {
        let tag = rest.get_u8();
        let number = decode_varint(&mut rest).ok()?;
        match tag {
            TAG_CREATE => header.create_revision = number as i64,
            TAG_MODIFICATION => header.mod_revision = number as i64,
            TAG_VERSION => header.version = number as i64,
            TAG_LEASE => header.lease = number as i64,
            TAG_VALUE => {
                value_start = (stored.len() - rest.len()) as u32;
                header.value_bytes = u32::try_from(number).ok()?;
                rest = rest.get(header.value_bytes as usize..)?;
            }
            _ => return None,
        }
    }
    Some(Record {
        stored,
        fields_start,
        value_start,
        header,
    })
}

impl Record {
    /// Builds the record, and returns the key with it in the same allocation.
    pub fn new(new: &NewRecord<'_>) -> (Bytes, Self) {
        let NewRecord {
            key,
            place,
            create_revision,
            version,
            value,
            lease,
        } = *new;
        // 60 bytes hold the sum, the sub revision, five tags, the length and four numbers of at most ten bytes.
        let mut buffer = Vec::with_capacity(key.len() + value.len() + 60);
        buffer.extend_from_slice(key);
        buffer.extend_from_slice(&[0; CRC_BYTES]);
        encode_varint(u64::from(place.sub), &mut buffer);
        let fields_start = buffer.len() - key.len();
        put_number(&mut buffer, TAG_CREATE, create_revision);
        put_number(&mut buffer, TAG_MODIFICATION, place.main);
        put_number(&mut buffer, TAG_VERSION, version);
        let mut value_start = buffer.len() - key.len();
        if !value.is_empty() {
            buffer.push(TAG_VALUE);
            encode_varint(value.len() as u64, &mut buffer);
            value_start = buffer.len() - key.len();
            buffer.extend_from_slice(value);
        }
        put_number(&mut buffer, TAG_LEASE, lease);
        let crc = crc32c::crc32c_append(crc32c::crc32c(key), &buffer[key.len() + CRC_BYTES..]);
        buffer[key.len()..key.len() + CRC_BYTES].copy_from_slice(&crc.to_le_bytes());
        let buffer = Bytes::from(buffer);
        let record = Self {
            stored: buffer.slice(key.len()..),
            fields_start: fields_start as u32,
            value_start: value_start as u32,
            header: Header {
                sub: place.sub,
                value_bytes: value.len() as u32,
                create_revision,
                mod_revision: place.main,
                version,
                lease,
            },
        };
        (buffer.slice(..key.len()), record)
    }

    /// Reads and checks a stored record.
    pub fn decode(keyspace: &'static str, key: &[u8], stored: Bytes) -> Result<Self, StateError> {
        let corrupt = |what| StateError::corrupt(keyspace, key, what);
        let Some((crc, rest)) = stored.split_first_chunk::<CRC_BYTES>() else {
            return Err(corrupt("a record cut short"));
        };
        if u32::from_le_bytes(*crc) != crc32c::crc32c_append(crc32c::crc32c(key), rest) {
            return Err(corrupt("a record whose checksum does not match"));
        }
        parse(stored).ok_or_else(|| corrupt("a record that does not parse"))
    }

    pub fn place(&self) -> Place {
        self.header.place()
    }

    /// The stored form. Shares memory with the record.
    pub fn stored(&self) -> &Bytes {
        &self.stored
    }

    /// The checksum of key and record.
    pub fn sum(&self) -> u32 {
        let sum = self.stored.first_chunk().expect("a record begins with its sum");
        u32::from_le_bytes(*sum)
    }

    pub fn value(&self) -> Bytes {
        let start = self.value_start as usize;
        self.stored.slice(start..start + self.header.value_bytes as usize)
    }

    /// A copy of the record in its own memory, so that keeping it does not keep the block of the table that it was read from.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self {
            stored: Bytes::copy_from_slice(&self.stored),
            ..self.clone()
        }
    }

    /// The message for clients. Shares memory with the record.
    pub fn key_value(&self, key: Bytes) -> KeyValue {
        KeyValue {
            key,
            create_revision: self.header.create_revision,
            mod_revision: self.header.mod_revision,
            version: self.header.version,
            value: self.value(),
            lease: self.header.lease,
        }
    }

    /// The encoded `KeyValue`, without a tag or length before it.
    pub fn encode_key_value(&self, key: &[u8], out: &mut Vec<u8>) {
        put_bytes(out, TAG_KEY, key);
        out.extend_from_slice(&self.stored[self.fields_start as usize..]);
    }

    pub fn key_value_bytes(&self, key: &[u8]) -> usize {
        bytes_field_bytes(key) + self.stored.len() - self.fields_start as usize
    }

    /// As above, but without value and lease: etcd's answer from its index to a request for keys only.
    pub fn encode_key_only(&self, key: &[u8], out: &mut Vec<u8>) {
        put_bytes(out, TAG_KEY, key);
        put_number(out, TAG_CREATE, self.header.create_revision);
        put_number(out, TAG_MODIFICATION, self.header.mod_revision);
        put_number(out, TAG_VERSION, self.header.version);
    }

    pub fn key_only_bytes(&self, key: &[u8]) -> usize {
        let Header {
            create_revision,
            mod_revision,
            version,
            ..
        } = self.header;
        bytes_field_bytes(key)
            + [create_revision, mod_revision, version]
                .map(number_bytes)
                .iter()
                .sum::<usize>()
    }
}

/// The encoded `KeyValue` of a delete in etcd's bucket: the key alone.
pub fn encode_tombstone(key: &[u8], out: &mut Vec<u8>) {
    put_bytes(out, TAG_KEY, key);
}

fn put_bytes(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    if !bytes.is_empty() {
        out.push(tag);
        encode_varint(bytes.len() as u64, out);
        out.extend_from_slice(bytes);
    }
}

fn bytes_field_bytes(bytes: &[u8]) -> usize {
    if bytes.is_empty() {
        0
    } else {
        1 + encoded_len_varint(bytes.len() as u64) + bytes.len()
    }
}

fn put_number(out: &mut Vec<u8>, tag: u8, number: i64) {
    if number != 0 {
        out.push(tag);
        encode_varint(number as u64, out);
    }
}

fn number_bytes(number: i64) -> usize {
    if number == 0 {
        0
    } else {
        1 + encoded_len_varint(number as u64)
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    fn samples() -> Vec<(Bytes, Record)> {
        let mut samples = vec![];
        for (key, value, lease, sub) in [
            (&b"k"[..], &b""[..], 0, 0),
            (b"key", b"value", 7, 3),
            (&[0; 300], &[1; 9_000], -1, u32::MAX),
        ] {
            let place = Place { main: 1 << 40, sub };
            samples.push(Record::new(&NewRecord {
                key,
                place,
                create_revision: 2,
                version: 9,
                value,
                lease,
            }));
        }
        samples
    }

    #[test]
    fn stored_records_encode_as_protobuf_does() {
        for (key, record) in samples() {
            let read = Record::decode("current", &key, record.stored().clone()).unwrap();
            let message = read.key_value(key.clone());
            assert_eq!(message, record.key_value(key.clone()));
            let mut encoded = vec![];
            read.encode_key_value(&key, &mut encoded);
            assert_eq!(encoded, message.encode_to_vec());
            assert_eq!(encoded.len(), read.key_value_bytes(&key));
            let mut key_only = vec![];
            read.encode_key_only(&key, &mut key_only);
            assert_eq!(
                key_only,
                KeyValue {
                    value: Bytes::new(),
                    lease: 0,
                    ..message
                }
                .encode_to_vec()
            );
            assert_eq!(key_only.len(), read.key_only_bytes(&key));
            assert_eq!(read.place(), record.place());
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let (key, record) = samples().swap_remove(1);
        for bit in 0..record.stored().len() * 8 {
            let mut stored = record.stored().to_vec();
            stored[bit / 8] ^= 1 << (bit % 8);
            assert!(
                Record::decode("current", &key, stored.into()).is_err(),
                "bit {bit}"
            );
        }
        assert!(Record::decode("current", b"kez", record.stored().clone()).is_err());
        for length in 0..record.stored().len() {
            assert!(Record::decode("current", &key, record.stored().slice(..length)).is_err());
        }
    }
}
