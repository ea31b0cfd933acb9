//! The consensus actor. On each wake-up it takes everything that has arrived, feeds it to the core, and carries out the core's
//! outputs: writes to the log, messages to peers, committed entries for the applier.

mod members;

use super::apply_lag::ApplyLag;
use super::checkpoint::Checkpoints;
use super::commit_news::NEWS_DELAY;
use super::core::{Core, Leadership, Outputs, TICKS_PER_HEARTBEAT};
use super::inbox::{ArrivedSnapshot, Incoming};
use super::links::MemberLinks;
use super::log_fetches::Stretch;
use super::log_store::read_entries;
use super::member_changes::MemberChanges;
use super::neighbours::Neighbours;
use super::options::ConsensusOptions;
use super::proposals::{Circumstances, Next, Proposals, is_wanted};
use super::reads::Reads;
use super::restoring::{Ordered, Restoring};
use super::writer::LogWork;
use crate::apply::ApplyWork;
use crate::env::{self, TaskThread};
use crate::ids::{LogIndex, MemberId};
use crate::inbox::Wake;
use crate::metrics::ConsensusMetrics;
use crate::mutants::{self, Mutant};
use crate::proto::peer;
use crate::requests::{ReadError, Reader};
use crate::storage::contacts::Contacts;
use crate::storage::log::LogDatabase;
use crate::storage::state::StateDatabase;
use actix::{Actor, AsyncContext, Context, Handler};
use bytes::Bytes;
use raft::eraftpb::MessageType;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;

/// The state of a received snapshot, with the permit for its place: held until the state is in use or refused.
type Arrived = (Arc<StateDatabase>, OwnedSemaphorePermit);

/// The consensus actor.
pub struct Consensus {
    member: MemberId,
    origin: u64,
    core: Core,
    neighbours: Neighbours,
    links: Box<dyn MemberLinks>,
    tick: Duration,
    proposals: Proposals,
    member_changes: MemberChanges,
    /// When the current connection to each member began.
    connected_since: BTreeMap<MemberId, env::Instant>,
    reads: Reads,
    checkpoints: Checkpoints,
    leadership: Leadership,
    restoring: Restoring<Arrived>,
    /// Held while the applier puts a snapshot's state in place.
    place: Option<OwnedSemaphorePermit>,
    log: LogDatabase,
    transfers: TaskThread,
    contacts: Contacts,
    apply_lag: ApplyLag,
    election_timeout: Duration,
    metrics: Arc<ConsensusMetrics>,
    ticked: env::Instant,
}

impl Consensus {
    pub fn new(parts: ConsensusOptions) -> Self {
        Self {
            member: parts.member,
            origin: parts.origin,
            core: parts.core,
            log: parts.log,
            apply_lag: ApplyLag::default(),
            neighbours: parts.neighbours,
            transfers: parts.transfers,
            contacts: parts.contacts,
            links: parts.links,
            tick: parts.tick,
            proposals: Proposals::default(),
            member_changes: MemberChanges::default(),
            connected_since: BTreeMap::new(),
            reads: parts.reads,
            checkpoints: parts.checkpoints,
            leadership: Leadership::default(),
            restoring: Restoring::default(),
            place: None,
            election_timeout: parts.election_timeout,
            metrics: parts.metrics,
            ticked: env::now(),
        }
    }

