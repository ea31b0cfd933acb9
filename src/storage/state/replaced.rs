//! The form in which `replaced` keeps a change: the key, and where its previous record is found. See `state/packed` for the
//! records.
//!
//! The key space at a past revision equals the present one, except for the keys that have changed since. Each of those had the
//! record that its first change since then has replaced. So a read of the past walks over the changes since, without values, and
//! a put costs only a line in a record that is written anyway.
//!
//! Per change, after its place: length of the key (varint), key, how many bytes all changes before it have replaced (varint; see
//! `state/usage`), then one byte. Its high bit is set if the key was deleted. The rest is 0 if there was no record before; 1 if
//! it is in `history`, with its main revision (varint) and sub revision (varint); 2 if it follows as it was in `current`, with
//! its length (varint).

use bytes::{Buf, Bytes};
use prost::encoding::{decode_varint, encode_varint};

use crate::storage::state::StateKeyspace;
use crate::storage::state::keys::Place;
use crate::storage::state::packed::{Packed, PackedWriter, put_bytes, take_bytes};
use crate::storage::state::record::Record;

const DELETED: u8 = 0x80;

/// The record that a change has replaced.
#[derive(Clone, Debug)]
pub enum Previous {
    Nothing,
    InHistory(Place),
    Whole(Record),
}

impl Previous {
    /// The place of the replaced record.
    pub fn place(&self) -> Option<Place> {
        match self {
            Self::Nothing => None,
            Self::InHistory(place) => Some(*place),
            Self::Whole(record) => Some(record.place()),
        }
    }
}

/// One change of one key.
#[derive(Clone, Debug)]
pub struct Replacement {
    pub place: Place,
    pub key: Bytes,
    pub previous: Previous,
    pub deleted: bool,
    /// The bytes that all changes before this one have replaced.
    pub replaced_before: u64,
}

impl Replacement {
    pub fn push(&self, writer: &mut PackedWriter<Self>) {
        let flag = if self.deleted { DELETED } else { 0 };
        writer.push(self.place, |out| {
            put_bytes(&self.key, out);
            encode_varint(self.replaced_before, out);
            match &self.previous {
                Previous::Nothing => out.push(flag),
                Previous::InHistory(place) => {
                    out.push(flag | 1);
                    encode_varint(place.main as u64, out);
                    encode_varint(u64::from(place.sub), out);
                }
                Previous::Whole(record) => {
                    out.push(flag | 2);
                    put_bytes(record.stored(), out);
                }
            }
        });
    }

    /// The replaced record, if it was moved here.
    pub fn into_whole(self) -> Option<Record> {
        match self.previous {
            Previous::Whole(record) => Some(record),
            _ => None,
        }
    }

    /// The change in the number of keys: 1, 0 or -1.
    pub fn keys_gained(&self) -> i64 {
        match (&self.previous, self.deleted) {
            (Previous::Nothing, false) => 1,
            (Previous::Nothing, true) | (_, false) => 0,
            (_, true) => -1,
        }
    }
}

impl Packed for Replacement {
    const KEYSPACE: StateKeyspace = StateKeyspace::Replaced;

    fn place(&self) -> Place {
        self.place
    }

    fn unpack(place: Place, rest: &mut Bytes) -> Option<Self> {
        let key = take_bytes(rest)?;
        let replaced_before = decode_varint(rest).ok()?;
        let tag = rest.try_get_u8().ok()?;
        let previous = match tag & !DELETED {
            0 => Previous::Nothing,
            1 => Previous::InHistory(Place {
                main: i64::try_from(decode_varint(rest).ok()?).ok()?,
                sub: u32::try_from(decode_varint(rest).ok()?).ok()?,
            }),
            2 => Previous::Whole(Record::decode("replaced", &key, take_bytes(rest)?).ok()?),
            _ => return None,
        };
        let is_older = previous.place().is_none_or(|previous| previous < place);
        is_older.then_some(Self {
            place,
            key,
            previous,
            deleted: tag & DELETED != 0,
            replaced_before,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::state::packed;
    use crate::storage::state::record::NewRecord;

    #[test]
    fn what_was_replaced_is_found_again() {
        let (key, record) = Record::new(&NewRecord {
            key: b"key",
            place: Place { main: 7, sub: 2 },
            create_revision: 3,
            version: 2,
            value: b"value",
            lease: 5,
        });
        let mut writer = PackedWriter::default();
        let previous = [
            Previous::Nothing,
            Previous::InHistory(Place { main: 9, sub: 1 }),
            Previous::Whole(record),
        ];
        let replacement = |number, previous: &Previous| Replacement {
            place: Place { main: number, sub: 0 },
            key: key.clone(),
            previous: previous.clone(),
            deleted: number == 12,
            replaced_before: 1000 * number as u64,
        };
        for (number, previous) in (10..).zip(&previous) {
            replacement(number, previous).push(&mut writer);
        }
        let [(stored_key, value)] = writer.take().try_into().unwrap();
        let read: Vec<Replacement> = packed::decode(&stored_key, &value.into()).unwrap();
        assert_eq!(read.len(), 3);
        for (number, (read, previous)) in (10..).zip(read.iter().zip(&previous)) {
            assert_eq!((read.place, &read.key), (Place { main: number, sub: 0 }, &key));
            assert_eq!(read.replaced_before, 1000 * number as u64);
            assert_eq!(read.keys_gained(), [1, 0, -1][number as usize - 10]);
            assert_eq!(format!("{:?}", read.previous), format!("{previous:?}"));
        }

        let late = Previous::InHistory(Place { main: 10, sub: 0 });
        replacement(10, &late).push(&mut writer);
        let (stored_key, value) = writer.take().pop().unwrap();
        assert!(packed::decode::<Replacement>(&stored_key, &value.into()).is_err());
    }
}
