//! What the API needs from the member behind it.

pub use super::queue::Queues;
use crate::ids::{ClusterId, MemberId};
use crate::lease::LeaseHandle;
use crate::metrics::Metrics;
use crate::proto::etcdserverpb::ResponseHeader;
use crate::proto::log::command::Request;
use crate::quota::Space;
pub use crate::requests::{Caller, ProposeError, RaftDetails, RaftStatus, ReadError};
use crate::state::View;
use crate::state::machine::Outcome;
use crate::watch::{Permission, WatchHandle};
use std::future::Future;
use std::sync::Arc;

/// A member: proposes writes, tells when a read is safe, and shows its state.
pub trait Backend: Clone + Send + Sync + 'static {
    /// The newest state that has been applied here.
    fn view(&self) -> Arc<View>;

    /// Has a write agreed on and applied, and gives what came of it. It is proposed once and never again: after an error
    /// other than `Apply`, `TooLarge` and `TooManyRequests` it may have happened all the same.
    fn propose(
        &self,
        caller: &Caller,
        request: Request,
    ) -> impl Future<Output = Result<Outcome, ProposeError>> + Send;

    /// A linearizable point: afterwards [`Backend::view`] holds every write that was acknowledged before the call.
    fn read_barrier(&self) -> impl Future<Output = Result<(), ReadError>> + Send;

    /// Has another member elected, if this one leads.
    fn hand_over_leadership(&self, to: MemberId);

    /// Who this is.
    fn identity(&self) -> HeaderIdentity;

    /// Where the log stands.
    fn raft_status(&self) -> RaftStatus;

    /// The way to those who tell of changes.
    fn watches(&self) -> &WatchHandle;

    /// The queues in which callers of this member wait.
    fn queues(&self) -> &Queues;

    /// The way to who counts down leases.
    fn leases(&self) -> &LeaseHandle;

    /// What decides which keys the caller of a stream may watch; nothing if all is permitted.
    fn watch_permission(&self, _caller: &Caller) -> Option<Permission> {
        None
    }

    /// Whether there is room for more.
    fn space(&self) -> &Space;

    /// The limits that the operator has set.
    fn limits(&self) -> Limits;

    /// What this member counts.
    fn metrics(&self) -> &Metrics;

    /// Proposals that wait for their outcome.
    fn proposals_pending(&self) -> usize;

    /// What raft knows of itself and of others, for operators; nothing once the member has stopped.
    fn raft_details(&self) -> impl Future<Output = Option<RaftDetails>> + Send;
}

/// Which member of which cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderIdentity {
    pub cluster_id: ClusterId,
    pub member_id: MemberId,
}

/// What the operator allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub max_request_bytes: usize,
    pub max_txn_ops: usize,
    /// `--strict-reconfig-check`: a change of the members must leave a quorum that is up.
    pub strict_member_changes: bool,
    /// `--max-learners`.
    pub learners_max: u32,
    /// Leases live no shorter, in seconds.
    pub lease_ttl_min: i64,
}

/// The header of a response.
pub(super) fn header(backend: &impl Backend, revision: i64) -> ResponseHeader {
    let identity = backend.identity();
    ResponseHeader {
        cluster_id: identity.cluster_id.get(),
        member_id: identity.member_id.get(),
        revision,
        raft_term: backend.raft_status().term.get(),
    }
}

/// Completes the header that apply has begun: it knows the revision only.
pub(super) fn fill(backend: &impl Backend, header: &mut Option<ResponseHeader>) {
    let revision = match header {
        Some(header) if header.revision != 0 => header.revision,
        _ => backend.view().revision(),
    };
    *header = Some(self::header(backend, revision));
}
