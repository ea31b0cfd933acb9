//! The Lease service. Grants and revocations go through the log; only the leader knows the remaining TTL of a lease.
//!
//! Mirrors etcd's server/etcdserver/api/v3rpc/lease.go. Unlike etcd's, a keep-alive stream processes many requests at a time; the
//! replies keep their order.

use super::backend::{Backend, header};
use super::body::{Body, frame};
use super::grpc::{Reading, RequestBody, Requests, requires_leader};
use super::proposal::propose;
use super::status::{CallError, EtcdError};
use crate::lease::{AskError, Question, TTL_MAX};
use crate::limits::LEASE_STREAM_QUESTIONS_MAX;
use crate::proto::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseLeasesRequest,
    LeaseLeasesResponse, LeaseRevokeRequest, LeaseStatus, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
};
use crate::requests::Caller;
use crate::watch::HubStream;
use ::http::HeaderMap;
use bytes::Bytes;
use futures_util::stream::poll_fn;
use futures_util::{Stream, StreamExt};
use std::task::Poll;
use tonic::Status;

pub async fn grant(
    backend: &impl Backend,
    caller: &Caller,
    request: LeaseGrantRequest,
) -> Result<Body, Status> {
    Ok(Body::message(&granted(backend, caller, request).await?))
}

/// Grants a lease. The server chooses the id if the client does not.
pub(super) async fn granted(
    backend: &impl Backend,
    caller: &Caller,
    mut request: LeaseGrantRequest,
) -> Result<LeaseGrantResponse, CallError> {
    if request.ttl > TTL_MAX {
        return Err(EtcdError::LeaseTtlTooLarge.into());
    }
    request.ttl = request.ttl.max(backend.limits().lease_ttl_min);
    let chosen_here = request.id == 0;
    loop {
        if chosen_here {
            request.id = backend.leases().next_id();
        }
        match propose(backend, caller, request).await {
            // Nothing has happened, and the client did not choose this id.
            Err(CallError::Known(EtcdError::LeaseExists)) if chosen_here => {}
            outcome => return outcome,
        }
    }
}

pub async fn revoke(
    backend: &impl Backend,
    caller: &Caller,
    request: LeaseRevokeRequest,
) -> Result<Body, Status> {
    Ok(Body::message(&propose(backend, caller, request).await?))
}

pub async fn time_to_live(backend: &impl Backend, request: LeaseTimeToLiveRequest) -> Result<Body, Status> {
    let question = Question {
        id: request.id,
        renew: false,
        keys: request.keys,
    };
    let answer = backend.leases().ask(question).await.map_err(CallError::from)?;
    Ok(Body::message(&LeaseTimeToLiveResponse {
        header: Some(header(backend, backend.view().revision())),
        id: request.id,
        ttl: if answer.found { answer.ttl } else { -1 },
        granted_ttl: answer.granted_ttl,
        keys: answer.keys,
    }))
}

pub async fn leases(backend: &impl Backend, _: LeaseLeasesRequest) -> Result<Body, Status> {
    let ids = backend.leases().list().await.map_err(CallError::from)?;
    Ok(Body::message(&LeaseLeasesResponse {
        header: Some(header(backend, backend.view().revision())),
        leases: ids.iter().map(|id| LeaseStatus { id: *id }).collect(),
    }))
}

/// Replies to keep-alives until the client has no more. `headers` are those of the call.
pub fn keep_alive<B: Backend>(
    backend: &B,
    headers: &HeaderMap,
    body: impl RequestBody + 'static,
    reading: &Reading,
) -> Body {
    let end = HubStream::open(backend.watches(), requires_leader(headers));
    let questions = questions(Requests::new(body, reading.clone()));
    let backend = backend.clone();
    let answers = questions
        .map(move |question| {
            let backend = backend.clone();
            async move { renew(&backend, question?).await }
        })
        .buffered(LEASE_STREAM_QUESTIONS_MAX);
    let mut answers = Box::pin(answers);
    Body::messages(Box::pin(poll_fn(move |context| {
        if let Poll::Ready(answer) = answers.as_mut().poll_next(context) {
            return Poll::Ready(answer);
        }
        // Nothing is pending, or what is pending does not finish: the client gets the reason.
        super::watch::poll_end(&end, context)
    })))
}

fn questions(
    requests: Requests<impl RequestBody>,
) -> impl Stream<Item = Result<LeaseKeepAliveRequest, Status>> + Send {
    futures_util::stream::unfold(Some(requests), |requests| async {
        let mut requests = requests?;
        match requests.next().await {
            Ok(Some(request)) => Some((Ok(request), Some(requests))),
            Ok(None) => None,
            Err(status) => Some((Err(status), None)),
        }
    })
}

async fn renew(backend: &impl Backend, request: LeaseKeepAliveRequest) -> Result<Bytes, Status> {
    // Before the question: a lease that expires at the next revision was kept alive before that revision, not after.
    let header = header(backend, backend.view().revision());
    let question = Question {
        id: request.id,
        renew: true,
        keys: false,
    };
    let answer = backend.leases().ask(question).await.map_err(CallError::from)?;
    frame(&LeaseKeepAliveResponse {
        header: Some(header),
        id: request.id,
        ttl: answer.ttl,
    })
}

impl From<AskError> for CallError {
    fn from(error: AskError) -> Self {
        Self::Known(match error {
            AskError::NoLeader => EtcdError::NoLeader,
            // Clients never see this error: only members get it.
            AskError::NotLeading => EtcdError::LeaderChanged,
            AskError::Timeout => EtcdError::Timeout,
            AskError::TooManyRequests => EtcdError::TooManyRequests,
            AskError::Stopped => EtcdError::Stopped,
        })
    }
}
