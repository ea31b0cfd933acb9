//! The lessor's actor, on the network thread: tracks the leader, gets questions answered, and proposes expiries and
//! checkpoints. `questions` decides when a question is answered, and by which member.

use super::forward;
use super::handle::{Answer, AskError, Asked, LeaseHandle, LessorWork, News};
use super::lessor::{Lessor, LessorOptions};
use super::questions::{Answerer, Confirmed, Questions, Round};
use crate::env;
use crate::ids::{MemberId, Term};
use crate::inbox::Wake;
use crate::limits::{LEASE_COMMANDS_IN_FLIGHT, sizes};
use crate::metrics::LeaseMetrics;
use crate::mutants::{self, Mutant};
use crate::peer::caller::PeerCaller;
use crate::proto::log::command::Request;
use crate::proto::log::{LeaseCheckpoint, LeaseCheckpoints, LeaseExpiry};
use crate::proto::peer::LeaseQuestion;
use crate::requests::{Caller, Handle};
use crate::state::leases::LeaseChange;
use crate::state::{View, Views};
use crate::stop::StopSignal;
use crate::storage::directory::Identity;
use crate::storage::state::error::StateError;
use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, WrapFuture};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Interval between checks for due work (etcd: 500 ms).
const TICK: Duration = Duration::from_millis(100);
/// The same interval while leases expire: if many expire in a row, a few are proposed at a time, and no write waits for a
/// burst.
const TICK_WHILE_DUE: Duration = Duration::from_millis(10);
/// The size limit of an expired lease or a checkpoint in a command.
const LEASE_BYTES_MAX: usize = 64;

/// Everything that the actor is started with.
#[derive(Debug)]
pub struct LessorActorOptions {
    pub handle: LeaseHandle,
    pub consensus: Handle,
    pub views: Views,
    pub own: Identity,
    pub caller: PeerCaller,
    pub options: LessorOptions,
    pub stop: StopSignal,
    pub metrics: Arc<LeaseMetrics>,
}

/// The lessor's actor.
pub struct LessorActor {
    lessor: Lessor,
    parts: LessorActorOptions,
    started: env::Instant,
    questions: Questions,
    /// None while a call to the leader is running.
    caller: Option<PeerCaller>,
    commands_under_way: usize,
    /// Something was due since the last tick.
    found_due: bool,
}

impl fmt::Debug for LessorActor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LessorActor")
            .field("leases", &self.lessor.len())
            .finish_non_exhaustive()
    }
}

impl LessorActor {
    /// Loads the leases of the newest view.
    pub fn new(parts: LessorActorOptions) -> Self {
        let caller = parts.caller.clone();
        let mut actor = Self {
            lessor: Lessor::new(parts.options),
            parts,
            started: env::now(),
            questions: Questions::default(),
            caller: Some(caller),
            commands_under_way: 0,
            found_due: false,
        };
        let view = actor.parts.views.load();
        actor.load(&view);
        actor
    }

    fn now_ms(&self) -> u64 {
        (env::now() - self.started).as_millis() as u64
    }

    fn load(&mut self, view: &View) {
        match view.leases().collect::<Result<Vec<_>, StateError>>() {
            Ok(leases) => self.lessor.replace(leases, self.now_ms()),
            Err(error) => self.parts.stop.fail(&error),
        }
    }

    fn tick_after(&self, pause: Duration, context: &mut Context<Self>) {
        let pause = env::sleep(pause).into_actor(self);
        context.spawn(pause.map(|(), actor, context| {
            let work = actor.parts.handle.inbox.take();
            actor.serve(work, true, context);
            let found_due = std::mem::take(&mut actor.found_due);
            actor.tick_after(if found_due { TICK_WHILE_DUE } else { TICK }, context);
        }));
    }

