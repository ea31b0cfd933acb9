//! The checker: an actor on a thread of its own, with the lowest priority. It computes hashes for its callers, and compares
//! this member with the others while it leads.

use super::ask::ask_others;
use super::compare::compare_twice;
use super::handle::{HashHandle, HashTask, KnownHash};
use super::scrub::{self, ScrubOptions};
use super::verdict::{self, Patience, Verdict};
use crate::env;
use crate::ids::{LogIndex, MemberId};
use crate::inbox::Wake;
use crate::limits::sizes;
use crate::mutants::{self, Mutant};
use crate::peer::caller::PeerCaller;
use crate::proto::etcdserverpb::alarm_request::AlarmAction;
use crate::proto::etcdserverpb::{AlarmRequest, AlarmType};
use crate::proto::log::AlarmCommand;
use crate::proto::log::command::Request;
use crate::proto::peer::HashQuestion;
use crate::proto::peer::state_question::Question;
use crate::requests::Handle;
use crate::state::mvcc::MvccError;
use crate::state::mvcc::range::Progress;
use crate::storage::directory::Identity;
use crate::storage::log::LogDatabase;
use actix::{Actor, AsyncContext, Context, Handler, WrapFuture};
use std::time::Duration;

/// Interval between comparisons of digests, and of hashes while a verdict is undecided.
const DIGEST_INTERVAL: Duration = Duration::from_secs(1);
/// A digest is in memory: a member that has not answered by then is asked again a second later.
const DIGEST_TIMEOUT: Duration = Duration::from_secs(2);

/// Work for the checker.
#[derive(Debug, Default)]
pub struct CheckWork {
    pub hashes: Vec<HashTask>,
}

/// Which comparisons are made besides that of digests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct CheckOptions {
    /// Interval between comparisons of hashes; none if zero (`--corrupt-check-time`).
    pub hashes_every: Duration,
    /// Interval between comparisons of hashes at the compact revision; none if zero (`--compact-hash-check-time`, with the
    /// feature CompactHashCheck).
    pub compact_hashes_every: Duration,
    pub scrub: ScrubOptions,
}

/// Everything that a checker uses. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Checker {
    pub own: Identity,
    pub hashes: HashHandle,
    pub caller: PeerCaller,
    pub consensus: Handle,
    pub log: LogDatabase,
    pub options: CheckOptions,
}

impl Actor for Checker {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        self.hashes.inbox.set_owner(context.address().recipient());
        let CheckOptions {
            hashes_every,
            compact_hashes_every,
            scrub,
        } = self.options;
        env::spawn_local(self.clone().compare_digests());
        if !hashes_every.is_zero() {
            tracing::info!(local_member_id = %self.own.member, interval = ?hashes_every, "enabled corruption checking");
            env::spawn_local(self.clone().compare_hashes(hashes_every));
        }
        if !compact_hashes_every.is_zero() {
            tracing::info!(
                local_member_id = %self.own.member, interval = ?compact_hashes_every,
                "enabled compact hash corruption checking"
            );
            env::spawn_local(self.clone().compare_compact_hashes(compact_hashes_every));
        }
        if scrub.bytes_per_second > 0 {
            let checker = self.clone();
            env::spawn_local(async move {
                scrub::run(&checker.hashes.views, &checker.log, scrub, async |damage| {
                    tracing::error!(
                        local_member_id = %checker.own.member, keyspace = damage.keyspace,
                        path = %damage.path.display(), offset = damage.offset, reason = damage.what,
                        "found damaged data on disk: replace the disk, remove this member from the cluster, and add it again"
                    );
                    checker.raise(checker.own.member).await;
                })
                .await;
            });
        }
    }
}

impl Handler<Wake> for Checker {
    type Result = ();

    fn handle(&mut self, _: Wake, context: &mut Context<Self>) {
        let work = self.hashes.inbox.take();
        let views = self.hashes.views.clone();
        let run = async move {
            for HashTask { question, answer } in work.hashes {
                if answer.is_closed() {
                    continue;
                }
                // The caller may have stopped waiting.
                let _ = answer.send(hash(&views, question).await);
            }
        };
        context.wait(run.into_actor(self));
    }
}

async fn hash(views: &crate::state::Views, mut question: HashQuestion) -> Result<KnownHash, MvccError> {
    if mutants::active(Mutant::HashesComparedApart) {
        question.revision = 0;
    }
    let view = views.load();
    let mut scan = view.hash_scan_as_compacted(question.revision, question.compact_revision)?;
    while scan.advance(sizes().scan_slice_keys)? == Progress::More {
        env::yield_now().await;
    }
    let hashed = scan.into_hash();
    Ok(KnownHash {
        hash: hashed.hash,
        compact_revision: hashed.compact_revision,
        revision: hashed.hash_revision,
    })
}

/// The result of a comparison of hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Looked {
    /// All members could be compared and hold the same.
    AllSame,
    /// The members differ, and the missing answers decide which are right.
    Undecided,
    Other,
}

impl Checker {
    fn leads(&self) -> bool {
        self.consensus.status.leading_term().is_some()
    }

    fn members(&self) -> usize {
        self.hashes.views.load().cluster.members.len()
    }

