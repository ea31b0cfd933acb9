//! The one table of errors: etcd's texts, on which clients match exactly, and their gRPC codes
//! (etcd: api/v3rpc/rpctypes/error.go and server/etcdserver/api/v3rpc/util.go).

use super::backend::{ProposeError, ReadError};
use crate::state::ApplyError;
use crate::state::mvcc::MvccError;
use crate::storage::state_error::StateError;
use tonic::{Code, Status};

macro_rules! table {
    ($($name:ident $code:ident $text:literal;)*) => {
        /// An error that etcd's clients know by its text.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
        #[non_exhaustive]
        pub enum ApiError {
            $(#[error($text)] $name,)*
        }

        impl ApiError {
            /// What clients see.
            pub const fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }

            /// The gRPC code that goes with it.
            pub const fn code(self) -> Code {
                match self {
                    $(Self::$name => Code::$code,)*
                }
            }
        }
    };
}

table! {
    EmptyKey InvalidArgument "etcdserver: key is not provided";
    KeyNotFound InvalidArgument "etcdserver: key not found";
    ValueProvided InvalidArgument "etcdserver: value is provided";
    LeaseProvided InvalidArgument "etcdserver: lease is provided";
    TooManyOps InvalidArgument "etcdserver: too many operations in txn request";
    // Callboard's own: what nests more deeply would not be read back from the log. See limits::TXN_LEVELS_MAX.
    TooManyLevels InvalidArgument "etcdserver: txn request is nested too deeply, this server takes up to 32 levels";
    DuplicateKey InvalidArgument "etcdserver: duplicate key given in txn request";
    InvalidSortOption InvalidArgument "etcdserver: invalid sort option";
    // Callboard's own: its storage engine takes shorter keys than etcd's. See limits::KEY_BYTES_MAX.
    KeyTooLong InvalidArgument "etcdserver: key is too large, this server takes keys of up to 61440 bytes";
    RequestTooLarge InvalidArgument "etcdserver: request is too large";
    Compacted OutOfRange "etcdserver: mvcc: required revision has been compacted";
    FutureRevision OutOfRange "etcdserver: mvcc: required revision is a future revision";
    NoSpace ResourceExhausted "etcdserver: mvcc: database space exceeded";
    // etcd maps this one to its client-side error, whose code is Unknown on the wire.
    TooManyRequests Unknown "etcdserver: too many requests";
    LeaseNotFound NotFound "etcdserver: requested lease not found";
    LeaseExists FailedPrecondition "etcdserver: lease already exists";
    LeaseTtlTooLarge OutOfRange "etcdserver: too large lease TTL";
    MemberNotFound NotFound "etcdserver: member not found";
    NoLeader Unavailable "etcdserver: no leader";
    LeaderChanged Unavailable "etcdserver: leader changed";
    NotLeader FailedPrecondition "etcdserver: not leader";
    Stopped Unavailable "etcdserver: server stopped";
    Timeout Unavailable "etcdserver: request timed out";
    TimeoutLeaderFailure Unavailable "etcdserver: request timed out, possibly due to previous leader failure";
    Corrupt DataLoss "etcdserver: corrupt cluster";
    AuthNotEnabled FailedPrecondition "etcdserver: authentication is not enabled";
    RootUserNotFound FailedPrecondition "etcdserver: root user does not exist";
    UserNotFound FailedPrecondition "etcdserver: user name not found";
    RoleNotFound FailedPrecondition "etcdserver: role name not found";
    UserEmpty InvalidArgument "etcdserver: user name is empty";
    RoleEmpty InvalidArgument "etcdserver: role name is empty";
    PermissionNotGiven InvalidArgument "etcdserver: permission not given";
    // etcd answers FailedPrecondition when the cluster is too old for a call; here the call does not exist yet.
    NotCapable Unimplemented "etcdserver: not capable";
    StreamSort Unimplemented "RangeStream does not support custom sort orders";
    StreamFilters Unimplemented "RangeStream does not support revision filters";
    DeadlineExceeded DeadlineExceeded "context deadline exceeded";
    // Those of locks and elections (etcd: client/v3/concurrency, server/etcdserver/api/v3election).
    SessionExpired Unknown "mutex: session is expired";
    ElectionNoLeader Unknown "election: no leader";
    ElectionNotLeader Unknown "election: not leader";
    MissingLeaderKey Unknown "\"leader\" field must be provided";
}

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Self {
        Status::new(error.code(), error.text())
    }
}

/// Either an error of the table, or one that etcd does not know: those go out as `Unknown` with their own text.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    #[error(transparent)]
    Known(#[from] ApiError),
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
            MvccError::Compacted => ApiError::Compacted.into(),
            MvccError::FutureRevision => ApiError::FutureRevision.into(),
            MvccError::InvalidSortOption => ApiError::InvalidSortOption.into(),
            MvccError::State(error) => Self::State(error),
        }
    }
}

impl From<ReadError> for CallError {
    fn from(error: ReadError) -> Self {
        Self::Known(match error {
            ReadError::LeaderChanged => ApiError::LeaderChanged,
            ReadError::Timeout => ApiError::Timeout,
            ReadError::TooManyRequests => ApiError::TooManyRequests,
            ReadError::Stopped => ApiError::Stopped,
        })
    }
}

impl From<ProposeError> for CallError {
    fn from(error: ProposeError) -> Self {
        Self::Known(match error {
            ProposeError::Timeout => ApiError::Timeout,
            ProposeError::TimeoutLeaderFailure => ApiError::TimeoutLeaderFailure,
            ProposeError::TooManyRequests => ApiError::TooManyRequests,
            ProposeError::TooLarge => ApiError::RequestTooLarge,
            ProposeError::Stopped => ApiError::Stopped,
            ProposeError::Apply(error) => return error.into(),
        })
    }
}

impl From<ApplyError> for CallError {
    fn from(error: ApplyError) -> Self {
        Self::Known(match error {
            ApplyError::EmptyKey => ApiError::EmptyKey,
            ApplyError::KeyTooLong => ApiError::KeyTooLong,
            ApplyError::KeyNotFound => ApiError::KeyNotFound,
            ApplyError::LeaseNotFound => ApiError::LeaseNotFound,
            ApplyError::LeaseExists => ApiError::LeaseExists,
            ApplyError::Compacted => ApiError::Compacted,
            ApplyError::FutureRevision => ApiError::FutureRevision,
            ApplyError::InvalidSortOption => ApiError::InvalidSortOption,
            ApplyError::MemberNotFound => ApiError::MemberNotFound,
            ApplyError::NoSpace => ApiError::NoSpace,
            ApplyError::Corrupt => ApiError::Corrupt,
            ApplyError::IncarnationConflict | ApplyError::StaleTerm | ApplyError::Unreadable => {
                return Self::Other(error.to_string());
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_whole() {
        assert!(
            ApiError::KeyTooLong
                .text()
                .contains(&crate::limits::KEY_BYTES_MAX.to_string())
        );
        assert!(
            ApiError::TooManyLevels
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
