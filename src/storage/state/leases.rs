//! Keys and records of `leases`: the leases, and the user keys attached to each of them.
//!
//! - A lease: 0, then its id (8 bytes, big-endian), -> its record, encoded as those of `meta` are.
//! - An attached key: 1, the lease's id, the user key -> a CRC-32C (little-endian) of all that.
//!
//! So the keys of a lease are one scan, and a restart need not read user keys.

use std::ops::Range;

use bytes::Bytes;
use prost::Message;

use crate::storage::state::error::StateError;
use crate::storage::state::meta;

const LEASE: u8 = 0;
const ATTACHMENT: u8 = 1;
const ID_BYTES: usize = 8;
const NAME: &str = "leases";

/// A lease as applied from the log. Only the leader knows when it expires.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct LeaseRecord {
    /// In seconds.
    #[prost(int64, tag = "1")]
    pub ttl: i64,
    /// The remaining time that the next leader gives it, in seconds; 0 for the full TTL.
    #[prost(int64, tag = "2")]
    pub remaining_ttl: i64,
    /// The index of the log entry that granted it, which distinguishes it from other leases with the same id.
    #[prost(uint64, tag = "3")]
    pub granted_at: u64,
    /// No key was ever attached: its expiry need not look for keys, which is most of the cost of an expiry.
    #[prost(bool, tag = "4")]
    pub keyless: bool,
}

fn prefixed(kind: u8, id: i64, rest: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + ID_BYTES + rest.len());
    key.push(kind);
    key.extend_from_slice(&id.to_be_bytes());
    key.extend_from_slice(rest);
    key
}

pub fn lease_key(id: i64) -> Vec<u8> {
    prefixed(LEASE, id, &[])
}

/// The range of all leases.
pub fn all_leases() -> Range<Vec<u8>> {
    vec![LEASE]..vec![ATTACHMENT]
}

pub fn attachment_key(id: i64, user_key: &[u8]) -> Vec<u8> {
    prefixed(ATTACHMENT, id, user_key)
}

pub fn attachment_value(key: &[u8]) -> Vec<u8> {
    crc32c::crc32c(key).to_le_bytes().to_vec()
}

/// The range of the keys attached to a lease.
pub fn attachments_of(id: i64) -> Range<Vec<u8>> {
    let start = prefixed(ATTACHMENT, id, &[]);
    let mut end = start.clone();
    // The number as a whole never overflows: its first byte is small.
    for byte in end.iter_mut().rev() {
        *byte = byte.wrapping_add(1);
        if *byte != 0 {
            break;
        }
    }
    start..end
}

pub fn encode_lease(id: i64, record: &LeaseRecord) -> Vec<u8> {
    meta::encode(&lease_key(id), record)
}

pub fn decode_lease(key: &[u8], value: &Bytes) -> Result<(i64, LeaseRecord), StateError> {
    let id = match key.split_first_chunk::<1>() {
        Some(([LEASE], id)) => <[u8; ID_BYTES]>::try_from(id).ok(),
        _ => None,
    };
    let id = id.ok_or_else(|| StateError::corrupt(NAME, key, "a key of no lease"))?;
    let record = meta::decode_in(NAME, key, value)?;
    Ok((i64::from_be_bytes(id), record))
}

/// The user key that is attached.
pub fn decode_attachment(key: &Bytes, value: &[u8]) -> Result<Bytes, StateError> {
    if value != attachment_value(key) {
        return Err(StateError::corrupt(
            NAME,
            key,
            "a key whose checksum does not match",
        ));
    }
    if key.len() <= 1 + ID_BYTES {
        return Err(StateError::corrupt(NAME, key, "a lease that holds an empty key"));
    }
    Ok(key.slice(1 + ID_BYTES..))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_a_lease_are_found_among_others() {
        for id in [1, 0xff, -1, i64::MAX, i64::MIN, 255 << 40] {
            let range = attachments_of(id);
            assert!(range.contains(&attachment_key(id, b"k")));
            assert!(range.contains(&attachment_key(id, &[0xff; 9])));
            for other in [id.wrapping_add(1), id.wrapping_sub(1), id ^ 0xff00] {
                assert!(!range.contains(&attachment_key(other, b"k")), "{id} {other}");
            }
            assert!(all_leases().contains(&lease_key(id)));
            assert!(!all_leases().contains(&attachment_key(id, b"k")));
        }
    }

    #[test]
    fn what_was_written_is_read_and_flips_are_noticed() {
        let record = LeaseRecord {
            ttl: 60,
            remaining_ttl: 9,
            granted_at: 7,
            keyless: true,
        };
        let stored = Bytes::from(encode_lease(-5, &record));
        assert_eq!(decode_lease(&lease_key(-5), &stored).unwrap(), (-5, record));
        assert!(decode_lease(&lease_key(5), &stored).is_err());
        let key = Bytes::from(attachment_key(5, b"abc"));
        let value = attachment_value(&key);
        assert_eq!(decode_attachment(&key, &value).unwrap(), "abc");
        for bit in 0..key.len() * 8 {
            let mut broken = key.to_vec();
            broken[bit / 8] ^= 1 << (bit % 8);
            assert!(decode_attachment(&broken.into(), &value).is_err(), "bit {bit}");
        }
    }
}
