//! The keys of a watcher, in as little memory as possible: there may be a hundred thousand watchers.

use std::cmp::Ordering;
use std::sync::Arc;

/// A key, or a range of keys. Start and end are in one allocation of their own, so that a watcher does not keep the network
/// buffer of its request alive. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WatchedKeys {
    bytes: Arc<[u8]>,
    start_bytes: u32,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Single,
    /// All keys from the start on.
    From,
    /// Up to, not including, the end.
    Between,
}

/// The end of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End<'a> {
    Before(&'a [u8]),
    Open,
}

impl PartialOrd for End<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for End<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Open, Self::Open) => Ordering::Equal,
            (Self::Open, _) => Ordering::Greater,
            (_, Self::Open) => Ordering::Less,
            (Self::Before(one), Self::Before(other)) => one.cmp(other),
        }
    }
}

impl WatchedKeys {
    /// From the fields of a request: an empty key means the first key, an empty end the key alone, a single zero byte an open
    /// end. None if no key can be inside (etcd: server/storage/mvcc/watcher.go, `ErrEmptyWatcherRange`).
    pub fn new(key: &[u8], range_end: &[u8]) -> Option<Self> {
        let start = if key.is_empty() { &[0][..] } else { key };
        let (end, kind) = match range_end {
            [] => (&[][..], Kind::Single),
            [0] => (&[][..], Kind::From),
            end if start >= end => return None,
            end => (end, Kind::Between),
        };
        Some(Self {
            bytes: [start, end].concat().into(),
            start_bytes: u32::try_from(start.len()).ok()?,
            kind,
        })
    }

    pub fn start(&self) -> &[u8] {
        &self.bytes[..self.start_bytes as usize]
    }

    /// The end of a range; None for a single key.
    pub fn end(&self) -> Option<End<'_>> {
        match self.kind {
            Kind::Single => None,
            Kind::From => Some(End::Open),
            Kind::Between => Some(End::Before(&self.bytes[self.start_bytes as usize..])),
        }
    }

    pub fn contains(&self, key: &[u8]) -> bool {
        match self.end() {
            None => key == self.start(),
            Some(End::Open) => key >= self.start(),
            Some(End::Before(end)) => key >= self.start() && key < end,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_name_keys_as_etcd_reads_them() {
        type Case<'a> = (&'a [u8], &'a [u8], Option<&'a [&'a [u8]]>, &'a [&'a [u8]]);
        // Key, end, keys inside (none: nothing can be inside), keys outside.
        let cases: [Case<'_>; 8] = [
            (b"b", b"", Some(&[b"b"]), &[b"a", b"b\0", b"c"]),
            (b"", b"", Some(&[b"\0"]), &[b"a"]),
            (b"b", b"\0", Some(&[b"b", b"b\0", b"\xff"]), &[b"a"]),
            (b"", b"\0", Some(&[b"\0", b"a", b"\xff"]), &[]),
            (b"b", b"d", Some(&[b"b", b"c", b"c\xff"]), &[b"a\xff", b"d"]),
            (b"b", b"b", None, &[]),
            (b"b", b"a", None, &[]),
            (b"", b"a", Some(&[b"\0", b"\x01"]), &[b"a"]),
        ];
        for (key, end, inside, outside) in cases {
            let keys = WatchedKeys::new(key, end);
            assert_eq!(keys.is_some(), inside.is_some(), "{key:?} {end:?}");
            let Some(keys) = keys else { continue };
            for other in inside.into_iter().flatten() {
                assert!(keys.contains(other), "{keys:?} {other:?}");
            }
            for other in outside {
                assert!(!keys.contains(other), "{keys:?} {other:?}");
            }
        }
    }
}
