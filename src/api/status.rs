//! Converts errors of other folders into etcd's errors for clients.

pub use crate::etcd_errors::EtcdError;

use super::backend::{ProposeError, ReadError};
use crate::state::ApplyError;
use crate::state::mvcc::MvccError;
use crate::storage::state::error::StateError;
use tonic::Status;

/// Either an error of etcd's table, or one that etcd does not know, which is returned as `Unknown` with its own text.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    #[error(transparent)]
    Known(#[from] EtcdError),
    #[error(transparent)]
    State(StateError),
    #[error("{0}")]
    Other(String),
}

impl From<CallError> for Status {
    fn from(failure: CallError) -> Self {
        match failure {
            CallError::Known(error) => error.into(),
            other => Status::unknown(other.to_string()),
        }
    }
}

impl From<StateError> for CallError {
    fn from(error: StateError) -> Self {
        Self::State(error)
    }
}

impl From<MvccError> for CallError {
    fn from(error: MvccError) -> Self {
        match error {
            MvccError::Compacted => EtcdError::Compacted.into(),
            MvccError::FutureRevision => EtcdError::FutureRevision.into(),
            MvccError::InvalidSortOption => EtcdError::InvalidSortOption.into(),
            MvccError::State(error) => Self::State(error),
        }
    }
}

impl From<ReadError> for CallError {
    fn from(error: ReadError) -> Self {
        Self::Known(match error {
            ReadError::LeaderChanged => EtcdError::LeaderChanged,
            ReadError::Timeout => EtcdError::Timeout,
            ReadError::TooManyRequests => EtcdError::TooManyRequests,
            ReadError::Stopped => EtcdError::Stopped,
        })
    }
}

impl From<ProposeError> for CallError {
    fn from(error: ProposeError) -> Self {
        Self::Known(match error {
            ProposeError::Timeout => EtcdError::Timeout,
            ProposeError::TimeoutLeaderFailure => EtcdError::TimeoutLeaderFailure,
            ProposeError::TooManyRequests => EtcdError::TooManyRequests,
            ProposeError::TooLarge => EtcdError::RequestTooLarge,
            ProposeError::Stopped => EtcdError::Stopped,
            ProposeError::Apply(error) => return error.into(),
        })
    }
}

impl From<ApplyError> for CallError {
    fn from(error: ApplyError) -> Self {
        Self::Known(match error {
            ApplyError::EmptyKey => EtcdError::EmptyKey,
            ApplyError::KeyTooLong => EtcdError::KeyTooLong,
            ApplyError::KeyNotFound => EtcdError::KeyNotFound,
            ApplyError::LeaseNotFound => EtcdError::LeaseNotFound,
            ApplyError::LeaseExists => EtcdError::LeaseExists,
            ApplyError::Compacted => EtcdError::Compacted,
            ApplyError::FutureRevision => EtcdError::FutureRevision,
            ApplyError::InvalidSortOption => EtcdError::InvalidSortOption,
            ApplyError::MemberNotFound => EtcdError::MemberNotFound,
            ApplyError::PeerUrlExists => EtcdError::PeerUrlExists,
            ApplyError::MemberExists => EtcdError::MemberExists,
            ApplyError::MemberNotLearner => EtcdError::LearnerOnly,
            ApplyError::LearnerNotReady => EtcdError::LearnerNotReady,
            ApplyError::TooManyLearners => EtcdError::TooManyLearners,
            ApplyError::NotEnoughStarted => EtcdError::MemberNotEnoughStarted,
            ApplyError::Unhealthy => EtcdError::Unhealthy,
            ApplyError::InvalidDowngradeTarget => EtcdError::InvalidDowngradeTarget,
            ApplyError::DowngradeInProgress => EtcdError::DowngradeInProcess,
            ApplyError::NoDowngrade => EtcdError::NoInflightDowngrade,
            ApplyError::NoSpace => EtcdError::NoSpace,
            ApplyError::Corrupt => EtcdError::Corrupt,
            ApplyError::IncarnationConflict | ApplyError::StaleTerm | ApplyError::Unreadable => {
                return Self::Other(error.to_string());
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Code;

    #[test]
    fn texts_are_whole() {
        assert!(
            EtcdError::KeyTooLong
                .text()
                .contains(&crate::limits::KEY_BYTES_MAX.to_string())
        );
        assert!(
            EtcdError::TooManyLevels
                .text()
                .contains(&format!(" {} levels", crate::limits::TXN_LEVELS_MAX))
        );
        let status = Status::from(CallError::from(ProposeError::TooManyRequests));
        assert_eq!(
            (status.code(), status.message()),
            (Code::Unknown, "etcdserver: too many requests")
        );
    }
}
