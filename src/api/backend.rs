//! The interface between the API and the member behind it.

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

/// A member: proposes writes, tells when a read is safe, and gives access to its state.
pub trait Backend: Clone + Send + Sync + 'static {
    /// The newest state that has been applied here.
    fn view(&self) -> Arc<View>;

    /// Proposes a write, waits until it is applied, and returns its outcome. It is proposed once and never retried: after an
    /// error other than `Apply`, `TooLarge` and `TooManyRequests` it may still have been applied.
    fn propose(
        &self,
        caller: &Caller,
        request: Request,
    ) -> impl Future<Output = Result<Outcome, ProposeError>> + Send;

    /// A read barrier: afterwards [`Backend::view`] holds every write that was acknowledged before the call.
    fn read_barrier(&self) -> impl Future<Output = Result<(), ReadError>> + Send;

    /// Transfers the leadership to another member, if this one leads.
    fn hand_over_leadership(&self, to: MemberId);

    fn identity(&self) -> HeaderIdentity;

    /// The term, the leader and the indexes of the log.
    fn raft_status(&self) -> RaftStatus;

    /// The hub of watches.
    fn watches(&self) -> &WatchHandle;

    /// The queues of Lock and Election in which callers of this member wait.
    fn queues(&self) -> &Queues;

    /// The lessor.
    fn leases(&self) -> &LeaseHandle;

    /// Decides which keys the caller of a stream may watch; none if all keys are permitted.
    fn watch_permission(&self, _caller: &Caller) -> Option<Permission> {
        None
    }

    /// Decides whether there is space for a write.
    fn space(&self) -> &Space;

    /// The limits that the operator has set.
    fn limits(&self) -> Limits;

    /// The metrics of this member.
    fn metrics(&self) -> &Metrics;

    /// The number of proposals that wait for their outcome.
    fn proposals_pending(&self) -> usize;

    /// Details of raft for operators; none once the member has stopped.
    fn raft_details(&self) -> impl Future<Output = Option<RaftDetails>> + Send;
}

/// The cluster and the member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderIdentity {
    pub cluster_id: ClusterId,
    pub member_id: MemberId,
}

/// The limits that the operator has set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub max_request_bytes: usize,
    pub max_txn_ops: usize,
    /// `--strict-reconfig-check`: a member change must leave a healthy quorum.
    pub strict_member_changes: bool,
    /// `--max-learners`.
    pub learners_max: u32,
    /// The shortest TTL of a lease, in seconds.
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

/// Completes a header from apply, which holds the revision only.
pub(super) fn fill(backend: &impl Backend, header: &mut Option<ResponseHeader>) {
    let revision = match header {
        Some(header) if header.revision != 0 => header.revision,
        _ => backend.view().revision(),
    };
    *header = Some(self::header(backend, revision));
}
