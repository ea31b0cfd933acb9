//! The interface of consensus to the rest of a member, usable from any thread: propose a command, wait for a linearizable
//! read, ask for the leader.

use super::caller::Caller;
use super::deliveries::Deliveries;
use super::errors::{ProposeError, ReadError};
use super::reader::Reader;
use super::sink::{NewRequest, RequestSink, Successor};
use super::status::{RaftDetails, RaftStatus, SharedStatus};
use super::waiters::{Waiters, WaitingMax};
use crate::bound::Bound;
use crate::env;
use crate::limits::{PROPOSALS_BYTES_MAX, REQUEST_HEADER_BYTES, sizes};
use crate::metrics::ConsensusMetrics;
use crate::mutants::{self, Mutant};
use crate::proto::log::{Command, command};
use crate::state::entry::ReadableCommands;
use crate::state::{ApplyError, Outcome, Reply};
use prost::Message;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// Whether a request is small enough, including what etcd adds to it in its log.
pub fn check_size(request: &command::Request, bytes_max: usize) -> Result<(), ProposeError> {
    if request.encoded_len() + REQUEST_HEADER_BYTES > bytes_max {
        return Err(ProposeError::TooLarge);
    }
    Ok(())
}

/// The interface of consensus. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(crate) sink: Arc<dyn RequestSink>,
    pub(crate) waiters: Arc<Waiters>,
    pub(crate) deliveries: Arc<Deliveries>,
    pub(crate) status: Arc<SharedStatus>,
    /// Distinguishes this process's commands from those of other members and of earlier processes of this member.
    pub(crate) origin: u64,
    pub(crate) request_timeout: Duration,
    pub(crate) request_bytes_max: usize,
    /// Counts the reads that wait, in whichever queue they are.
    pub(crate) reads: Bound,
    pub(crate) metrics: Arc<ConsensusMetrics>,
}

impl Handle {
    /// Has the cluster carry out a command. Only the errors named at [`ProposeError`] say that it was not carried out.
    pub async fn propose(&self, caller: &Caller, request: command::Request) -> Result<Outcome, ProposeError> {
        check_size(&request, self.request_bytes_max)?;
        let max = WaitingMax {
            commands: sizes().proposals_waiting_max,
            bytes: PROPOSALS_BYTES_MAX,
        };
        self.propose_within(request, caller, max).await
    }

    /// The same for the member's own commands, such as the expiry of leases, which are not limited by the clients' load. The
    /// caller keeps their number small.
    pub async fn propose_own(&self, request: command::Request) -> Result<Outcome, ProposeError> {
        self.propose_within(request, &Caller::default(), WaitingMax::NONE)
            .await
    }

    async fn propose_within(
        &self,
        request: command::Request,
        caller: &Caller,
        max: WaitingMax,
    ) -> Result<Outcome, ProposeError> {
        let mut command = Command {
            origin: self.origin,
            id: 0,
            caller: caller.to_wire(),
            request: Some(request),
        };
        let deadline = env::now() + self.request_timeout;
        let (id, answer) = self
            .waiters
            .register(deadline, command.encoded_len(), max)
            .ok_or(ProposeError::TooManyRequests)?;
        command.id = id;
        // Encoded here, so that the inbox is not locked meanwhile.
        let Ok(commands) = ReadableCommands::of(&command) else {
            drop(self.waiters.complete(vec![Reply {
                id,
                outcome: Err(ApplyError::Unreadable),
            }]));
            return Err(ApplyError::Unreadable.into());
        };
        let is_member_change = matches!(command.request, Some(command::Request::MemberChange(_)));
        drop(command);
        self.send(if is_member_change {
            NewRequest::MemberChange(&commands)
        } else {
            NewRequest::Commands(&commands)
        });
        drop(commands);
        let outcome = answer.await.unwrap_or(Err(ProposeError::Stopped));
        if matches!(
            outcome,
            Err(ProposeError::Timeout | ProposeError::TimeoutLeaderFailure)
        ) {
            self.metrics.failed_proposals.inc();
        }
        outcome
    }

    /// Waits until this member has applied everything that any member acknowledged before the call.
    pub async fn read_barrier(&self) -> Result<(), ReadError> {
        if mutants::active(Mutant::ReadWithoutIndex) {
            return Ok(());
        }
        let admitted = self.reads.admit().ok_or(ReadError::TooManyRequests)?;
        let (sender, answer) = oneshot::channel();
        let reader = Reader {
            answer: sender,
            deadline: env::now() + self.request_timeout,
            _admitted: admitted,
        };
        self.send(NewRequest::Read(reader));
        answer.await.unwrap_or(Err(ReadError::Stopped))
    }

    pub fn status(&self) -> RaftStatus {
        self.status.load()
    }

    /// Raft's details; none if consensus has stopped, or if too many callers ask.
    pub async fn details(&self) -> Option<RaftDetails> {
        let (asked, answer) = oneshot::channel();
        self.send(NewRequest::Details(asked));
        answer.await.ok()
    }

    /// The number of commands that wait for their outcome.
    pub fn proposals_pending(&self) -> usize {
        self.waiters.waiting()
    }

    /// Transfers leadership to another member if this one leads.
    pub fn hand_over_leadership(&self, to: Successor) {
        self.send(NewRequest::HandOverLeadership(to));
    }

    fn send(&self, request: NewRequest<'_>) {
        if self.sink.add(request) {
            self.deliveries.request_wake();
        }
    }
}
