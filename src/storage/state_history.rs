//! Records of `history`: which keys changed and to what, in revision order, many changes in one record.
//!
//! Stored form: CRC-32C of the stored key and all that follows the sum (4 bytes, little-endian); the last main revision
//! inside (8 bytes, big-endian, at a fixed place for the compaction filter); then per change: main revision above the
//! one before it (varint), sub revision (varint), length of the key (varint), key, length of the new record (varint; 0:
//! the key was deleted), record as in `current`.
//! One insert per applied batch costs next to nothing, where one per change would cost 1 to 2 us; and since its keys
//! only grow, the engine never merges what is in it.

use bytes::{Buf, Bytes};
use prost::encoding::{decode_varint, encode_varint};

use crate::limits::HISTORY_RECORD_BYTES;
use crate::storage::state_error::StateError;
use crate::storage::state_keys::{Place, REVISION_BYTES};
use crate::storage::state_record::Record;

const NAME: &str = "history";
const CRC_BYTES: usize = 4;
const HEADER_BYTES: usize = CRC_BYTES + 8;

/// One change of one key.
#[derive(Clone, Debug)]
pub struct HistoryEntry {
    pub place: Place,
    pub key: Bytes,
    /// What was written; none if the key was deleted.
    pub record: Option<Record>,
}

/// Packs changes, pushed in revision order, into records.
#[derive(Debug, Default)]
pub struct HistoryWriter {
    full: Vec<([u8; REVISION_BYTES], Vec<u8>)>,
    first: Option<Place>,
    last_main: i64,
    buffer: Vec<u8>,
}

impl HistoryWriter {
    pub fn push(&mut self, place: Place, key: &[u8], record: Option<&Record>) {
        if self.first.is_none() {
            self.first = Some(place);
            self.last_main = place.main;
            self.buffer.resize(HEADER_BYTES, 0);
        }
        assert!(
            place.main >= self.last_main,
            "changes are packed in revision order"
        );
        let stored = record.map_or(&[][..], |record| record.stored());
        encode_varint((place.main - self.last_main) as u64, &mut self.buffer);
        encode_varint(u64::from(place.sub), &mut self.buffer);
        for bytes in [key, stored] {
            encode_varint(bytes.len() as u64, &mut self.buffer);
            self.buffer.extend_from_slice(bytes);
        }
        self.last_main = place.main;
        if self.buffer.len() >= HISTORY_RECORD_BYTES {
            self.seal();
        }
    }

    fn seal(&mut self) {
        let Some(first) = self.first.take() else { return };
        let key = first.to_bytes();
        // Exactly as long as it is, since it may stay in a memtable; the buffer is used again.
        let mut value = self.buffer.as_slice().to_vec();
        self.buffer.clear();
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

    /// What was written at `place`, if that was pushed since the last [`Self::take`].
    pub fn find(&self, place: Place) -> Option<Record> {
        let open = self.first.map(|first| (first.to_bytes(), &self.buffer));
        let full = self.full.iter().map(|(key, value)| (*key, value));
        let (first, value) = full
            .chain(open)
            .take_while(|(first, _)| *first <= place.to_bytes())
            .last()?;
        let entries = parse(&first, &Bytes::copy_from_slice(value))?;
        record_at(&entries, place)
    }
}

/// The record among `entries` that was written at `place`.
pub fn record_at(entries: &[HistoryEntry], place: Place) -> Option<Record> {
    let found = entries.binary_search_by_key(&place, |entry| entry.place).ok()?;
    entries[found].record.clone()
}

/// The last main revision inside a record, unchecked: for the compaction filter.
pub fn last_main(value: &[u8]) -> Option<i64> {
    Some(i64::from_be_bytes(
        value.get(CRC_BYTES..HEADER_BYTES)?.try_into().ok()?,
    ))
}

/// The changes of one record, in revision order.
pub fn decode(key: &[u8], value: &Bytes) -> Result<Vec<HistoryEntry>, StateError> {
    let corrupt = |what| StateError::corrupt(NAME, key, what);
    let Some((crc, rest)) = value.split_first_chunk::<CRC_BYTES>() else {
        return Err(corrupt("a record cut short"));
    };
    if u32::from_le_bytes(*crc) != crc32c::crc32c_append(crc32c::crc32c(key), rest) {
        return Err(corrupt("a record whose checksum does not match"));
    }
    parse(key, value).ok_or_else(|| corrupt("a record that does not parse"))
}

fn parse(key: &[u8], value: &Bytes) -> Option<Vec<HistoryEntry>> {
    let mut main = Place::at_end_of(key)?.main;
    let mut rest = value.clone();
    if rest.remaining() < HEADER_BYTES {
        return None;
    }
    rest.advance(HEADER_BYTES);
    let mut entries = vec![];
    while rest.has_remaining() {
        main = main.checked_add(i64::try_from(decode_varint(&mut rest).ok()?).ok()?)?;
        let sub = u32::try_from(decode_varint(&mut rest).ok()?).ok()?;
        let key = take_bytes(&mut rest)?;
        let stored = take_bytes(&mut rest)?;
        let record = if stored.is_empty() {
            None
        } else {
            Some(Record::decode(NAME, &key, stored).ok()?)
        };
        entries.push(HistoryEntry {
            place: Place { main, sub },
            key,
            record,
        });
    }
    Some(entries)
}

fn take_bytes(rest: &mut Bytes) -> Option<Bytes> {
    let length = usize::try_from(decode_varint(rest).ok()?).ok()?;
    (rest.remaining() >= length).then(|| rest.split_to(length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::state_record::NewRecord;

    #[test]
    fn changes_come_back_in_order_and_flips_are_noticed() {
        let mut writer = HistoryWriter::default();
        let mut expected = vec![];
        for number in 0..3000u32 {
            let place = Place {
                main: i64::from(number / 3) * 100 + 2,
                sub: number % 3,
            };
            let key = format!("key{number}\0");
            let (key, record) = Record::new(&NewRecord {
                key: key.as_bytes(),
                place,
                create_revision: 2,
                version: 1,
                value: &[7; 20],
                lease: 0,
            });
            let record = (number % 5 != 0).then_some(record);
            writer.push(place, &key, record.as_ref());
            expected.push((place, key, record.map(|record| record.stored().clone())));
        }
        for (place, _, stored) in &expected {
            let found = writer.find(*place).map(|record| record.stored().clone());
            assert_eq!(&found, stored);
        }
        assert!(writer.find(Place { main: 3, sub: 0 }).is_none());
        let records = writer.take();
        assert!(records.len() > 1);
        let mut read = vec![];
        for (key, value) in &records {
            let changes = decode(key, &Bytes::copy_from_slice(value)).unwrap();
            assert_eq!(last_main(value), changes.last().map(|change| change.place.main));
            assert_eq!(Place::at_end_of(key), changes.first().map(|change| change.place));
            read.extend(changes.into_iter().map(|entry| {
                let stored = entry.record.map(|record| record.stored().clone());
                (entry.place, entry.key, stored)
            }));
        }
        assert_eq!(read, expected);
        assert!(writer.take().is_empty());
        let (key, mut value) = records[0].clone();
        value[100] ^= 1;
        assert!(decode(&key, &value.into()).is_err());
    }
}
