//! The key space after one applied batch, readable at any of its revisions.

use std::ops::RangeBounds;
use std::sync::Arc;

use bytes::Bytes;
use fjall::Readable;

use crate::proto::etcdserverpb::RangeRequest;
use crate::proto::mvccpb::KeyValue;
use crate::state::mvcc::MvccError;
use crate::state::mvcc::counts::SharedCounts;
use crate::state::mvcc::past::{Past, StoredPast};
use crate::state::mvcc::range::RangeScan;
use crate::state::mvcc::records::{Source, Stored, stored_range};
use crate::storage::open_snapshots::StateSnapshot;
use crate::storage::state::error::StateError;
use crate::storage::state::keys::KeyRange;
use crate::storage::state::meta::Applied;
use crate::storage::state::record::{Header, Record};
use crate::storage::state::{StateDatabase, StateKeyspace};

/// See the head of the file.
#[derive(Clone)]
pub struct KeyView {
    pub applied: Applied,
    pub state: Arc<StateDatabase>,
    pub(in crate::state) snapshot: StateSnapshot,
    pub(in crate::state) counts: SharedCounts,
}

impl std::fmt::Debug for KeyView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyView")
            .field("applied", &self.applied)
            .finish_non_exhaustive()
    }
}

impl KeyView {
    /// Everything that `state` holds now. To be called only between batches, when `applied` matches the database.
    pub(crate) fn new(state: Arc<StateDatabase>, applied: Applied) -> Self {
        Self {
            applied,
            snapshot: state.snapshot(),
            state,
            counts: SharedCounts::default(),
        }
    }

    pub fn revision(&self) -> i64 {
        self.applied.revision
    }

    /// -1 as long as nothing has been compacted.
    pub fn compact_revision(&self) -> i64 {
        self.applied.compact_revision
    }

    /// The newest version of one key: the fast path of a get.
    pub fn get(&self, key: &Bytes) -> Result<Option<KeyValue>, StateError> {
        Ok(self.newest(key)?.map(|record| record.key_value(key.clone())))
    }

    /// A range, to be read in slices.
    pub fn range(&self, request: &RangeRequest) -> Result<RangeScan<'static>, MvccError> {
        RangeScan::new(self, request)?.counting(self, request)
    }

    /// The keys of a range and the revisions that created them, in key order.
    pub fn created(
        &self,
        range: &KeyRange,
    ) -> impl Iterator<Item = Result<(Bytes, i64), StateError>> + Send + use<> {
        self.current(range).map(|stored| {
            let (key, stored) = stored?;
            let record = Record::decode("current", &key, stored)?;
            Ok((key, record.header.create_revision))
        })
    }

    pub(crate) fn stored<R: RangeBounds<K>, K: AsRef<[u8]>>(
        &self,
        keyspace: StateKeyspace,
        bounds: R,
    ) -> Stored<'static> {
        stored_range(&self.state, &self.snapshot, keyspace, bounds)
    }
}

impl Source<'static> for KeyView {
    fn revision(&self) -> i64 {
        self.applied.revision
    }

    fn compact_revision(&self) -> i64 {
        self.applied.compact_revision
    }

    fn newest(&self, key: &[u8]) -> Result<Option<Record>, StateError> {
        if key.is_empty() {
            return Ok(None);
        }
        let current = self.state.keyspace(StateKeyspace::Current);
        let stored = self
            .snapshot
            .get(current, key)
            .map_err(StateError::engine("reading"))?;
        stored
            .map(|stored| Record::decode("current", key, stored.into()))
            .transpose()
    }

    fn newest_header(&self, key: &[u8]) -> Result<Option<Header>, StateError> {
        Ok(self.newest(key)?.map(|record| record.header))
    }

    fn current(&self, range: &KeyRange) -> Stored<'static> {
        if range.is_empty() {
            return Box::new(std::iter::empty());
        }
        self.stored(StateKeyspace::Current, range.bounds())
    }

    fn past(&self) -> Box<dyn Past<'static>> {
        Box::new(StoredPast::new(Arc::clone(&self.state), self.snapshot.clone()))
    }
}
