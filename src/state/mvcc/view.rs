//! Views: the state after one applied batch, for any number of readers, without a lock.
//!
//! The applier publishes one after each batch. A reader takes the newest and keeps it for as long as its request
//! lasts: a whole long list comes from one view. Holding a view keeps replaced data in memory and on disk.

use std::ops::RangeBounds;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use fjall::Readable;

use crate::ids::{LogIndex, MemberId, Term};
use crate::proto::etcdserverpb::RangeRequest;
use crate::proto::log::Member;
use crate::proto::mvccpb::KeyValue;
use crate::state::mvcc::MvccError;
use crate::state::mvcc::counts::SharedCounts;
use crate::state::mvcc::past::{Past, StoredPast};
use crate::state::mvcc::range::RangeScan;
use crate::state::mvcc::records::{Source, Stored, stored_range};
use crate::storage::open_snapshots::StateSnapshot;
use crate::storage::state::{StateDatabase, StateKeyspace};
use crate::storage::state_alarms::SharedAlarms;
use crate::storage::state_error::StateError;
use crate::storage::state_keys::KeyRange;
use crate::storage::state_leases::{self, LeaseRecord};
use crate::storage::state_meta::{Applied, Cluster};
use crate::storage::state_record::{Header, Record};
use crate::storage::state_snapshot::{Cursor, StateRecords};

/// See the head of the file.
#[derive(Clone)]
pub struct View {
    pub applied: Applied,
    /// Members, raft's configuration and the cluster version.
    pub cluster: Arc<Cluster>,
    pub alarms: SharedAlarms,
    pub state: Arc<StateDatabase>,
    pub(super) snapshot: StateSnapshot,
    pub(super) counts: SharedCounts,
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View")
            .field("applied", &self.applied)
            .finish_non_exhaustive()
    }
}

impl View {
    /// Everything that `state` holds now. Only between two batches does what was read of it before describe it.
    pub(crate) fn new(
        state: Arc<StateDatabase>,
        applied: Applied,
        cluster: Arc<Cluster>,
        alarms: SharedAlarms,
    ) -> Self {
        let snapshot = state.snapshot();
        Self {
            applied,
            cluster,
            alarms,
            state,
            snapshot,
            counts: SharedCounts::default(),
        }
    }

    pub fn revision(&self) -> i64 {
        self.applied.revision
    }

    /// The newest log entry that is part of this state.
    pub fn applied_index(&self) -> LogIndex {
        LogIndex(self.applied.index)
    }

    /// The term of that entry.
    pub fn applied_term(&self) -> Term {
        Term(self.applied.term)
    }

    /// What the membership says of one member.
    pub fn member(&self, id: MemberId) -> Option<&Member> {
        self.cluster.members.iter().find(|member| member.id == id.0)
    }

    /// -1 as long as nothing has been compacted.
    pub fn compact_revision(&self) -> i64 {
        self.applied.compact_revision
    }

    /// The newest version of one key: the fast path of a get.
    pub fn get(&self, key: &Bytes) -> Result<Option<KeyValue>, StateError> {
        Ok(self.newest(key)?.map(|record| record.key_value(key.clone())))
    }

    /// A range, to be carried out in slices.
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

    /// All leases, by id.
    pub fn leases(&self) -> impl Iterator<Item = Result<(i64, LeaseRecord), StateError>> + Send + use<> {
        let stored = self.stored(StateKeyspace::Leases, state_leases::all_leases());
        stored.map(|stored| {
            let (key, value) = stored?;
            state_leases::decode_lease(&key, &value)
        })
    }

    /// All leases and the keys that they hold, as they are stored.
    pub fn lease_records(&self) -> impl Iterator<Item = Result<(Bytes, Bytes), StateError>> + Send + use<> {
        self.stored::<_, Bytes>(StateKeyspace::Leases, ..)
    }

    /// The keys that a lease holds, in order.
    pub fn lease_keys(&self, id: i64) -> impl Iterator<Item = Result<Bytes, StateError>> + Send + use<> {
        let stored = self.stored(StateKeyspace::Leases, state_leases::attachments_of(id));
        stored.map(|stored| {
            let (key, value) = stored?;
            state_leases::decode_attachment(&key, &value)
        })
    }

    /// All records of all keyspaces, from after `cursor` on.
    pub fn records(&self, after: Option<&Cursor>) -> Result<StateRecords, StateError> {
        StateRecords::new(Arc::clone(&self.state), self.snapshot.clone(), after)
    }

    pub(crate) fn stored<R: RangeBounds<K>, K: AsRef<[u8]>>(
        &self,
        keyspace: StateKeyspace,
        bounds: R,
    ) -> Stored<'static> {
        stored_range(&self.state, &self.snapshot, keyspace, bounds)
    }
}

impl Source<'static> for View {
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

/// Where the newest view is found.
#[derive(Clone, Debug)]
pub struct Views(Arc<ArcSwap<View>>);

impl Views {
    pub(crate) fn new(view: View) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(view)))
    }

    pub fn load(&self) -> Arc<View> {
        self.0.load_full()
    }

    pub(crate) fn publish(&self, mut view: View) {
        view.counts = Arc::clone(&self.0.load().counts);
        self.0.store(Arc::new(view));
    }
}