    fn serve(&mut self, work: LessorWork, ticked: bool, context: &mut Context<Self>) {
        self.look_who_leads();
        for news in work.news {
            match news {
                News::Changes(changes) => {
                    for change in changes {
                        self.lessor.apply(change, self.now_ms());
                        match change {
                            LeaseChange::Granted { record, .. } => {
                                self.parts.metrics.granted.inc();
                                self.parts.metrics.ttls.observe(record.ttl as f64);
                            }
                            LeaseChange::Revoked { id } => {
                                self.parts.metrics.revoked.inc();
                                self.questions.release(id);
                            }
                            LeaseChange::Checkpointed { .. } => {}
                        }
                    }
                }
                News::Replaced(view) => {
                    self.load(&view);
                    self.questions.release_all();
                }
                News::Lost => {
                    tracing::warn!(
                        "leases changed faster than they were counted down: each gets all of its time again"
                    );
                    let view = self.parts.views.load();
                    self.load(&view);
                    self.questions.release_all();
                }
            }
        }
        if !work.lists.is_empty() {
            // Once for all callers: there may be a million leases.
            let ids: Arc<[i64]> = self.lessor.ids().into();
            for (list, _) in work.lists {
                // The caller may have stopped waiting.
                let _ = list.send(Arc::clone(&ids));
            }
        }
        self.questions.add(work.asked);
        if ticked {
            self.questions.tick();
            self.give_up_late();
            self.propose_due(context);
        }
        self.begin_round(context);
    }

    fn look_who_leads(&mut self) {
        let leading = self.parts.consensus.status.leading_term();
        if self.lessor.lead(leading, self.now_ms()) {
            tracing::debug!(?leading, leases = self.lessor.len(), "lease leadership");
            self.questions.release_all();
        }
    }

    fn give_up_late(&mut self) {
        let error = if self.leader() == MemberId(0) {
            AskError::NoLeader
        } else {
            AskError::Timeout
        };
        self.questions.give_up_late(env::now(), error);
    }

    fn leader(&self) -> MemberId {
        self.parts.consensus.status().leader
    }

    /// Starts getting the waiting questions answered, here or by the leader.
    fn begin_round(&mut self, context: &mut Context<Self>) {
        let leader = self.leader();
        let answerer = if self.lessor.leading().is_some() {
            Answerer::Own
        } else if leader == MemberId(0) || leader == self.parts.own.member {
            Answerer::Nobody
        } else {
            Answerer::Leader
        };
        match self.questions.begin_round(answerer) {
            Round::Nothing => {}
            Round::Confirm(asked) => self.confirm(asked, context),
            Round::Forward(asked) => self.forward(leader, asked, context),
        }
    }

    fn confirm(&self, asked: Vec<Asked>, context: &mut Context<Self>) {
        let consensus = self.parts.consensus.clone();
        let confirm = async move {
            let confirmed =
                mutants::active(Mutant::LeaseRenewedWithoutQuorum) || consensus.read_barrier().await.is_ok();
            (asked, confirmed)
        };
        context.spawn(
            confirm
                .into_actor(self)
                .map(|(asked, confirmed), actor, context| {
                    actor.look_who_leads();
                    if confirmed && let Some(term) = actor.lessor.leading() {
                        actor.answer(asked, term, context);
                    } else {
                        actor.questions.not_confirmed(asked);
                    }
                    actor.begin_round(context);
                }),
        );
    }

    /// Answers questions after a quorum has confirmed that this member leads.
    fn answer(&mut self, asked: Vec<Asked>, term: Term, context: &mut Context<Self>) {
        let now_ms = self.now_ms();
        let Confirmed {
            renewed,
            to_tell,
            to_clear,
        } = self.questions.confirmed(asked, &mut self.lessor, now_ms);
        self.parts.metrics.renewed.inc_by(renewed);
        for asked in to_tell {
            self.tell(asked, now_ms);
        }
        if !to_clear.is_empty() {
            self.take_back(to_clear, term, context);
        }
    }

    fn tell(&self, asked: Asked, now_ms: u64) {
        let Some(remaining) = self.lessor.remaining(asked.question.id, now_ms) else {
            return asked.finish(Ok(Answer::default()));
        };
        let mut answer = Answer {
            found: true,
            ttl: remaining.ttl,
            granted_ttl: remaining.granted_ttl,
            ..Answer::default()
        };
        if !asked.question.keys {
            return asked.finish(Ok(answer));
        }
        let (view, stop) = (self.parts.views.load(), self.parts.stop.clone());
        env::spawn_local(async move {
            match keys(&view, asked.question.id).await {
                Ok(keys) => answer.keys = keys,
                Err(error) => return stop.fail(&error),
            }
            asked.finish(Ok(answer));
        });
    }