    /// Compares the digests of all members while this member leads. Looks at the index that this member had reached a moment
    /// ago, which the others have reached by now.
    async fn compare_digests(self) {
        let own = self.own.member;
        let mut caller = self.caller.clone();
        let mut noted = LogIndex(0);
        let mut found_same = LogIndex(0);
        let mut patience = Patience::default();
        loop {
            env::sleep(DIGEST_INTERVAL).await;
            let index = std::mem::replace(&mut noted, self.hashes.digests.newest());
            if !self.leads() {
                patience = Patience::default();
                continue;
            }
            if index == found_same {
                continue;
            }
            let Some(digest) = self.hashes.digests.after(index) else {
                continue;
            };
            let question = Question::DigestAt(index.0);
            let mut sums = vec![(own, digest)];
            for (member, answer) in ask_others(&mut caller, question, DIGEST_TIMEOUT).await {
                if let Ok(answer) = answer
                    && let Some(digest) = answer.digest
                {
                    sums.push((member, digest));
                }
            }
            let judged = patience.hear(verdict::judge(&sums, self.members()));
            if judged == Verdict::Same {
                if sums.len() == self.members() {
                    found_same = index;
                }
                continue;
            }
            tracing::error!(
                local_member_id = %own, %index, digests = ?sums, "members have applied the same log to different ends"
            );
            self.report(judged).await;
        }
    }

    async fn compare_hashes(self, every: Duration) {
        let mut caller = self.caller.clone();
        let mut patience = Patience::default();
        let mut wait = every;
        loop {
            env::sleep(std::mem::replace(&mut wait, every)).await;
            if !self.leads() {
                patience = Patience::default();
                continue;
            }
            let question = HashQuestion {
                revision: 0,
                compact_revision: -1,
            };
            if self.compare_once(&mut caller, question, &mut patience).await == Looked::Undecided {
                wait = every.min(DIGEST_INTERVAL);
            }
        }
    }

    async fn compare_compact_hashes(self, every: Duration) {
        let mut caller = self.caller.clone();
        let mut found_same = -1;
        let mut patience = Patience::default();
        let mut wait = every;
        loop {
            env::sleep(std::mem::replace(&mut wait, every)).await;
            if !self.leads() {
                patience = Patience::default();
                continue;
            }
            let compact_revision = self.hashes.views.load().compact_revision();
            if compact_revision <= found_same {
                continue;
            }
            let question = HashQuestion {
                revision: compact_revision,
                compact_revision,
            };
            match self.compare_once(&mut caller, question, &mut patience).await {
                Looked::AllSame => found_same = compact_revision,
                Looked::Undecided => wait = every.min(DIGEST_INTERVAL),
                Looked::Other => {}
            }
        }
    }

    async fn compare_once(
        &self,
        caller: &mut PeerCaller,
        question: HashQuestion,
        patience: &mut Patience,
    ) -> Looked {
        let own = self.own.member;
        let within = self.consensus.request_timeout;
        let comparisons = match compare_twice(own, &self.hashes, caller, question, within).await {
            Ok(comparisons) => comparisons,
            Err(error) => {
                tracing::warn!(local_member_id = %own, %error, "failed to check hash KV");
                return Looked::Other;
            }
        };
        // A member that still leads has everything that the others have.
        if self.consensus.read_barrier().await.is_err() || !self.leads() {
            return Looked::Other;
        }
        let mut all_same = true;
        let mut undecided = false;
        for compared in &comparisons {
            let view = self.hashes.views.load();
            let judged = compared.verdict(self.members(), view.revision(), view.compact_revision());
            if judged != Verdict::Same {
                tracing::error!(
                    local_member_id = %own, revision = compared.own.revision,
                    compact_revision = compared.own.compact_revision, hashes = ?compared.sums, verdict = ?judged,
                    "members hold different data"
                );
            }
            all_same &= judged == Verdict::Same && compared.sums.len() == self.members();
            undecided |= judged == Verdict::Undecided;
            self.report(judged).await;
        }
        tracing::info!(local_member_id = %own, all_same, undecided, "finished peer corruption check");
        if undecided {
            self.report(patience.hear(Verdict::Undecided)).await;
            return Looked::Undecided;
        }
        *patience = Patience::default();
        if all_same { Looked::AllSame } else { Looked::Other }
    }

    async fn report(&self, verdict: Verdict) {
        if mutants::active(Mutant::CorruptionNotReported) {
            return;
        }
        match verdict {
            Verdict::Same | Verdict::Undecided => {}
            Verdict::AtFault(members) => {
                for member in members {
                    self.raise(member).await;
                }
            }
            // Member 0 stands for the whole cluster.
            Verdict::NoMajority => self.raise(MemberId(0)).await,
        }
    }

    /// Raises the alarm for a member unless it is up. If that fails, the next comparison raises it.
    async fn raise(&self, member: MemberId) {
        let request = AlarmRequest {
            action: AlarmAction::Activate.into(),
            member_id: member.0,
            alarm: AlarmType::Corrupt.into(),
        };
        let alarms = &self.hashes.views.load().alarms;
        if alarms.get(member.0, AlarmType::Corrupt.into()).is_some() {
            return;
        }
        tracing::error!(%member, "raising the alarm CORRUPT");
        // As if raised manually, so that only an operator can disarm it.
        let command = AlarmCommand {
            request: Some(request),
            by_member: false,
        };
        if let Err(error) = self.consensus.propose_own(Request::Alarm(command)).await {
            tracing::warn!(%member, %error, "failed to raise the alarm CORRUPT");
        }
    }
}
