//! The errors of a request for the client: above all, whether a failed write may have been applied.

use super::connection::ChannelError;
use super::endpoint::EndpointError;
use std::error::Error as StdError;
use std::time::Duration;
use tonic::{Code, Status};

/// Why the outcome of a request is unknown.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    #[error("no answer within {0:?}")]
    Deadline(Duration),
    #[error("{}", .0.message())]
    ConnectionLost(Status),
    /// The server replied with an error that it also returns for requests that may still be applied: Unavailable, Cancelled ...
    #[error("{}", .0.message())]
    Server(Status),
}

/// How a request failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// The request was certainly not sent: it has no effect and can be retried.
    #[error("not sent within {limit:?}: {last}")]
    NotSent { limit: Duration, last: String },
    /// The server's definite error. A write that fails with it was not applied.
    #[error("{}", .0.message())]
    Refused(Status),
    /// A write that may or may not have been applied, now or later. It was not retried.
    #[error("the outcome is unknown: {0}")]
    Unknown(Reason),
    /// A read that got no reply before its deadline.
    #[error("unavailable: {0}")]
    Unavailable(Reason),
}

impl Error {
    /// Whether the request may have been applied although it failed.
    pub fn is_unknown_outcome(&self) -> bool {
        matches!(self, Self::Unknown(_))
    }

    /// The status of the server or the connection, if there is one.
    pub fn status(&self) -> Option<&Status> {
        match self {
            Self::Refused(status)
            | Self::Unknown(Reason::ConnectionLost(status) | Reason::Server(status))
            | Self::Unavailable(Reason::ConnectionLost(status) | Reason::Server(status)) => Some(status),
            _ => None,
        }
    }

    /// The best matching gRPC code.
    pub fn code(&self) -> Code {
        match self {
            Self::Endpoint(_) => Code::InvalidArgument,
            Self::NotSent { .. } => Code::Unavailable,
            Self::Unknown(Reason::Deadline(_)) | Self::Unavailable(Reason::Deadline(_)) => {
                Code::DeadlineExceeded
            }
            _ => self.status().map_or(Code::Unknown, Status::code),
        }
    }
}

/// What a failed attempt tells about the request.
#[derive(Debug)]
pub enum Attempt {
    /// The request was not sent.
    NotSent,
    /// The server definitely refused it.
    Refused(Status),
    /// The outcome is unknown.
    Open(Reason),
}

/// Classifies the error of an attempt.
///
/// A status with a source was made on this side, from a broken connection: whatever code tonic gave it, it is not from the
/// server. Of the server's own codes, only those are definite that etcd returns before a request is proposed or as the result of
/// applying it. Unavailable, for example, also means "leader changed" and "request timed out", after which the request can still
/// be applied.
pub fn sort(status: Status) -> Attempt {
    if let Some(source) = status.source() {
        let not_sent = matches!(source.downcast_ref(), Some(ChannelError::NotSent));
        return if not_sent {
            Attempt::NotSent
        } else {
            Attempt::Open(Reason::ConnectionLost(status))
        };
    }
    match status.code() {
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Unauthenticated => Attempt::Refused(status),
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => Attempt::Open(Reason::Server(status)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn only_definite_answers_are_definite() {
        let table = [
            (Code::InvalidArgument, true),
            (Code::OutOfRange, true),
            (Code::ResourceExhausted, true),
            (Code::FailedPrecondition, true),
            (Code::Unauthenticated, true),
            (Code::Unavailable, false),
            (Code::DeadlineExceeded, false),
            (Code::Unknown, false),
            (Code::Internal, false),
            (Code::Cancelled, false),
        ];
        for (code, definite) in table {
            let sorted = sort(Status::new(code, "said by the server"));
            assert_eq!(matches!(sorted, Attempt::Refused(_)), definite, "{code:?}");
            let mut local = Status::new(code, "made on this side");
            local.set_source(Arc::new(std::io::Error::other("reset")));
            assert!(
                matches!(sort(local), Attempt::Open(Reason::ConnectionLost(_))),
                "{code:?}"
            );
        }
        assert!(matches!(sort(ChannelError::NotSent.into()), Attempt::NotSent));
    }
}