    /// Clears checkpoints through the log, so that their leases can be kept alive.
    fn take_back(&mut self, checkpoints: Vec<LeaseCheckpoint>, term: Term, context: &mut Context<Self>) {
        let ids: Vec<i64> = checkpoints.iter().map(|checkpoint| checkpoint.id).collect();
        let request = Request::LeaseCheckpoints(LeaseCheckpoints {
            term: term.get(),
            checkpoints,
        });
        let consensus = self.parts.consensus.clone();
        let propose = async move { consensus.propose_own(request).await };
        context.spawn(propose.into_actor(self).map(move |outcome, actor, context| {
            if let Err(error) = outcome {
                tracing::debug!(%error, "a checkpoint of leases was not taken back");
            }
            // The lease changes in the inbox come first: they were there before the outcome.
            let work = actor.parts.handle.inbox.take();
            actor.serve(work, false, context);
            for id in ids {
                actor.lessor.checkpoint_cleared(id);
                actor.questions.put_off_held(id);
            }
        }));
    }

    fn forward(&mut self, leader: MemberId, asked: Vec<Asked>, context: &mut Context<Self>) {
        let mut caller = self.caller.take().expect("one round to the leader at a time");
        let questions: Vec<LeaseQuestion> = asked.iter().map(|asked| asked.question).collect();
        let ask = async move {
            let answers = forward::ask(&mut caller, leader, questions).await;
            (caller, asked, answers)
        };
        context.spawn(
            ask.into_actor(self)
                .map(|(caller, asked, answers), actor, context| {
                    actor.caller = Some(caller);
                    match answers {
                        Ok(answers) => actor.questions.answered(asked, answers),
                        Err(error) => {
                            tracing::debug!(%error, "the leader did not answer questions about leases");
                            actor.questions.not_answered(asked);
                        }
                    }
                    actor.look_who_leads();
                    actor.begin_round(context);
                }),
        );
    }

    /// Proposes what is due. Proposals that fail are due again later.
    fn propose_due(&mut self, context: &mut Context<Self>) {
        let Some(term) = self.lessor.leading() else { return };
        let (now_ms, term) = (self.now_ms(), term.get());
        let fitting = self.parts.consensus.request_bytes_max / LEASE_BYTES_MAX;
        let count_max = sizes().leases_per_command.min(fitting).max(1);
        while self.commands_under_way < LEASE_COMMANDS_IN_FLIGHT {
            let leases = self.lessor.expired(now_ms, count_max);
            if leases.is_empty() {
                break;
            }
            tracing::debug!(count = leases.len(), "leases expired");
            let count = leases.len() as u64;
            self.propose(Request::LeaseExpiry(LeaseExpiry { term, leases }), count, context);
        }
        while self.commands_under_way < LEASE_COMMANDS_IN_FLIGHT {
            let checkpoints = self.lessor.due_checkpoints(now_ms, count_max);
            if checkpoints.is_empty() {
                break;
            }
            let checkpoints = LeaseCheckpoints { term, checkpoints };
            self.propose(Request::LeaseCheckpoints(checkpoints), 0, context);
        }
    }

    /// Proposes a command that expires this many leases.
    fn propose(&mut self, request: Request, expired: u64, context: &mut Context<Self>) {
        self.commands_under_way += 1;
        self.found_due = true;
        let consensus = self.parts.consensus.clone();
        let propose = async move {
            if mutants::active(Mutant::LeaseExpiryAdmitted) {
                consensus.propose(&Caller::default(), request).await
            } else {
                // Not subject to the clients' limits: leases must expire in time even while clients' writes are refused.
                consensus.propose_own(request).await
            }
        };
        context.spawn(propose.into_actor(self).map(move |outcome, actor, context| {
            actor.commands_under_way -= 1;
            match outcome {
                Ok(_) => {
                    actor.parts.metrics.expired.inc_by(expired);
                    actor.propose_due(context);
                }
                Err(error) => tracing::debug!(%error, "a command of the lessor did not come through"),
            }
        }));
    }
}

/// The keys that a lease holds. Other tasks of the thread run in between.
async fn keys(view: &View, id: i64) -> Result<Vec<bytes::Bytes>, StateError> {
    let mut keys = vec![];
    for key in view.lease_keys(id) {
        keys.push(key?);
        if keys.len() % sizes().scan_slice_keys == 0 {
            env::yield_now().await;
        }
    }
    Ok(keys)
}

impl Actor for LessorActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        let inbox = Arc::clone(&self.parts.handle.inbox);
        inbox.set_owner(context.address().recipient());
        self.tick_after(TICK, context);
    }
}

impl Handler<Wake> for LessorActor {
    type Result = ();

    fn handle(&mut self, _: Wake, context: &mut Context<Self>) {
        let work = self.parts.handle.inbox.take();
        self.serve(work, false, context);
    }
}
