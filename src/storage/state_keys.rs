//! Keys of the keyspaces, and ranges of user keys.
//!
//! - `current`: the user key itself.
//! - `superseded`: the escaped user key, a zero byte, then the revision that pushed the record out (main: 8 bytes, sub:
//!   4 bytes, both big-endian). A record pushed out at `(main, sub)` was the newest one until then, so the record of a
//!   key at revision R is the first one of that key pushed out after R: one seek forward.
//! - `history`: the first revision of the record (main: 8 bytes, sub: 4 bytes, both big-endian).
//!
//! Escaping: a zero byte of the user key becomes `00 FF`. The zero byte that ends the key is followed by the first byte
//! of a positive revision, which is below 80, so keys sort exactly as the user's bytes do, whatever those are.

use std::ops::Bound;

use bytes::Bytes;

use crate::limits::STORED_KEY_BYTES_MAX;

/// The main and sub revision at the end of keys in `superseded` and `history`.
pub const REVISION_BYTES: usize = 12;

/// Main revision and the place inside its transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    pub main: i64,
    pub sub: u32,
}

impl Place {
    pub fn to_bytes(self) -> [u8; REVISION_BYTES] {
        let mut bytes = [0; REVISION_BYTES];
        bytes[..8].copy_from_slice(&self.main.to_be_bytes());
        bytes[8..].copy_from_slice(&self.sub.to_be_bytes());
        bytes
    }

    /// The place that ends `key`, if it has the right shape.
    pub fn at_end_of(key: &[u8]) -> Option<Self> {
        let (_, tail) = key.split_last_chunk::<REVISION_BYTES>()?;
        let (main, sub) = tail.split_first_chunk::<8>()?;
        let main = i64::from_be_bytes(*main);
        (main >= 0).then_some(Self {
            main,
            sub: u32::from_be_bytes(sub.try_into().ok()?),
        })
    }
}

/// Whether `key` fits into every keyspace: escaping a key made of zero bytes doubles it, and the engine stops at 64 KiB.
pub fn key_fits(key: &[u8]) -> bool {
    key.len() + zero_bytes(key) + 1 + REVISION_BYTES <= STORED_KEY_BYTES_MAX
}

fn zero_bytes(key: &[u8]) -> usize {
    key.iter().map(|byte| usize::from(*byte == 0)).sum()
}

fn escape_into(key: &[u8], out: &mut Vec<u8>) {
    if !key.contains(&0) {
        out.extend_from_slice(key);
        return;
    }
    for byte in key {
        out.push(*byte);
        if *byte == 0 {
            out.push(0xff);
        }
    }
}

/// The key in `superseded` of the record that `place` pushed out.
pub fn superseded_key(key: &[u8], place: Place) -> Vec<u8> {
    let mut out = Vec::with_capacity(key.len() + 1 + REVISION_BYTES);
    escape_into(key, &mut out);
    out.push(0);
    out.extend_from_slice(&place.to_bytes());
    out
}

/// The user key and the place of a key in `superseded`. Copies only when the user key holds zero bytes.
pub fn split_superseded_key(stored: &Bytes) -> Option<(Bytes, Place)> {
    let place = Place::at_end_of(stored)?;
    let escaped_bytes = stored.len().checked_sub(REVISION_BYTES + 1)?;
    if stored[escaped_bytes] != 0 {
        return None;
    }
    let escaped = &stored[..escaped_bytes];
    if !escaped.contains(&0) {
        return Some((stored.slice(..escaped_bytes), place));
    }
    let mut key = Vec::with_capacity(escaped_bytes);
    let mut bytes = escaped.iter();
    while let Some(byte) = bytes.next() {
        key.push(*byte);
        if *byte == 0 && bytes.next() != Some(&0xff) {
            return None;
        }
    }
    Some((Bytes::from(key), place))
}

/// Which user keys a request speaks of (etcd: server/etcdserver/txn, `mkGteRange`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyRange {
    Single(Bytes),
    From(Bytes),
    /// From the first, up to but without the second.
    Between(Bytes, Bytes),
}

