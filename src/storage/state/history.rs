//! The form in which `history` keeps a change: the key and its new record. See `state/packed` for the records.
//!
//! Per change, after its place: length of the key (varint), key, length of the new record (varint; 0: the key was deleted),
//! record as in `current`.

use bytes::Bytes;

use crate::storage::state::StateKeyspace;
use crate::storage::state::keys::Place;
use crate::storage::state::packed::{Packed, PackedWriter, put_bytes, take_bytes};
use crate::storage::state::record::Record;

/// One change of one key.
#[derive(Clone, Debug)]
pub struct HistoryEntry {
    pub place: Place,
    pub key: Bytes,
    /// The new record; none if the key was deleted.
    pub record: Option<Record>,
}

impl HistoryEntry {
    pub fn push(writer: &mut PackedWriter<Self>, place: Place, key: &[u8], record: Option<&Record>) {
        writer.push(place, |out| {
            put_bytes(key, out);
            put_bytes(record.map_or(&[][..], |record| record.stored()), out);
        });
    }
}

impl Packed for HistoryEntry {
    const KEYSPACE: StateKeyspace = StateKeyspace::History;

    fn place(&self) -> Place {
        self.place
    }

    fn unpack(place: Place, rest: &mut Bytes) -> Option<Self> {
        let key = take_bytes(rest)?;
        let stored = take_bytes(rest)?;
        let record = if stored.is_empty() {
            None
        } else {
            Some(Record::decode("history", &key, stored).ok()?)
        };
        Some(Self { place, key, record })
    }
}
