//! Records of `meta`: how far the state has been applied, and the cluster's members.
//!
//! Both are protobuf behind a CRC-32C (4 bytes, little-endian) of key and message. They are written in the same engine batch as
//! the changes that they describe, so they always agree with the other keyspaces.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;

use crate::limits::COMPACTIONS_REMEMBERED_MAX;
use crate::proto::log::Member;
use crate::proto::peer::ConfState;
use crate::storage::state::error::StateError;
use crate::storage::state::usage::Usage;
use crate::storage::state::{StateDatabase, StateKeyspace};

pub const APPLIED_KEY: &[u8] = b"applied";
pub const CLUSTER_KEY: &[u8] = b"cluster";
const NAME: &str = "meta";

/// How far the log has been applied.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Applied {
    #[prost(uint64, tag = "1")]
    pub index: u64,
    #[prost(uint64, tag = "2")]
    pub term: u64,
    /// The newest revision of the key space.
    #[prost(int64, tag = "3")]
    pub revision: i64,
    /// -1 until something has been compacted.
    #[prost(sint64, tag = "4")]
    pub compact_revision: i64,
    /// The history up to here may be dropped: no record of `replaced` that a reader can still ask for points to it.
    #[prost(sint64, tag = "5")]
    pub history_floor: i64,
    /// Compactions whose history may still be pointed to, oldest first.
    #[prost(message, repeated, tag = "6")]
    pub compactions: Vec<PastCompaction>,
    /// The number of keys.
    #[prost(uint64, tag = "7")]
    pub keys: u64,
    #[prost(message, required, tag = "8")]
    pub usage: Usage,
    /// A digest of every change that the log has made: equal at the same index on all members with the same state.
    #[prost(fixed64, tag = "9")]
    pub digest: u64,
}

/// The kinds of changes that a digest distinguishes. The numbers must not change: members of different versions compare digests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DigestChange {
    Put = 1,
    Delete = 2,
    Compaction = 3,
    Lease = 4,
    LeaseEnd = 5,
    Cluster = 6,
    Alarms = 7,
}

/// A compaction that was applied.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct PastCompaction {
    /// The revision that it compacted to.
    #[prost(int64, tag = "1")]
    pub compact_revision: i64,
    /// The newest revision at that time.
    #[prost(int64, tag = "2")]
    pub applied_at_revision: i64,
}

impl Applied {
    /// An empty key space.
    pub fn empty() -> Self {
        Self {
            index: 0,
            term: 0,
            revision: 1,
            compact_revision: -1,
            history_floor: -1,
            compactions: vec![],
            keys: 0,
            usage: Usage::default(),
            digest: 0,
        }
    }

    /// Adds one more change to the digest (the mixing step is that of Steele's SplitMix64).
    pub fn digest(&mut self, change: DigestChange, numbers: &[u64]) {
        for number in std::iter::once(&(change as u64)).chain(numbers) {
            let mut mixed = (self.digest ^ number).wrapping_add(0x9e37_79b9_7f4a_7c15);
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            self.digest = mixed ^ (mixed >> 31);
        }
    }

    /// Raises the compact revision, and finds out which history is no longer needed. `replaced` is the number of bytes that the
    /// changes up to `revision` have replaced.
    ///
    /// A record of `replaced` points into the history only if what it replaced was newer than the compact revision then. So after
    /// a compaction to C, applied at revision R, no new record points to history up to C. Records that pointed there before were
    /// written by R at the latest, and can be asked for only until R is compacted too.
    pub fn compact(&mut self, revision: i64, replaced: u64) {
        assert!(revision > self.compact_revision, "compactions only move forward");
        self.compact_revision = revision;
        self.usage.compact(replaced);
        self.digest(DigestChange::Compaction, &[revision as u64, replaced]);
        self.compactions.push(PastCompaction {
            compact_revision: revision,
            applied_at_revision: self.revision,
        });
        let done = self
            .compactions
            .partition_point(|past| past.applied_at_revision <= revision);
        if let Some(last) = self.compactions.drain(..done).next_back() {
            self.history_floor = last.compact_revision;
        }
        self.compactions.truncate(COMPACTIONS_REMEMBERED_MAX);
    }
}

