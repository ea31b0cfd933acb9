//! The way upstream: what consensus has to take, so that requests can be sent without knowing who takes them.

use super::reader::Reader;
use super::status::RaftDetails;
use crate::ids::MemberId;
use crate::state::entry::ReadableCommands;
use std::fmt::Debug;
use tokio::sync::oneshot;

/// A request of this member.
#[derive(Debug)]
pub enum NewRequest<'a> {
    /// Commands to be carried out. Whoever sends them has counted them among those that wait.
    Commands(&'a ReadableCommands),
    /// A change of the members, which has an entry of its own.
    MemberChange(&'a ReadableCommands),
    /// A read that waits for its index.
    Read(Reader),
    /// What raft says of itself. Dropped where too many ask.
    Details(oneshot::Sender<RaftDetails>),
    HandOverLeadership(Successor),
}

/// Who is to lead next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Successor {
    /// The voter whose log is furthest.
    Furthest,
    Member(MemberId),
}

/// Who takes requests.
pub trait RequestSink: Debug + Send + Sync {
    /// Adds a request, and wakes nobody: true if [`Self::wake`] is due, which may be called once for many requests.
    fn add(&self, request: NewRequest<'_>) -> bool;

    fn wake(&self);
}
