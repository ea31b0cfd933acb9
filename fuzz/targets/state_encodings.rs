//! Keys and values of the state database, as they are and with a checksum that fits. The first byte splits the input into
//! key and value.

#![no_main]

use bytes::Bytes;
use callboard::storage::state_keys::{KeyRange, Place, key_fits, split_superseded_key, superseded_key};
use callboard::storage::state_history;
use callboard::storage::state_meta::{self, Applied, Cluster};
use callboard::storage::state_record::{Record, Superseded};
use libfuzzer_sys::fuzz_target;

fn keys(key: &[u8], other: &[u8]) {
    let _ = Place::at_end_of(key);
    if let Some((user_key, place)) = split_superseded_key(&Bytes::copy_from_slice(key)) {
        assert_eq!(superseded_key(&user_key, place), key);
    }
    let place = Place {
        main: i64::from(u32::MAX),
        sub: 3,
    };
    let stored = Bytes::from(superseded_key(key, place));
    assert_eq!(
        split_superseded_key(&stored),
        Some((Bytes::copy_from_slice(key), place))
    );
    let range = KeyRange::new(Bytes::copy_from_slice(key), Bytes::copy_from_slice(other));
    if key_fits(key) && !range.is_empty() {
        assert!(range.contains(range.start()));
    }
    let _ = (range.bounds(), range.superseded_bounds());
}

fn values(key: &[u8], value: &Bytes) {
    let _ = state_meta::decode::<Applied>(key, value);
    let _ = state_meta::decode::<Cluster>(key, value);
    let _ = state_history::last_main(value);
    let _ = state_history::decode(key, value);
    if let Ok(Superseded::InHistory(header)) = Superseded::decode(key, value.clone()) {
        let stored = header.to_stored(key);
        assert_eq!(Superseded::decode(key, stored).unwrap().header(), &header);
    }
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
