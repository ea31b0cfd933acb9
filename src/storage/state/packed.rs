//! Records of `history` and `replaced`: many changes in one record, in revision order.
//!
//! Stored key: the place of the first change. Stored form: CRC-32C of the stored key and all that follows the sum (4 bytes,
//! little-endian); the last main revision inside (8 bytes, big-endian, at a fixed place for the compaction filter); then per
//! change: main revision above the one before it (varint), sub revision (varint), and what the keyspace keeps of it ([`Packed`]).
//! One insert per applied batch costs almost nothing, where one per change would cost 1 to 2 us. Since the keys only grow, the
//! engine never merges these records.

use std::marker::PhantomData;

use bytes::{Buf, Bytes};
use prost::encoding::{decode_varint, encode_varint};

use crate::limits::sizes;
use crate::storage::state::StateKeyspace;
use crate::storage::state::error::StateError;
use crate::storage::state::keys::{Place, REVISION_BYTES};

const CRC_BYTES: usize = 4;
const HEADER_BYTES: usize = CRC_BYTES + 8;

/// The form in which a keyspace keeps one change.
pub trait Packed: Sized {
    const KEYSPACE: StateKeyspace;

    fn place(&self) -> Place;

    /// Reads what follows the place.
    fn unpack(place: Place, rest: &mut Bytes) -> Option<Self>;
}

/// Packs changes, pushed in revision order, into records.
#[derive(Debug)]
pub struct PackedWriter<T> {
    full: Vec<([u8; REVISION_BYTES], Vec<u8>)>,
    first: Option<Place>,
    last_main: i64,
    buffer: Vec<u8>,
    packed: PhantomData<fn() -> T>,
}

impl<T> Default for PackedWriter<T> {
    fn default() -> Self {
        Self {
            full: vec![],
            first: None,
            last_main: 0,
            buffer: vec![],
            packed: PhantomData,
        }
    }
}

impl<T: Packed> PackedWriter<T> {
    /// `pack` writes what [`Packed::unpack`] reads.
    pub fn push(&mut self, place: Place, pack: impl FnOnce(&mut Vec<u8>)) {
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
        pack(&mut self.buffer);
        self.last_main = place.main;
        if self.buffer.len() >= sizes().packed_record_bytes {
            self.seal();
        }
    }

    fn seal(&mut self) {
        let Some(first) = self.first.take() else { return };
        let key = first.to_bytes();
        // Allocated at its exact size, since it may stay in a memtable; the buffer is reused.
        let mut value = self.buffer.as_slice().to_vec();
        self.buffer.clear();
        value[CRC_BYTES..HEADER_BYTES].copy_from_slice(&self.last_main.to_be_bytes());
        let crc = crc32c::crc32c_append(crc32c::crc32c(&key), &value[CRC_BYTES..]);
        value[..CRC_BYTES].copy_from_slice(&crc.to_le_bytes());
        self.full.push((key, value));
    }

    /// Takes the keys and values of the records, and leaves the writer empty.
    pub fn take(&mut self) -> Vec<([u8; REVISION_BYTES], Vec<u8>)> {
        self.seal();
        std::mem::take(&mut self.full)
    }

    /// The changes pushed since the last [`Self::take`], beginning with the record that holds `from`.
    pub fn pending(&self, from: Place) -> impl Iterator<Item = T> {
        let from = from.to_bytes();
        let skipped = self.full.partition_point(|(first, _)| *first <= from);
        let full = self.full[skipped.saturating_sub(1)..].iter();
        let full = full.map(|(key, value)| (*key, value.as_slice()));
        let open = self.first.map(|first| (first.to_bytes(), self.buffer.as_slice()));
        full.chain(open).flat_map(|(key, value)| {
            parse(&key, &Bytes::copy_from_slice(value)).expect("what was packed can be unpacked")
        })
    }
}

/// The last main revision inside a record, unchecked: for the compaction filter.
pub fn last_main(value: &[u8]) -> Option<i64> {
    Some(i64::from_be_bytes(
        value.get(CRC_BYTES..HEADER_BYTES)?.try_into().ok()?,
    ))
}

/// The changes of one record, in revision order.
pub fn decode<T: Packed>(key: &[u8], value: &Bytes) -> Result<Vec<T>, StateError> {
    let corrupt = |what| StateError::corrupt(T::KEYSPACE.name(), key, what);
    let Some((crc, rest)) = value.split_first_chunk::<CRC_BYTES>() else {
        return Err(corrupt("a record cut short"));
    };
    if u32::from_le_bytes(*crc) != crc32c::crc32c_append(crc32c::crc32c(key), rest) {
        return Err(corrupt("a record whose checksum does not match"));
    }
    parse(key, value).ok_or_else(|| corrupt("a record that does not parse"))
}

fn parse<T: Packed>(key: &[u8], value: &Bytes) -> Option<Vec<T>> {
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
        changes.push(T::unpack(Place { main, sub }, &mut rest)?);
    }
    Some(changes)
}

pub(super) fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    encode_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

pub(super) fn take_bytes(rest: &mut Bytes) -> Option<Bytes> {
    let length = usize::try_from(decode_varint(rest).ok()?).ok()?;
    (rest.remaining() >= length).then(|| rest.split_to(length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::state::history::HistoryEntry;
    use crate::storage::state::record::{NewRecord, Record};

    #[test]
    fn changes_come_back_in_order_and_flips_are_noticed() {
        let mut writer = PackedWriter::default();
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
            HistoryEntry::push(&mut writer, place, &key, record.as_ref());
            expected.push((place, key, record.map(|record| record.stored().clone())));
        }
        let stored = |entry: HistoryEntry| {
            let stored = entry.record.map(|record| record.stored().clone());
            (entry.place, entry.key, stored)
        };
        for (number, (place, _, _)) in expected.iter().enumerate() {
            let pending = writer.pending(*place).skip_while(|entry| entry.place < *place);
            let last = (number + 60).min(expected.len());
            let pending: Vec<_> = pending.take(last - number).map(stored).collect();
            assert_eq!(pending, expected[number..last]);
        }
        let records = writer.take();
        assert!(records.len() > 1);
        let mut read = vec![];
        for (key, value) in &records {
            let changes: Vec<HistoryEntry> = decode(key, &Bytes::copy_from_slice(value)).unwrap();
            assert_eq!(last_main(value), changes.last().map(|change| change.place.main));
            assert_eq!(Place::at_end_of(key), changes.first().map(|change| change.place));
            read.extend(changes.into_iter().map(stored));
        }
        assert_eq!(read, expected);
        assert!(writer.take().is_empty());
        let (key, mut value) = records[0].clone();
        value[100] ^= 1;
        assert!(decode::<HistoryEntry>(&key, &value.into()).is_err());
    }
}
