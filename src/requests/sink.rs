//! The interface through which requests reach consensus, so that `requests` does not depend on it.

use super::reader::Reader;
use super::status::RaftDetails;
use crate::ids::MemberId;
use crate::state::entry::ReadableCommands;
use std::fmt::Debug;
use tokio::sync::oneshot;

/// A request of this member.
#[derive(Debug)]
pub enum NewRequest<'a> {
    /// Commands to carry out. The sender has counted them among the waiting ones.
    Commands(&'a ReadableCommands),
    /// A membership change, which gets an entry of its own.
    MemberChange(&'a ReadableCommands),
    /// A read that waits for its read index.
    Read(Reader),
    /// A request for raft's details. Dropped if too many callers ask.
    Details(oneshot::Sender<RaftDetails>),
    HandOverLeadership(Successor),
}

/// The member that is to lead next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Successor {
    /// The voter with the most complete log; members heard recently come first.
    Furthest,
    Member(MemberId),
}

/// Takes requests.
pub trait RequestSink: Debug + Send + Sync {
    /// Adds a request without waking the actor. Returns true if [`Self::wake`] is due; one call serves many requests.
    fn add(&self, request: NewRequest<'_>) -> bool;

    fn wake(&self);
}
