//! Keys of the keyspaces, and ranges of user keys.
//!
//! - `current`: the user key itself.
//! - `history` and `replaced`: the place of the record's first change (main: 8 bytes, sub: 4 bytes, big-endian).

use std::ops::Bound;

use bytes::Bytes;

/// The main and sub revision at the end of keys in `history` and `replaced`.
pub const REVISION_BYTES: usize = 12;

/// A main revision and the number of the change inside its transaction.
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

    /// The place at the end of `key`, if the key has the right form.
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

/// The user keys that a request selects (etcd: server/etcdserver/txn, `mkGteRange`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyRange {
    Single(Bytes),
    From(Bytes),
    /// From the first key up to, not including, the second.
    Between(Bytes, Bytes),
}

impl KeyRange {
    /// An empty `range_end` selects the key alone, a single zero byte all keys from `key` on.
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

    /// The rest of the range from `key` on, which is inside.
    #[must_use]
    pub fn starting_at(&self, key: Bytes) -> Self {
        match self {
            Self::Single(_) => Self::Single(key),
            Self::From(_) => Self::From(key),
            Self::Between(_, end) => Self::Between(key, end.clone()),
        }
    }

    /// Whether no key can be inside: the engine and the standard maps refuse reversed bounds.
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
        fn places_sort_as_their_bytes_do(main_a in 0..3i64, main_b in 0..3i64, sub_a in 0..3u32, sub_b in any::<u32>()) {
            let a = Place { main: main_a, sub: sub_a };
            let b = Place { main: main_b, sub: sub_b };
            prop_assert_eq!(a.cmp(&b), a.to_bytes().cmp(&b.to_bytes()));
            prop_assert_eq!(Place::at_end_of(&b.to_bytes()), Some(b));
        }

        #[test]
        fn bounds_agree_with_contains(a in key(), b in key(), end in key()) {
            let key = Bytes::from(b);
            for end in [vec![], vec![0], end] {
                let range = KeyRange::new(a.clone().into(), end.into());
                if range.is_empty() {
                    prop_assert!(!range.contains(&key));
                    continue;
                }
                prop_assert_eq!(std::ops::RangeBounds::contains(&range.bounds(), &key), range.contains(&key));
            }
        }
    }
}
