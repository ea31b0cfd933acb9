//! The number of live bytes: all revisions that are not compacted, and leases. Part of `meta::Applied`.
//!
//! Counts what clients have stored, not the engine's form of it, so all members count the same and know the number after any
//! restart or snapshot. A revision is freed once a compaction reaches its successor, a deletion once a compaction reaches it. So
//! a compaction to C frees what all changes up to C have replaced. Each record of `replaced` holds how much had been replaced
//! before it, and the first one behind C gives the number for the compaction without a scan.
//!
//! Takes the place of etcd's `SizeInUse` (server/storage/backend), which asks the file.

use crate::mutants::{self, Mutant};
use prost::Message;

/// The bytes of a revision besides its key and value: about the same as in etcd's file.
const REVISION_OVERHEAD_BYTES: u64 = 32;

/// The bytes of a lease.
const LEASE_BYTES: u64 = 64;

/// The bytes of a revision of a key.
pub fn revision_bytes(key: &[u8], value_bytes: usize) -> u64 {
    REVISION_OVERHEAD_BYTES + (key.len() + value_bytes) as u64
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Usage {
    /// Live bytes.
    #[prost(uint64, tag = "1")]
    live: u64,
    /// The bytes that all changes so far have replaced.
    #[prost(uint64, tag = "2")]
    replaced: u64,
    /// How many of these are compacted.
    #[prost(uint64, tag = "3")]
    compacted: u64,
}

impl Usage {
    pub fn live_bytes(&self) -> u64 {
        self.live
    }

    pub fn replaced_bytes(&self) -> u64 {
        self.replaced
    }

    /// Counts a change that has written and replaced this many bytes.
    pub(crate) fn change(&mut self, written: u64, replaced: u64) {
        self.live += written;
        self.replaced += replaced;
    }

    /// Frees what changes up to the new compact revision have replaced.
    pub(crate) fn compact(&mut self, replaced: u64) {
        if mutants::active(Mutant::NothingFreed) {
            return;
        }
        let freed = replaced.checked_sub(self.compacted);
        let left = freed.and_then(|freed| self.live.checked_sub(freed));
        self.live = left.expect("what a compaction frees was alive");
        self.compacted = replaced;
    }

    pub(crate) fn lease_granted(&mut self) {
        self.live += LEASE_BYTES;
    }

    pub(crate) fn lease_ended(&mut self) {
        let left = self.live.checked_sub(LEASE_BYTES);
        self.live = left.expect("a lease that ends was granted");
    }
}
