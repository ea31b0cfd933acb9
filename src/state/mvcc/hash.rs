//! HashKV: etcd's checksum of the key space up to a revision.
//!
//! CRC-32C over the bytes `key`, then over key and value of every entry of etcd's bucket in revision order (etcd:
//! server/storage/mvcc/hash.go); for the entries see [`entries`](crate::state::mvcc::entries). Entries at or below the compact
//! revision count only if a reader at the hashed revision sees them. If that reader sees nothing at all, those count that a
//! reader at the compact revision sees.

use crate::limits::sizes;
use crate::state::mvcc::MvccError;
use crate::state::mvcc::entries::{EntryScan, EntryStep, Wanted};
use crate::state::mvcc::range::Progress;
use crate::state::mvcc::view::KeyView;

/// The answer of HashKV.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyValueHash {
    pub hash: u32,
    pub compact_revision: i64,
    pub hash_revision: i64,
}

/// A running hash.
#[derive(Debug)]
pub struct HashScan {
    entries: EntryScan,
    hashed: KeyValueHash,
    buffer: Vec<u8>,
}

impl KeyView {
    /// The hash up to `revision`, computed at once; 0 means the newest.
    pub fn hash_kv(&self, revision: i64) -> Result<KeyValueHash, MvccError> {
        let mut scan = self.hash_scan(revision)?;
        while scan.advance(usize::MAX)? == Progress::More {}
        Ok(scan.into_hash())
    }

    /// The hash up to `revision`, computed in slices.
    pub fn hash_scan(&self, revision: i64) -> Result<HashScan, MvccError> {
        HashScan::new(self.clone(), revision, sizes().hash_pass_keys)
    }

    /// The hash as if everything up to `compact_revision` had been compacted, if less has been: a member that has compacted
    /// more computes the same at this revision.
    pub fn hash_scan_as_compacted(
        &self,
        revision: i64,
        compact_revision: i64,
    ) -> Result<HashScan, MvccError> {
        let mut view = self.clone();
        view.applied.compact_revision = view.compact_revision().max(compact_revision);
        HashScan::new(view, revision, sizes().hash_pass_keys)
    }
}

impl HashScan {
    pub(super) fn new(view: KeyView, revision: i64, pass_keys: usize) -> Result<Self, MvccError> {
        let compact_revision = view.compact_revision();
        if revision > 0 && revision < compact_revision {
            return Err(MvccError::Compacted);
        }
        if revision > view.revision() {
            return Err(MvccError::FutureRevision);
        }
        let hash_revision = if revision == 0 { view.revision() } else { revision };
        let wanted = Wanted {
            up_to: hash_revision,
            seen_at: hash_revision,
            or_when_compacted: hash_revision != compact_revision,
            deletes_by_compact_revision: false,
        };
        let hashed = KeyValueHash {
            hash: crc32c::crc32c(b"key"),
            compact_revision,
            hash_revision,
        };
        Ok(Self {
            entries: EntryScan::new(view, wanted, pass_keys)?,
            hashed,
            buffer: vec![],
        })
    }

    /// Looks at up to `records_max` records.
    pub fn advance(&mut self, records_max: usize) -> Result<Progress, MvccError> {
        for _ in 0..records_max {
            match self.entries.step(&mut self.buffer)? {
                EntryStep::Entry { .. } => {
                    self.hashed.hash = crc32c::crc32c_append(self.hashed.hash, &self.buffer);
                }
                EntryStep::Looked => {}
                EntryStep::Done => return Ok(Progress::Done),
            }
        }
        Ok(Progress::More)
    }

    /// The result, once [`Self::advance`] has said `Done`.
    pub fn into_hash(self) -> KeyValueHash {
        self.hashed
    }
}
