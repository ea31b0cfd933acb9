//! Client requests that go through the log: proposed with their caller, answered with the response of their kind.

use super::backend::{Backend, fill};
use super::status::{CallError, EtcdError};
use crate::proto::etcdserverpb::alarm_request::AlarmAction;
use crate::proto::etcdserverpb::{
    AlarmResponse, CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse,
    LeaseGrantRequest, LeaseGrantResponse, LeaseRevokeRequest, LeaseRevokeResponse, MemberUpdateResponse,
    PutRequest, PutResponse, ResponseHeader, TxnRequest, TxnResponse,
};
use crate::proto::log::command::Request;
use crate::proto::log::{AlarmCommand, PeerUrls};
use crate::quota::watching::{command, own_alarm};
use crate::requests::Caller;
use crate::state::cost;
use crate::state::machine::Outcome;
use futures_util::FutureExt;
use std::future::Future;

/// A request and the type of its response.
pub(super) trait Proposal {
    type Response;

    fn into_request(self) -> Request;

    /// None if the outcome belongs to another kind of request.
    fn response(outcome: Outcome) -> Option<Self::Response>;

    fn header(response: &mut Self::Response) -> &mut Option<ResponseHeader>;
}

macro_rules! proposals {
    ($($request:ident $kind:ident $outcome:ident $response:ident;)+) => {$(
        impl Proposal for $request {
            type Response = $response;

            fn into_request(self) -> Request {
                Request::$kind(self)
            }

            fn response(outcome: Outcome) -> Option<$response> {
                match outcome {
                    Outcome::$outcome(response) => Some(response),
                    _ => None,
                }
            }

            fn header(response: &mut $response) -> &mut Option<ResponseHeader> {
                &mut response.header
            }
        }
    )+};
}

proposals! {
    PutRequest Put Put PutResponse;
    DeleteRangeRequest DeleteRange DeleteRange DeleteRangeResponse;
    TxnRequest Txn Txn TxnResponse;
    CompactionRequest Compaction Compaction CompactionResponse;
    LeaseGrantRequest LeaseGrant LeaseGrant LeaseGrantResponse;
    LeaseRevokeRequest LeaseRevoke LeaseRevoke LeaseRevokeResponse;
    AlarmCommand Alarm Alarm AlarmResponse;
    PeerUrls PeerUrls MemberUpdate MemberUpdateResponse;
}

/// Executes a request, if there is space for it. Not an `async fn`, whose future would hold the request twice.
pub(super) fn propose<P: Proposal>(
    backend: &impl Backend,
    caller: &Caller,
    request: P,
) -> impl Future<Output = Result<P::Response, CallError>> + Send {
    carry_out(backend, caller, request.into_request()).map(|outcome| {
        let Some(mut response) = P::response(outcome?) else {
            return Err(foreign_outcome());
        };
        fill(backend, P::header(&mut response));
        Ok(response)
    })
}

/// A broken invariant, but no reason to stop the member.
pub(super) fn foreign_outcome() -> CallError {
    tracing::error!("a command came to another command's outcome");
    CallError::Other("the outcome belongs to another command".to_owned())
}

async fn carry_out(backend: &impl Backend, caller: &Caller, request: Request) -> Result<Outcome, CallError> {
    let cost = cost::cost(&request);
    if cost > 0 {
        let view = backend.view();
        if !backend.space().takes(view.applied.usage.live_bytes(), cost) {
            let own = backend.identity().member_id;
            // All members should know, but not once per refused request.
            if own_alarm(&view, own).is_none() {
                // The write is refused even if the alarm cannot be raised, as in etcd.
                let _ = Box::pin(backend.propose(caller, command(own, AlarmAction::Activate))).await;
            }
            return Err(EtcdError::NoSpace.into());
        }
    } else if cost::deletes(&request) && !backend.space().takes_deletion() {
        return Err(EtcdError::NoSpace.into());
    }
    Ok(backend.propose(caller, request).await?)
}