    fn take_in(&mut self, mut incoming: Incoming) {
        let messages = incoming.take_messages();
        if incoming.ticked {
            self.tick();
        }
        if incoming.persisted_write > 0 {
            self.core.persisted(incoming.persisted_write);
        }
        self.take_in_members(
            std::mem::take(&mut incoming.reconfigured),
            std::mem::take(&mut incoming.heard_urls),
            incoming.members_changed,
        );
        if incoming.state_replaced {
            self.finish_restore();
        }
        if incoming.applied > LogIndex(0) {
            self.core.applied(incoming.applied);
            self.apply_lag.applied(incoming.applied);
        }
        for member in incoming.unreachable {
            self.core.report_unreachable(member);
        }
        for (member, arrived) in incoming.snapshot_reports {
            self.core.report_snapshot(member, arrived);
        }
        for message in messages {
            // Dropped as if the network had lost it: the leader sends it again.
            if !self.apply_lag.is_long() || message.entries.is_empty() {
                self.core.step(message);
            }
        }
        self.greet(incoming.greetings, incoming.words);
        if incoming.start_counted {
            self.core.start_counted();
        }
        for (stretch, entries) in incoming.fetched {
            self.core.fetched(stretch, entries);
        }
        for snapshot in incoming.snapshots.drain(..) {
            self.take_in_snapshot(snapshot);
        }
        if let Some(to) = incoming.hand_over_leadership {
            self.core.hand_over_leadership(to);
        }
        for asked in incoming.details_asked {
            // The caller may have stopped waiting.
            let _ = asked.send(self.core.details());
        }
        if incoming.state_synced > LogIndex(0) {
            self.cut_log(incoming.state_synced);
        }
        self.proposals.add(incoming.commands);
        self.member_changes.add(incoming.member_changes, env::now());
        if self.core.leadership().is_leader {
            self.member_changes
                .add(incoming.forwarded_member_changes, env::now());
            for (from, batch) in incoming.forwarded {
                self.proposals.add_forwarded(from, &batch);
            }
        }
        self.reads.add(incoming.reads);
    }

    fn tick(&mut self) {
        self.core.tick();
        let takes_part = &self.neighbours.status.takes_part;
        if self.core.takes_part() && !takes_part.swap(true, Ordering::AcqRel) {
            tracing::info!(member = %self.member, "enough members were heard; this one takes part");
        }
        let now = env::now();
        let ticked = std::mem::replace(&mut self.ticked, now);
        // etcd's measure: a heartbeat is late after twice the heartbeat interval.
        if self.leadership.is_leader && now - ticked > 2 * TICKS_PER_HEARTBEAT * self.tick {
            self.metrics.late_heartbeats.inc();
        }
        let expired = self.neighbours.waiters.expire(now);
        if !expired.is_empty() {
            self.proposals
                .requests_expired(is_wanted(self.origin, &self.neighbours.waiters));
        }
        self.neighbours.deliveries.extend(expired);
        let expired = self.reads.expire(now);
        if !expired.is_empty() {
            self.metrics.failed_reads.inc();
        }
        self.neighbours
            .deliveries
            .answer_reads(expired, Err(ReadError::Timeout));
    }

    fn take_in_snapshot(&mut self, snapshot: ArrivedSnapshot) {
        if self.restoring.is_under_way() {
            return;
        }
        self.restoring.arrive((snapshot.state, snapshot.place));
        self.core.step(snapshot.announcement);
        self.carry_out();
        if let Some(refused) = self.restoring.take_refused() {
            // Closing a database takes time. The next start or transfer removes its directory.
            self.transfers.spawn(async move { drop(refused) });
        }
    }

    /// Proposes waiting commands, or forwards them to the leader. Without a leader they stay in the queue.
    fn pass_on_commands(&mut self) {
        loop {
            let leadership = self.core.leadership();
            let now = Circumstances {
                leadership,
                committed: self.core.committed(),
                applier_lags: self.apply_lag.is_long(),
                leader_in_reach: self.links.has(leadership.leader),
            };
            match self
                .proposals
                .next(now, is_wanted(self.origin, &self.neighbours.waiters))
            {
                None => return,
                Some(Next::Propose(piece)) => {
                    let bytes = piece.len();
                    // Raft refuses proposals while it transfers leadership; the waiting callers time out.
                    if self.core.propose(piece) {
                        self.proposals
                            .proposed(self.core.last_index(), now.committed, bytes);
                    }
                }
                Some(Next::Forward(leader, piece)) => {
                    if mutants::active(Mutant::ForwardTwice) {
                        self.links.forward(leader, Bytes::from(piece.clone()));
                    }
                    self.links.forward(leader, Bytes::from(piece));
                }
            }
        }
    }