/// The cluster as applied from the log.
#[derive(Clone, PartialEq, Message)]
pub struct Cluster {
    /// Sorted by id.
    #[prost(message, repeated, tag = "1")]
    pub members: Vec<Member>,
    #[prost(message, required, tag = "2")]
    pub conf_state: ConfState,
    /// Empty until the members have agreed on a version.
    #[prost(string, tag = "3")]
    pub version: String,
    /// Former members, in the order of their removal: none of these ids can rejoin.
    #[prost(fixed64, repeated, tag = "4")]
    pub removed: Vec<u64>,
    /// Empty unless a downgrade is in progress.
    #[prost(string, tag = "5")]
    pub downgrade_target: String,
}

/// The members of the cluster. Shared by all views until it changes.
pub type SharedCluster = Arc<Cluster>;

pub fn encode(key: &[u8], message: &impl Message) -> Vec<u8> {
    let mut out = Vec::with_capacity(4 + message.encoded_len());
    out.extend_from_slice(&[0; 4]);
    message.encode(&mut out).expect("a vector grows as needed");
    let crc = crc32c::crc32c_append(crc32c::crc32c(key), &out[4..]);
    out[..4].copy_from_slice(&crc.to_le_bytes());
    out
}

pub fn decode<M: Message + Default>(key: &[u8], value: &Bytes) -> Result<M, StateError> {
    decode_in(NAME, key, value)
}

/// The record under a key of `meta`, if there is one.
pub fn load<M: Message + Default>(database: &StateDatabase, key: &[u8]) -> Result<Option<M>, StateError> {
    let stored = database.get(StateKeyspace::Meta, key)?;
    stored.map(|stored| decode(key, &stored)).transpose()
}

/// The same for a record of another keyspace.
pub(super) fn decode_in<M: Message + Default>(
    keyspace: &'static str,
    key: &[u8],
    value: &Bytes,
) -> Result<M, StateError> {
    let corrupt = |reason| StateError::corrupt(keyspace, key, reason);
    let Some((crc, message)) = value.split_first_chunk::<4>() else {
        return Err(corrupt("a record cut short"));
    };
    if u32::from_le_bytes(*crc) != crc32c::crc32c_append(crc32c::crc32c(key), message) {
        return Err(corrupt("a record whose checksum does not match"));
    }
    M::decode(message).map_err(|_| corrupt("a record that does not parse"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_flips_are_noticed() {
        let applied = Applied {
            index: 9,
            term: 3,
            revision: 77,
            compact_revision: -1,
            ..Applied::empty()
        };
        let stored = encode(APPLIED_KEY, &applied);
        assert_eq!(
            decode::<Applied>(APPLIED_KEY, &stored.clone().into()).unwrap(),
            applied
        );
        assert!(decode::<Applied>(CLUSTER_KEY, &stored.clone().into()).is_err());
        for bit in 0..stored.len() * 8 {
            let mut broken = stored.clone();
            broken[bit / 8] ^= 1 << (bit % 8);
            assert!(
                decode::<Applied>(APPLIED_KEY, &broken.into()).is_err(),
                "bit {bit}"
            );
        }
    }

    #[test]
    fn history_goes_once_whatever_could_point_to_it_is_out_of_reach() {
        let mut applied = Applied {
            revision: 100,
            ..Applied::empty()
        };
        applied.compact(40, 0);
        assert_eq!(applied.history_floor, -1);
        applied.revision = 150;
        applied.compact(99, 0);
        assert_eq!(applied.history_floor, -1);
        applied.compact(100, 0);
        assert_eq!(applied.history_floor, 40);
        applied.compact(150, 0);
        assert_eq!((applied.history_floor, applied.compactions.len()), (150, 0));
        // More compactions than are remembered: the space of those beyond the limit is reclaimed by a later compaction.
        applied.revision = 10_000;
        for revision in 200..300 {
            applied.compact(revision, 0);
        }
        assert_eq!(applied.compactions.last().unwrap().compact_revision, 215);
        applied.compact(10_000, 0);
        assert_eq!((applied.history_floor, applied.compactions.len()), (10_000, 0));
    }
}
