//! Keys and values of the state database, as they are and with a checksum that fits. The first byte splits the input into
//! key and value.

#![no_main]

use bytes::Bytes;
use callboard::storage::state::history::HistoryEntry;
use callboard::storage::state::keys::{KeyRange, Place};
use callboard::storage::state::meta::{self, Applied, Cluster};
use callboard::storage::state::packed;
use callboard::storage::state::record::Record;
use callboard::storage::state::replaced::Replacement;
use libfuzzer_sys::fuzz_target;

fn keys(key: &[u8], other: &[u8]) {
    if let Some(place) = Place::at_end_of(key) {
        assert_eq!(place.to_bytes(), key[key.len() - 12..]);
    }
    let range = KeyRange::new(Bytes::copy_from_slice(key), Bytes::copy_from_slice(other));
    if !range.is_empty() {
        assert!(range.contains(range.start()));
    }
    let _ = range.bounds();
}

fn values(key: &[u8], value: &Bytes) {
    let _ = meta::decode::<Applied>(key, value);
    let _ = meta::decode::<Cluster>(key, value);
    let _ = packed::last_main(value);
    let _ = packed::decode::<HistoryEntry>(key, value);
    let _ = packed::decode::<Replacement>(key, value);
    if let Ok(record) = Record::decode("current", key, value.clone()) {
        let _ = (record.place(), record.value(), record.detached());
        let (mut whole, mut key_only) = (Vec::new(), Vec::new());
        record.encode_key_value(key, &mut whole);
        assert_eq!(whole.len(), record.key_value_bytes(key));
        record.encode_key_only(key, &mut key_only);
        assert_eq!(key_only.len(), record.key_only_bytes(key));
        let _ = record.key_value(Bytes::copy_from_slice(key));
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((key_bytes, rest)) = data.split_first() else {
        return;
    };
    let (key, value) = rest.split_at(usize::from(*key_bytes).min(rest.len()));
    keys(key, value);
    values(key, &Bytes::copy_from_slice(value));
    let sum = crc32c::crc32c_append(crc32c::crc32c(key), value);
    values(key, &Bytes::from([&sum.to_le_bytes(), value].concat()));
});