    /// Tells the followers the commit index, unless entries on their way to them carry it.
    fn tell_commit(&mut self, due: bool) {
        let committed = self.core.committed();
        if due && self.proposals.news_are_due(committed) {
            return self.core.tell_commit();
        }
        if !self.leadership.is_leader || self.links.count() == 0 {
            return;
        }
        let telling = self.proposals.telling(committed, self.links.count());
        for member in telling.now {
            self.core.tell_commit_to(member);
        }
        if telling.later {
            let inbox = Arc::clone(&self.neighbours.inbox);
            env::spawn_local(async move {
                env::sleep(NEWS_DELAY).await;
                inbox.add(|incoming| incoming.commit_news_due = true);
            });
        }
    }

    /// Carries out the core's outputs.
    fn carry_out(&mut self) {
        let Outputs {
            send,
            write,
            restore,
            committed,
            reads,
            fetch,
            count_start,
        } = self.core.take_outputs();
        if self.core.has_failed() {
            return self.stop_on_failure();
        }
        self.notice_leadership();
        for entry in write.iter().flat_map(|write| &write.entries) {
            self.checkpoints
                .appended(LogIndex(entry.index), entry.data.len() as u64);
        }
        match self.restoring.order(write, restore) {
            Ok(Ordered { log, put_in_place }) => {
                self.write(log);
                if let Some((arrived, cut)) = put_in_place {
                    self.put_in_place(arrived, cut.index);
                }
            }
            Err(error) => return self.neighbours.stop.fail(&error),
        }
        self.send(send);
        for stretch in fetch {
            self.fetch(stretch);
        }
        if count_start {
            self.count_start();
        }
        if !committed.is_empty() {
            self.apply_lag.handed_over(&committed);
            self.neighbours
                .applier
                .add(|work| work.push(ApplyWork::Entries(committed)));
        }
        let status = &self.neighbours.status;
        let (committed, last) = (self.core.committed(), self.core.last_index());
        status.commit_index.store(committed.0, Ordering::Release);
        status.last_index.store(last.0, Ordering::Release);
        for (context, index) in reads {
            let readers = self.reads.answered(context);
            self.let_read(readers, index);
        }
    }

    fn write(&self, mut work: Vec<LogWork>) {
        if !work.is_empty() {
            self.neighbours.writer.add(|queue| queue.append(&mut work));
        }
    }

    /// Has the applier replace its state by that of a snapshot, after the work that it already has.
    fn put_in_place(&mut self, (state, place): Arrived, index: LogIndex) {
        tracing::info!(%index, "applying a snapshot from the leader");
        self.place = Some(place);
        self.metrics.restoring.set(1);
        self.neighbours
            .applier
            .add(|work| work.push(ApplyWork::Replace(state, index)));
    }

    /// The snapshot's state is in use: the log starts again after it.
    fn finish_restore(&mut self) {
        let Some((cut, work)) = self.restoring.finish() else {
            return;
        };
        self.place = None;
        self.metrics.restoring.set(0);
        self.checkpoints.reset(cut.index);
        self.write(work);
        tracing::info!(index = %cut.index, "applied snapshot");
    }

