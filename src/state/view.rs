//! Views: the state after one applied batch, for any number of readers, without a lock.
//!
//! The applier publishes a view after each batch. A reader takes the newest and keeps it while its request lasts, so that a
//! long list comes from one view. A held view keeps replaced data in memory and on disk.

use std::ops::Deref;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;

use crate::ids::{LogIndex, MemberId, Term};
use crate::proto::log::Member;
use crate::state::mvcc::KeyView;
use crate::storage::state::alarms::SharedAlarms;
use crate::storage::state::error::StateError;
use crate::storage::state::leases::{self, LeaseRecord};
use crate::storage::state::meta::{Applied, SharedCluster};
use crate::storage::state::snapshot::{Cursor, StateRecords};
use crate::storage::state::{StateDatabase, StateKeyspace};

/// See the head of the file. It dereferences to its [`KeyView`].
#[derive(Clone, Debug)]
pub struct View {
    pub keys: KeyView,
    /// Members, raft's configuration and the cluster version.
    pub cluster: SharedCluster,
    pub alarms: SharedAlarms,
}

impl Deref for View {
    type Target = KeyView;

    fn deref(&self) -> &KeyView {
        &self.keys
    }
}

impl View {
    /// Everything that `database` holds now. To be called only between batches, when `applied` and the others match the
    /// database.
    pub(crate) fn new(
        database: Arc<StateDatabase>,
        applied: Applied,
        cluster: SharedCluster,
        alarms: SharedAlarms,
    ) -> Self {
        Self {
            keys: KeyView::new(database, applied),
            cluster,
            alarms,
        }
    }

    /// The newest log entry that is part of this state.
    pub fn applied_index(&self) -> LogIndex {
        LogIndex(self.applied.index)
    }

    /// The term of that entry.
    pub fn applied_term(&self) -> Term {
        Term(self.applied.term)
    }

    /// A member's record in the membership.
    pub fn member(&self, id: MemberId) -> Option<&Member> {
        self.cluster.members.iter().find(|member| member.id == id.0)
    }

    /// Whether this is a member without a vote.
    pub fn is_learner(&self, id: MemberId) -> bool {
        self.member(id).is_some_and(|member| member.is_learner)
    }

    /// Whether this member was removed.
    pub fn is_removed(&self, id: MemberId) -> bool {
        self.cluster.removed.contains(&id.0)
    }

    /// All leases, by ID.
    pub fn leases(&self) -> impl Iterator<Item = Result<(i64, LeaseRecord), StateError>> + Send + use<> {
        let stored = self.stored(StateKeyspace::Leases, leases::all_leases());
        stored.map(|stored| {
            let (key, value) = stored?;
            leases::decode_lease(&key, &value)
        })
    }

    /// All leases and the keys that they hold, in stored form.
    pub fn lease_records(&self) -> impl Iterator<Item = Result<(Bytes, Bytes), StateError>> + Send + use<> {
        self.stored::<_, Bytes>(StateKeyspace::Leases, ..)
    }

    /// The keys that a lease holds, in order.
    pub fn lease_keys(&self, id: i64) -> impl Iterator<Item = Result<Bytes, StateError>> + Send + use<> {
        let stored = self.stored(StateKeyspace::Leases, leases::attachments_of(id));
        stored.map(|stored| {
            let (key, value) = stored?;
            leases::decode_attachment(&key, &value)
        })
    }

    /// All records of all keyspaces after `cursor`.
    pub fn records(&self, after: Option<&Cursor>) -> Result<StateRecords, StateError> {
        StateRecords::new(Arc::clone(&self.state), self.snapshot.clone(), after)
    }
}

/// Holds the newest view.
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
        view.keys.counts = Arc::clone(&self.0.load().counts);
        self.0.store(Arc::new(view));
    }
}
