//! How many bytes live: what all revisions that are not compacted take, and leases. Part of `meta::Applied`.
//!
//! Counted in what clients have stored, not in what the engine makes of it, so that all members count the same and know
//! it after any restart or snapshot. A revision goes once a compaction reaches its successor, a deletion once a
//! compaction reaches it. So what a compaction to C frees is what all changes up to C have replaced: each record of
//! `replaced` says how much that was before it, and the first one behind C says it for the compaction, without a scan.
//!
//! Takes the place of what etcd asks its file for (server/storage/backend, `SizeInUse`).

use crate::mutants::{self, Mutant};
use prost::Message;

/// What a revision takes beside its key and value: about what it does in etcd's file.
const REVISION_OVERHEAD_BYTES: u64 = 32;

/// What a lease takes.
const LEASE_BYTES: u64 = 64;

/// What a revision of a key takes.
pub fn revision_bytes(key: &[u8], value_bytes: usize) -> u64 {
    REVISION_OVERHEAD_BYTES + (key.len() + value_bytes) as u64
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Usage {
    /// What lives.
    #[prost(uint64, tag = "1")]
    live: u64,
    /// What all changes ever have replaced.
    #[prost(uint64, tag = "2")]
    replaced: u64,
    /// How much of it is compacted.
    #[prost(uint64, tag = "3")]
    compacted: u64,
}

impl Usage {
    pub fn live_bytes(&self) -> u64 {
        self.live
    }

    /// What all changes so far have replaced.
    pub fn replaced_bytes(&self) -> u64 {
        self.replaced
    }

    /// A change has written this much, and taken that much out of use.
    pub(crate) fn change(&mut self, written: u64, replaced: u64) {
        self.live += written;
        self.replaced += replaced;
    }

    /// What changes up to the new compact revision have replaced is gone.
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