impl KeyRange {
    /// An empty `range_end` means the key alone, a single zero byte all keys from `key` on.
    pub fn new(key: Bytes, range_end: Bytes) -> Self {
        match &*range_end {
            [] => Self::Single(key),
            [0] => Self::From(key),
            _ => Self::Between(key, range_end),
        }
    }

    pub fn start(&self) -> &Bytes {
        match self {
            Self::Single(key) | Self::From(key) | Self::Between(key, _) => key,
        }
    }

    /// No key can be inside: the engine and the standard maps refuse bounds that are the wrong way round.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Between(start, end) if start >= end)
    }

    pub fn contains(&self, key: &[u8]) -> bool {
        match self {
            Self::Single(single) => single == key,
            Self::From(start) => **start <= *key,
            Self::Between(start, end) => **start <= *key && *key < **end,
        }
    }

    /// Bounds among user keys.
    pub fn bounds(&self) -> (Bound<Bytes>, Bound<Bytes>) {
        match self {
            Self::Single(key) => (Bound::Included(key.clone()), Bound::Included(key.clone())),
            Self::From(start) => (Bound::Included(start.clone()), Bound::Unbounded),
            Self::Between(start, end) => (Bound::Included(start.clone()), Bound::Excluded(end.clone())),
        }
    }

    /// Bounds among the keys of `superseded`.
    pub fn superseded_bounds(&self) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
        let mut low = Vec::with_capacity(self.start().len() + 2);
        escape_into(self.start(), &mut low);
        let high = match self {
            Self::Single(_) => {
                let mut high = low.clone();
                high.extend_from_slice(&[0, 0x80]);
                Bound::Excluded(high)
            }
            Self::From(_) => Bound::Unbounded,
            Self::Between(_, end) => {
                let mut high = Vec::with_capacity(end.len());
                escape_into(end, &mut high);
                Bound::Excluded(high)
            }
        };
        if matches!(self, Self::Single(_)) {
            low.push(0);
        }
        (Bound::Included(low), high)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(
            prop_oneof![Just(0u8), Just(1), Just(0x7f), Just(0xff), any::<u8>()],
            1..6,
        )
    }

    proptest! {
        #[test]
        fn superseded_keys_sort_by_user_key_then_place(
            a in key(), b in key(), main_a in 0..3i64, main_b in 0..i64::MAX, sub in 0..3u32,
        ) {
            let place_a = Place { main: main_a, sub };
            let place_b = Place { main: main_b, sub: 1 };
            let stored_a = superseded_key(&a, place_a);
            let stored_b = superseded_key(&b, place_b);
            prop_assert_eq!((&a, place_a).cmp(&(&b, place_b)), stored_a.cmp(&stored_b));
            prop_assert_eq!(split_superseded_key(&stored_a.into()), Some((Bytes::from(a), place_a)));
        }

        #[test]
        fn bounds_agree_with_contains(a in key(), b in key(), end in key(), main in 0..i64::MAX) {
            let stored = superseded_key(&b, Place { main, sub: 0 });
            for end in [vec![], vec![0], end] {
                let range = KeyRange::new(a.clone().into(), end.into());
                if range.is_empty() {
                    prop_assert!(!range.contains(&b));
                    continue;
                }
                let bounds = range.superseded_bounds();
                prop_assert_eq!(std::ops::RangeBounds::contains(&bounds, &stored), range.contains(&b));
                prop_assert_eq!(std::ops::RangeBounds::contains(&range.bounds(), &Bytes::from(b.clone())), range.contains(&b));
            }
        }
    }

    #[test]
    fn keys_that_escape_beyond_the_engines_limit_do_not_fit() {
        assert!(key_fits(&vec![b'a'; crate::limits::KEY_BYTES_MAX]));
        assert!(!key_fits(&vec![0; crate::limits::KEY_BYTES_MAX]));
        assert!(key_fits(&vec![0; 30 * 1024]));
    }

    #[test]
    fn broken_superseded_keys_are_refused() {
        for stored in [
            &b"short"[..],
            b"key\x01\0\0\0\0\0\0\0\x05\0\0\0\0",
            b"\0\x01\0\0\0\0\0\0\0\0\x05\0\0\0\0",
        ] {
            assert_eq!(
                split_superseded_key(&Bytes::copy_from_slice(stored)),
                None,
                "{stored:?}"
            );
        }
    }
}
