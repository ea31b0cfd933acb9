//! Why a request was not carried out, or may not have been.

use crate::state::ApplyError;

/// Why a command has no outcome. Only `Apply`, `TooLarge` and `TooManyRequests` say that it was not carried out.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ProposeError {
    #[error("request timed out")]
    Timeout,
    #[error("request timed out, possibly due to previous leader failure")]
    TimeoutLeaderFailure,
    #[error("too many requests")]
    TooManyRequests,
    #[error("request is too large")]
    TooLarge,
    #[error("server stopped")]
    Stopped,
    #[error(transparent)]
    Apply(#[from] ApplyError),
}

/// Why a linearizable read was not possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    #[error("request timed out")]
    Timeout,
    #[error("leader changed")]
    LeaderChanged,
    #[error("too many requests")]
    TooManyRequests,
    #[error("server stopped")]
    Stopped,
}
