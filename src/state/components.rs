//! The replicated state as the applier holds it: what has been applied, in components with records of their own, and the
//! engine batch in which their changes are written.
//!
//! A component has `load`, which reads its records, and `write`, which adds the changed ones to the batch. Next to it stand
//! the functions that check and carry out its commands. A new component is a field here, a line in [`State::load`] and in
//! [`State::commit`], and, if others read it, a field of [`View`].

use std::sync::Arc;

use bytes::Bytes;

use crate::mutants::{self, Mutant};
use crate::proto::etcdserverpb::ResponseHeader;
use crate::state::alarms::RaisedAlarms;
use crate::state::key_space::{Beside, KeySpace};
use crate::state::leases::Leases;
use crate::state::membership::MembershipState;
use crate::state::mvcc::past::Past;
use crate::state::mvcc::records::{Source, Stored};
use crate::state::view::View;
use crate::storage::state::error::StateError;
use crate::storage::state::keys::KeyRange;
use crate::storage::state::meta::{self, Applied};
use crate::storage::state::record::{Header, Record};
use crate::storage::state::{StateDatabase, StateKeyspace};

/// See the head of the file.
pub(crate) struct State {
    pub(crate) database: Arc<StateDatabase>,
    /// As it will be once the batch is written. The revision excludes the current command.
    pub(crate) applied: Applied,
    pub(crate) keys: KeySpace,
    pub(crate) leases: Leases,
    pub(crate) alarms: RaisedAlarms,
    pub(crate) membership: MembershipState,
}

impl State {
    pub(crate) fn load(database: Arc<StateDatabase>, header_cache_bytes: u64) -> Result<Self, StateError> {
        Ok(Self {
            applied: meta::load(&database, meta::APPLIED_KEY)?.unwrap_or_else(Applied::empty),
            keys: KeySpace::new(Arc::clone(&database), header_cache_bytes),
            leases: Leases::new(Arc::clone(&database)),
            alarms: RaisedAlarms::load(&database)?,
            membership: MembershipState::load(&database)?,
            database,
        })
    }

    /// Writes all changes in one engine batch.
    pub(crate) fn commit(&mut self) -> Result<(), StateError> {
        let mut batch = self.database.batch(self.keys.changed_keys() + 4);
        self.keys.write(&mut batch);
        if mutants::active(Mutant::AppliedIndexApart) {
            std::mem::replace(&mut batch, self.database.batch(2)).commit()?;
        }
        let applied = meta::encode(meta::APPLIED_KEY, &self.applied);
        batch.insert(
            StateKeyspace::Meta,
            Bytes::from_static(meta::APPLIED_KEY),
            applied,
        );
        self.membership.write(&mut batch);
        self.alarms.write(&mut batch);
        self.leases.write(&mut batch);
        batch.commit()?;
        self.database.note_compaction(&self.applied);
        Ok(())
    }

    /// The view for readers. Everything must be written.
    pub(crate) fn view(&self) -> View {
        View::new(
            Arc::clone(&self.database),
            self.applied.clone(),
            Arc::clone(self.membership.cluster()),
            Arc::clone(self.alarms.all()),
        )
    }

    /// The newest revision, as a range inside the current command sees it.
    pub(crate) fn revision(&self) -> i64 {
        self.keys.revision(&self.applied)
    }

    /// Ends a command. If it has changed anything, the revision advances.
    pub(crate) fn end_command(&mut self) {
        self.keys.end_command(&mut self.applied);
    }

    /// The fields of a response's header that the state knows.
    pub(crate) fn header(&self) -> ResponseHeader {
        ResponseHeader {
            revision: self.revision(),
            ..ResponseHeader::default()
        }
    }

    /// Writes a new version of `key` over `previous`, which must be its newest record.
    pub(crate) fn put(
        &mut self,
        key: &[u8],
        value: &[u8],
        lease: i64,
        previous: Option<&Header>,
    ) -> Result<(), StateError> {
        let mut beside = Beside {
            applied: &mut self.applied,
            leases: &mut self.leases,
        };
        self.keys.put(&mut beside, key, value, lease, previous)
    }

    /// Deletes `key`, whose newest record is `previous`.
    pub(crate) fn delete(&mut self, key: &Bytes, previous: &Header) -> Result<(), StateError> {
        let mut beside = Beside {
            applied: &mut self.applied,
            leases: &mut self.leases,
        };
        self.keys.delete(&mut beside, key, previous)
    }
}

impl<'s> Source<'s> for &'s State {
    fn revision(&self) -> i64 {
        State::revision(self)
    }

    fn compact_revision(&self) -> i64 {
        self.applied.compact_revision
    }

    fn newest(&self, key: &[u8]) -> Result<Option<Record>, StateError> {
        self.keys.newest_record(key)
    }

    fn newest_header(&self, key: &[u8]) -> Result<Option<Header>, StateError> {
        self.keys.newest_header(key)
    }

    fn current(&self, range: &KeyRange) -> Stored<'s> {
        self.keys.pending_past().current(range)
    }

    fn past(&self) -> Box<dyn Past<'s> + 's> {
        Box::new(self.keys.pending_past())
    }
}
