//! Records of `revisions`: which keys changed, in revision order, many changes in one record.
//!
//! Stored form: CRC-32C of the stored key and all that follows the sum (4 bytes, little-endian); the last main revision
//! inside (8 bytes, big-endian, at a fixed place for the compaction filter); then per change: main revision above the
//! one before it (varint), sub revision (varint), kind (1 byte), length of the key (varint), key.
//! One insert per applied batch costs next to nothing, where one per change would cost 1 to 2 us.

use bytes::{Buf, Bytes};
use prost::encoding::{decode_varint, encode_varint};

use crate::limits::REVISIONS_RECORD_BYTES;
use crate::storage::state_error::StateError;
use crate::storage::state_keys::{Place, REVISION_BYTES};

const NAME: &str = "revisions";
const CRC_BYTES: usize = 4;
const HEADER_BYTES: usize = CRC_BYTES + 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    Put,
    Delete,
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedKey {
    pub place: Place,
    pub kind: ChangeKind,
    pub key: Bytes,
}

/// Packs changes, pushed in revision order, into records.
#[derive(Debug, Default)]
pub struct RevisionsWriter {
    full: Vec<([u8; REVISION_BYTES], Vec<u8>)>,
    first: Option<Place>,
    last_main: i64,
    buffer: Vec<u8>,
}

impl RevisionsWriter {
    pub fn push(&mut self, place: Place, kind: ChangeKind, key: &[u8]) {
        if self.first.is_none() {
            self.first = Some(place);
            self.last_main = place.main;
            self.buffer.resize(HEADER_BYTES, 0);
        }
        assert!(
            place.main >= self.last_main,
            "changes are packed in revision order"
        );
        encode_varint((place.main - self.last_main) as u64, &mut self.buffer);
        encode_varint(u64::from(place.sub), &mut self.buffer);
        self.buffer.push(kind as u8);
        encode_varint(key.len() as u64, &mut self.buffer);
        self.buffer.extend_from_slice(key);
        self.last_main = place.main;
        if self.buffer.len() >= REVISIONS_RECORD_BYTES {
            self.seal();
        }
    }

    fn seal(&mut self) {
        let Some(first) = self.first.take() else { return };
        let key = first.to_bytes();
        let mut value = std::mem::take(&mut self.buffer);
        value[CRC_BYTES..HEADER_BYTES].copy_from_slice(&self.last_main.to_be_bytes());
        let crc = crc32c::crc32c_append(crc32c::crc32c(&key), &value[CRC_BYTES..]);
        value[..CRC_BYTES].copy_from_slice(&crc.to_le_bytes());
        self.full.push((key, value));
    }

    /// Keys and values of the records, and an empty writer.
    pub fn take(&mut self) -> Vec<([u8; REVISION_BYTES], Vec<u8>)> {
        self.seal();
        std::mem::take(&mut self.full)
    }
}

/// The last main revision inside a record, unchecked: for the compaction filter.
pub fn last_main(value: &[u8]) -> Option<i64> {
    Some(i64::from_be_bytes(
        value.get(CRC_BYTES..HEADER_BYTES)?.try_into().ok()?,
    ))
}

/// The changes of one record, in revision order.
pub fn decode(key: &[u8], value: &Bytes) -> Result<Vec<ChangedKey>, StateError> {
    let corrupt = |what| StateError::corrupt(NAME, key, what);
    let Some((crc, rest)) = value.split_first_chunk::<CRC_BYTES>() else {
        return Err(corrupt("a record cut short"));
    };
    if u32::from_le_bytes(*crc) != crc32c::crc32c_append(crc32c::crc32c(key), rest) {
        return Err(corrupt("a record whose checksum does not match"));
    }
    parse(key, value).ok_or_else(|| corrupt("a record that does not parse"))
}

fn parse(key: &[u8], value: &Bytes) -> Option<Vec<ChangedKey>> {
    let mut main = Place::at_end_of(key)?.main;
    let mut rest = value.clone();
    if rest.remaining() < HEADER_BYTES {
        return None;
    }
    rest.advance(HEADER_BYTES);
    let mut changes = vec![];
    while rest.has_remaining() {
        main = main.checked_add(i64::try_from(decode_varint(&mut rest).ok()?).ok()?)?;
        let sub = u32::try_from(decode_varint(&mut rest).ok()?).ok()?;
        let kind = match rest.try_get_u8().ok()? {
            0 => ChangeKind::Put,
            1 => ChangeKind::Delete,
            _ => return None,
        };
        let key_bytes = usize::try_from(decode_varint(&mut rest).ok()?).ok()?;
        if rest.remaining() < key_bytes {
            return None;
        }
        changes.push(ChangedKey {
            place: Place { main, sub },
            kind,
            key: rest.split_to(key_bytes),
        });
    }
    Some(changes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_come_back_in_order_and_flips_are_noticed() {
        let mut writer = RevisionsWriter::default();
        let mut expected = vec![];
        for number in 0..3000u32 {
            let place = Place {
                main: i64::from(number / 3) * 100 + 2,
                sub: number % 3,
            };
            let kind = if number % 5 == 0 {
                ChangeKind::Delete
            } else {
                ChangeKind::Put
            };
            let key = Bytes::from(format!("key{number}\0"));
            writer.push(place, kind, &key);
            expected.push(ChangedKey { place, kind, key });
        }
        let records = writer.take();
        assert!(records.len() > 1);
        let mut read = vec![];
        for (key, value) in &records {
            let changes = decode(key, &Bytes::copy_from_slice(value)).unwrap();
            assert_eq!(last_main(value), changes.last().map(|change| change.place.main));
            assert_eq!(Place::at_end_of(key), changes.first().map(|change| change.place));
            read.extend(changes);
        }
        assert_eq!(read, expected);
        assert!(writer.take().is_empty());
        let (key, mut value) = records[0].clone();
        value[100] ^= 1;
        assert!(decode(&key, &value.into()).is_err());
    }
}