    fn send(&mut self, messages: Vec<peer::Message>) {
        let mut by_member: BTreeMap<MemberId, Vec<peer::Message>> = BTreeMap::new();
        for message in messages {
            let to = MemberId(message.to);
            if message.r#type == MessageType::MsgSnapshot as i32 {
                self.send_snapshot(to, message);
            } else {
                by_member.entry(to).or_default().push(message);
            }
        }
        for (member, messages) in by_member {
            self.links.send(member, messages);
        }
    }

    fn send_snapshot(&mut self, to: MemberId, announcement: peer::Message) {
        let index = LogIndex(
            announcement
                .snapshot
                .as_ref()
                .map_or(0, |snapshot| snapshot.index),
        );
        match self.core.store().take_snapshot_view(index) {
            Some(view) if self.links.has(to) => self.links.send_snapshot(to, announcement, view),
            _ => self.core.report_snapshot(to, false),
        }
    }

    /// Reads a range of entries from the log's disk, for a follower that is behind.
    fn fetch(&self, stretch: Stretch) {
        let (log, inbox) = (self.log.clone(), Arc::clone(&self.neighbours.inbox));
        self.transfers.spawn(async move {
            let Stretch {
                low, high, bytes_max, ..
            } = stretch;
            let entries = env::disk_read(|| read_entries(&log, low, high, bytes_max)).await;
            inbox.add(|incoming| incoming.fetched.push((stretch, entries)));
        });
    }

    /// Records this start on disk, which must happen before this member takes part.
    fn count_start(&self) {
        let (contacts, neighbours) = (self.contacts.clone(), self.neighbours.clone());
        self.transfers.spawn(async move {
            match contacts.count_start() {
                Ok(()) => neighbours.inbox.add(|incoming| incoming.start_counted = true),
                Err(error) => neighbours.stop.fail(&error),
            }
        });
    }

    /// Answers readers once `index` is applied: at once if it is, otherwise through the applier's queue.
    fn let_read(&mut self, readers: Vec<Reader>, index: LogIndex) {
        if readers.is_empty() {
            return;
        }
        if self.neighbours.status.load().applied_index >= index {
            self.neighbours.deliveries.answer_reads(readers, Ok(()));
        } else {
            self.neighbours
                .applier
                .add(|work| work.push(ApplyWork::Reads(index, readers)));
        }
    }

    fn notice_leadership(&mut self) {
        let leadership = self.core.leadership();
        if leadership == self.leadership {
            return;
        }
        leadership.publish(&self.neighbours.status);
        let leader_before = self.leadership.leader;
        leadership.announce(self.member, leader_before);
        self.leadership = leadership;
        let is_another = leadership.leader != leader_before;
        if leadership.leader != MemberId(0) && is_another {
            self.metrics.leader_changes.inc();
        }
        if leader_before != MemberId(0) && is_another {
            // The old leader may or may not have committed what it was sent, so it is never sent again.
            let patience = self.election_timeout;
            self.neighbours.waiters.leader_failed(env::now(), patience);
        }
        self.reads.ask_again();
        self.proposals.leadership_changed();
    }

    fn cut_log(&mut self, synced: LogIndex) {
        let target = self.checkpoints.synced(synced);
        if self.restoring.is_under_way() {
            return;
        }
        if let Some(cut) = self.core.store().cut(target) {
            tracing::info!(compact_index = cut.index.get(), "compacted the raft log");
            self.write(vec![LogWork::Cut(cut)]);
        }
    }

    fn stop_on_failure(&mut self) {
        if let Some(error) = self.core.store().take_failure() {
            self.neighbours.stop.fail(&error);
        }
    }
}

impl Actor for Consensus {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        self.neighbours.inbox.set_owner(context.address().recipient());
        let (inbox, tick) = (Arc::clone(&self.neighbours.inbox), self.tick);
        let address = context.address();
        env::spawn_local(async move {
            while address.connected() {
                env::sleep(tick).await;
                inbox.add(|incoming| incoming.ticked = true);
            }
        });
        // A single voter has no other member to hear from before its start counts.
        self.carry_out();
    }
}

impl Handler<Wake> for Consensus {
    type Result = ();

    fn handle(&mut self, _: Wake, _: &mut Context<Self>) {
        let incoming = self.neighbours.inbox.take();
        if self.core.has_failed() {
            return;
        }
        let news_due = incoming.commit_news_due;
        self.take_in(incoming);
        self.pass_on_commands();
        self.pass_on_member_changes();
        self.tell_commit(news_due);
        self.carry_out();
        while self.core.can_read() {
            let unanswered = self.reads.is_under_way();
            let Some(question) = self.reads.question(env::now()) else {
                break;
            };
            if unanswered {
                self.metrics.slow_reads.inc();
            }
            self.core.read_index(question);
            self.carry_out();
        }
        let applied = self.neighbours.status.load().applied_index;
        if self.checkpoints.due(applied) {
            if mutants::active(Mutant::CutBeforeSync) {
                return self.cut_log(applied);
            }
            self.neighbours.checkpointer.add(|work| work.checkpoint = true);
        }
    }
}
