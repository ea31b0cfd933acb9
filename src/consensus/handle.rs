//! What the rest of a member may ask of consensus, from any thread: propose a command, wait for a linearizable point,
//! see who leads.

use super::delivery::Deliveries;
use super::inbox::Incoming;
use super::waiters::{Waiters, WaitingMax};
use crate::bound::{Admitted, Bound};
use crate::env;
use crate::ids::{LogIndex, MemberId, Term};
use crate::inbox::Inbox;
use crate::limits::{DETAILS_WAITING_MAX, PROPOSALS_BYTES_MAX, REQUEST_HEADER_BYTES, sizes};
use crate::metrics::ConsensusMetrics;
use crate::mutants::{self, Mutant};
use crate::proto::log::{Command, command};
use crate::state::entry::ReadableCommands;
use crate::state::{ApplyError, Outcome, Reply};
use prost::Message;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::oneshot;

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

/// Why a linearizable point was not reached.
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

/// Whether a request is small enough, with what etcd puts around it in its log.
pub fn check_size(request: &command::Request, bytes_max: usize) -> Result<(), ProposeError> {
    if request.encoded_len() + REQUEST_HEADER_BYTES > bytes_max {
        return Err(ProposeError::TooLarge);
    }
    Ok(())
}

/// Raft as an observer sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RaftStatus {
    /// Not yet after a start, before enough other members have said what they remember of this one.
    pub takes_part: bool,
    /// 0 where there is none.
    pub leader: MemberId,
    pub term: Term,
    pub commit_index: LogIndex,
    pub last_index: LogIndex,
    pub applied_index: LogIndex,
}

/// What raft says of itself beside its status, for operators.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RaftDetails {
    /// 0 if this member has not voted in its term.
    pub vote: MemberId,
    /// As etcd's raft names it: `StateLeader`.
    pub role: &'static str,
    /// Who is to lead next; 0 where nobody is.
    pub transferee: MemberId,
    /// How far the others are; empty on members that do not lead.
    pub progress: Vec<MemberProgress>,
}

/// How far a member is in its leader's eyes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberProgress {
    pub id: MemberId,
    pub matched: LogIndex,
    pub next: LogIndex,
    /// As etcd's raft names it: `StateReplicate`.
    pub state: &'static str,
}

/// The status that consensus and the applier write and everybody reads.
#[derive(Debug, Default)]
pub struct SharedStatus {
    /// Enough other members have said what they remember of this one.
    pub takes_part: AtomicBool,
    pub leader: AtomicU64,
    pub is_leader: AtomicBool,
    pub term: AtomicU64,
    /// The term in which this member leads; 0 while it does not.
    pub leading_term: AtomicU64,
    pub commit_index: AtomicU64,
    pub last_index: AtomicU64,
    pub applied_index: AtomicU64,
}

impl SharedStatus {
    /// The term in which this member leads, as far as it knows.
    pub fn leading_term(&self) -> Option<Term> {
        let term = self.leading_term.load(Ordering::Acquire);
        (term != 0).then_some(Term(term))
    }

    pub fn load(&self) -> RaftStatus {
        RaftStatus {
            takes_part: self.takes_part.load(Ordering::Acquire),
            leader: MemberId(self.leader.load(Ordering::Acquire)),
            term: Term(self.term.load(Ordering::Acquire)),
            commit_index: LogIndex(self.commit_index.load(Ordering::Acquire)),
            last_index: LogIndex(self.last_index.load(Ordering::Acquire)),
            applied_index: LogIndex(self.applied_index.load(Ordering::Acquire)),
        }
    }
}

/// The way into consensus. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(crate) inbox: Arc<Inbox<Incoming>>,
    pub(crate) waiters: Arc<Waiters>,
    pub(crate) deliveries: Arc<Deliveries>,
    pub(crate) status: Arc<SharedStatus>,
    /// Tells this process's commands from those of others, and of the process before it.
    pub(crate) origin: u64,
    pub(crate) request_timeout: Duration,
    pub(crate) request_bytes_max: usize,
    /// Reads that wait, wherever they are.
    pub(crate) reads: Bound,
    pub(crate) metrics: Arc<ConsensusMetrics>,
}

impl Handle {
    /// Has a command carried out by the cluster. No error but those named at [`ProposeError`] says that it was not.
    pub async fn propose(&self, request: command::Request) -> Result<Outcome, ProposeError> {
        check_size(&request, self.request_bytes_max)?;
        let max = WaitingMax {
            commands: sizes().proposals_waiting_max,
            bytes: PROPOSALS_BYTES_MAX,
        };
        self.propose_within(request, max).await
    }

    /// The same for what the member does by itself: the ends of leases and the like are not kept back by clients' load.
    /// Whoever calls it has few under way.
    pub async fn propose_own(&self, request: command::Request) -> Result<Outcome, ProposeError> {
        self.propose_within(request, WaitingMax::NONE).await
    }

    async fn propose_within(
        &self,
        request: command::Request,
        max: WaitingMax,
    ) -> Result<Outcome, ProposeError> {
        let mut command = Command {
            origin: self.origin,
            id: 0,
            request: Some(request),
        };
        let deadline = env::now() + self.request_timeout;
        let (id, answer) = self
            .waiters
            .register(deadline, command.encoded_len(), max)
            .ok_or(ProposeError::TooManyRequests)?;
        command.id = id;
        // Outside the inbox's lock.
        let Ok(commands) = ReadableCommands::of(&command) else {
            drop(self.waiters.complete(vec![Reply {
                id,
                outcome: Err(ApplyError::Unreadable),
            }]));
            return Err(ApplyError::Unreadable.into());
        };
        drop(command);
        self.add(|incoming| incoming.commands.push(&commands));
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

    /// Waits until this member has applied everything that was acknowledged anywhere before the call.
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
        self.add(|incoming| incoming.reads.push(reader));
        answer.await.unwrap_or(Err(ReadError::Stopped))
    }

    pub fn status(&self) -> RaftStatus {
        self.status.load()
    }

    /// What raft says of itself; nothing once it has stopped, or while too many ask.
    pub async fn details(&self) -> Option<RaftDetails> {
        let (asked, answer) = oneshot::channel();
        self.add(|incoming| {
            if incoming.details_asked.len() < DETAILS_WAITING_MAX {
                incoming.details_asked.push(asked);
            }
        });
        answer.await.ok()
    }

    /// How many commands wait for their outcome.
    pub fn proposals_pending(&self) -> usize {
        self.waiters.waiting()
    }

    fn add<R>(&self, change: impl FnOnce(&mut Incoming) -> R) -> R {
        let (result, wake_due) = self.inbox.add_quietly(change);
        if wake_due {
            self.deliveries.request_wake();
        }
        result
    }
}

/// A read that waits for its index.
#[derive(Debug)]
pub struct Reader {
    pub(crate) answer: oneshot::Sender<Result<(), ReadError>>,
    pub(crate) deadline: env::Instant,
    /// Counts it until it is answered, in whichever queue it waits.
    pub(crate) _admitted: Admitted,
}

impl Reader {
    /// The caller has gone.
    pub fn is_abandoned(&self) -> bool {
        self.answer.is_closed()
    }

    pub fn finish(self, outcome: Result<(), ReadError>) {
        // Whoever asked may have gone.
        let _ = self.answer.send(outcome);
    }
}
