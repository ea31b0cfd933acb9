//! The deterministic state machine: committed entries in, replies and a new view out.
//!
//! It uses no clock, no randomness and no order of a hash map: every member that applies the same entries holds the same
//! records. Mirrors the writing half of etcd's server/etcdserver/txn and server/etcdserver/apply.

#[cfg(test)]
mod alarm_tests;
mod alarms;
mod cache;
pub mod changes;
mod components;
pub mod cost;
pub mod digests;
pub mod entry;
mod key_space;
#[cfg(test)]
mod lease_tests;
pub mod leases;
pub mod machine;
#[cfg(test)]
mod machine_tests;
pub mod membership;
mod meta_record;
#[cfg(test)]
mod model_strategies;
#[cfg(test)]
mod model_tests;
pub mod mvcc;
#[cfg(test)]
pub(crate) mod testing;
mod txn;
#[cfg(test)]
mod txn_tests;
#[cfg(test)]
mod usage_tests;
pub mod view;

pub use entry::Payload;
pub use machine::{CommittedEntry, Machine, Outcome, Reply};
pub use view::{View, Views};

use crate::state::mvcc::MvccError;
use crate::storage::state::error::StateError;

/// Why a command was refused. It has changed nothing, and every member refuses it alike.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ApplyError {
    #[error("a key is empty; name one")]
    EmptyKey,
    #[error("a key is longer than the storage takes; shorten it")]
    KeyTooLong,
    #[error("the key whose value or lease is to be kept does not exist")]
    KeyNotFound,
    #[error("the lease does not exist; grant one first")]
    LeaseNotFound,
    #[error("the lease exists already; choose another id")]
    LeaseExists,
    #[error("a leader of an earlier term said so; a later one has taken over")]
    StaleTerm,
    #[error("the revision has been compacted")]
    Compacted,
    #[error("the revision has not happened yet")]
    FutureRevision,
    #[error("space is short, as an alarm says; free some and disarm the alarm")]
    NoSpace,
    #[error("members hold different data, as an alarm says; restore those that differ and disarm the alarm")]
    Corrupt,
    #[error("the command cannot be read back from the log; make it smaller and nest it less deeply")]
    Unreadable,
    #[error("the sort order or sort target of a range is unknown")]
    InvalidSortOption,
    #[error(
        "no such member is in the cluster; it has been removed: wipe its data directory and add it again"
    )]
    MemberNotFound,
    #[error("another member of the cluster has one of these peer URLs")]
    PeerUrlExists,
    #[error("a member of the cluster has this id")]
    MemberExists,
    #[error("the member is a voter already")]
    MemberNotLearner,
    #[error("the learner is too far behind its leader to become a voter; try again later")]
    LearnerNotReady,
    #[error("the cluster has as many learners as --max-learners allows")]
    TooManyLearners,
    #[error("too few members would be up after the change; start those that are down first")]
    NotEnoughStarted,
    #[error("not all members are in reach of the leader for long enough; try again when they are")]
    Unhealthy,
    #[error("a cluster can be downgraded only to the minor version before its own")]
    InvalidDowngradeTarget,
    #[error("the cluster is being downgraded already; cancel that first")]
    DowngradeInProgress,
    #[error("the cluster is not being downgraded")]
    NoDowngrade,
    #[error(
        "the member has started from another data directory before; a member that lost its data must be removed and \
         added again"
    )]
    IncarnationConflict,
}

/// Why nothing more can be applied. The member stops.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MachineError {
    #[error(transparent)]
    State(#[from] StateError),
    #[error(
        "log entry {index} cannot be read ({source}); the log is damaged or was written by a newer version: upgrade \
         this member, or remove it, wipe its data directory and add it again"
    )]
    Entry { index: u64, source: entry::EntryError },
    #[error(
        "log entry {index} is of another format ({context:?}) than this version reads; it was written by a newer version: \
         upgrade this member"
    )]
    Format { index: u64, context: bytes::Bytes },
    #[error(
        "log entry {index} changes raft's configuration and does not say what becomes of the members; it was written by a newer \
         version: upgrade this member"
    )]
    Configuration { index: u64 },
    #[error(
        "log entry {found} came where {expected} was due; the log has a hole: restart the member, and if this \
             repeats remove it, wipe its data directory and add it again"
    )]
    Hole { expected: u64, found: u64 },
    #[error(
        "the data directory has been initialized before; start the member with the flags of an existing one"
    )]
    AlreadyInitialized,
}

/// Either kind of failure, within this folder.
#[derive(Debug)]
enum ApplyFailure {
    Refused(ApplyError),
    Fatal(StateError),
}

impl From<ApplyError> for ApplyFailure {
    fn from(error: ApplyError) -> Self {
        Self::Refused(error)
    }
}

impl From<StateError> for ApplyFailure {
    fn from(error: StateError) -> Self {
        Self::Fatal(error)
    }
}

impl From<MvccError> for ApplyFailure {
    fn from(error: MvccError) -> Self {
        match error {
            MvccError::Compacted => Self::Refused(ApplyError::Compacted),
            MvccError::FutureRevision => Self::Refused(ApplyError::FutureRevision),
            MvccError::InvalidSortOption => Self::Refused(ApplyError::InvalidSortOption),
            MvccError::State(error) => Self::Fatal(error),
        }
    }
}
