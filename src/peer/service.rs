//! The accepting end of peer links: checks the dialling member, unwraps its messages and hands them to consensus.

use super::answers::{LeaseAnswerer, StateAnswerer};
use super::envelope;
use super::identity::{self, IdentityCheck};
use super::link::SILENCE_MAX;
use super::progress::Progress;
use super::sessions::{Session, Sessions};
use super::snapshot_receive::{Arrivals, ChunkOrder, DISK_FAILED, SnapshotId};
use super::snapshot_send::{CHUNK_TIMEOUT, stands_still};
use crate::consensus::inbox::Incoming;
use crate::env::{self, TaskThread};
use crate::ids::MemberId;
use crate::inbox::Inbox;
use crate::limits::{MEMBER_CHANGES_WAITING_MAX, PROPOSALS_BYTES_MAX};
use crate::metrics::PeerFamilies;
use crate::mutants::{self, Mutant};
use crate::proto::peer::peer_server::Peer;
use crate::proto::peer::{
    Batch, Envelope, Hello, LeaseAnswers, LeaseQuestions, LinkReply, Message, Recollection, SnapshotChunk,
    SnapshotReply, StateQuestion,
};
use crate::state::entry::ReadableCommands;
use crate::stop::StopSignal;
use crate::storage::contacts::Contact;
use crate::storage::directory::DataDirectory;
use crate::storage::state::StateOptions;
use crate::version;
use prost::Message as _;
use raft::eraftpb::MessageType;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// The gRPC service of one member.
#[derive(Clone)]
pub struct PeerService {
    pub identity_check: IdentityCheck,
    pub consensus: Arc<Inbox<Incoming>>,
    pub directory: Arc<DataDirectory>,
    pub state_options: StateOptions,
    pub arrivals: Arrivals,
    pub stop: StopSignal,
    pub leases: Arc<dyn LeaseAnswerer>,
    pub hashes: Arc<dyn StateAnswerer>,
    pub metrics: Arc<PeerFamilies>,
    pub sessions: Sessions,
    /// The thread that receives snapshots: opening, writing and syncing a state takes time.
    pub transfers: TaskThread,
}

impl PeerService {
    fn greet(&self, hello: &Hello) -> Result<MemberId, Status> {
        self.identity_check.check(hello).inspect_err(|status| {
            let from = MemberId(hello.from);
            tracing::warn!(remote_member = %from, reason = status.message(), "refused a peer");
        })
    }

    /// What this member remembers of a member that has connected to it. By then all messages of its earlier connections have
    /// been processed, and later ones over those connections no longer count.
    async fn recollect(&self, from: MemberId) -> Result<(Session, Recollection), Status> {
        let session = self.sessions.begin(from);
        let (answer, recollection) = oneshot::channel();
        self.consensus
            .add(|incoming| incoming.greetings.insert(from, answer));
        let recollection = recollection.await;
        let recollection = Recollection {
            hello: Some(identity::hello(self.identity_check.own, from)),
            ..recollection.map_err(|_| Status::unavailable("this member stops"))?
        };
        Ok((session, recollection))
    }

    /// Notes a member's disk durably before any of its messages counts, on a thread that may wait for a disk. A starting
    /// member sends nothing before it has heard enough others, so if one of them refuses a wrong disk, the rest have not noted
    /// it.
    async fn note(&self, from: MemberId, contact: Contact) -> Result<(), Status> {
        if self.identity_check.contacts.of(from) == Some(contact) {
            return Ok(());
        }
        let (written, outcome) = oneshot::channel();
        let contacts = self.identity_check.contacts.clone();
        self.transfers.spawn(async move {
            // The connection may have been closed.
            let _ = written.send(contacts.note(from, contact));
        });
        match outcome.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                self.stop.fail(&error);
                Err(Status::new(DISK_FAILED, "the receiver's disk failed"))
            }
            Err(_) => Err(Status::unavailable("this member stops")),
        }
    }

    /// Makes sure that a member which was added, or has moved, while this one was away gets answers.
    fn hear_urls(&self, from: MemberId, hello: Hello) {
        let mutant = if self.identity_check.knows(from) {
            Mutant::MovedUnanswered
        } else {
            Mutant::StrangersUnanswered
        };
        if !mutants::active(mutant) {
            self.consensus
                .add(|incoming| incoming.heard_urls.insert(from, hello.peer_urls));
        }
    }

    fn is_replaced(&self, session: Session) -> bool {
        !self.sessions.is_current(session) && !mutants::active(Mutant::ReplacedConnectionStays)
    }

    fn take_in(&self, session: Session, batch: Batch) {
        let from = session.member;
        // Done before the inbox is locked. Unreadable commands are dropped like a lost message, and their callers time out.
        let forwarded: Vec<_> = batch
            .forwarded_commands
            .into_iter()
            .map(|commands| {
                let (readable, unreadable) = ReadableCommands::within(commands);
                if unreadable > 0 {
                    tracing::warn!(remote_member = %from, unreadable, "dropped forwarded commands that cannot be read");
                }
                (from, readable)
            })
            .collect();
        let changes = batch.forwarded_member_changes.into_iter();
        let changes: Vec<_> = changes.map(|change| ReadableCommands::within(change).0).collect();
        self.consensus.add(|incoming| {
            if !self.sessions.is_current(session) {
                return;
            }
            // Snapshots come on their own stream, with their state.
            let messages = batch.messages.into_iter().filter(|message| {
                message.from == from.0 && message.r#type != MessageType::MsgSnapshot as i32
            });
            incoming.add_messages(messages);
            let waiting: usize = incoming
                .forwarded
                .iter()
                .map(|(_, commands)| commands.len())
                .sum();
            if waiting < PROPOSALS_BYTES_MAX {
                incoming.forwarded.extend(forwarded);
            }
            let room = MEMBER_CHANGES_WAITING_MAX.saturating_sub(incoming.forwarded_member_changes.len());
            let changes = changes.into_iter().take(room);
            incoming.forwarded_member_changes.extend(changes);
        });
    }

    /// Receives a snapshot after its first chunk.
    async fn receive(
        &self,
        announcement: Message,
        place: OwnedSemaphorePermit,
        mut chunks: Streaming<SnapshotChunk>,
        replies: &mpsc::Sender<Result<SnapshotReply, Status>>,
    ) -> Result<(), Status> {
        let snapshot = announcement
            .snapshot
            .as_ref()
            .ok_or_else(|| Status::invalid_argument("no snapshot"))?;
        let id = SnapshotId::new(&announcement, snapshot);
        let begun = self.arrivals.begin(id, &self.directory, &self.state_options);
        let mut partial = self.stored(begun)?;
        tracing::info!(index = %id.index, from = %id.from, "receiving a snapshot");
        let reply = envelope::seal_snapshot_reply(SnapshotReply {
            resume_after: partial.position.clone(),
            ..SnapshotReply::default()
        });
        let mut outcome = replies
            .send(Ok(reply))
            .await
            .map_err(|_| Status::cancelled("the sender went away"));
        let mut order = ChunkOrder::default();
        let mut progress = Progress::new(snapshot.expected_bytes, partial.bytes, env::now());
        while outcome.is_ok() {
            let next = env::timeout(CHUNK_TIMEOUT, chunks.message()).await;
            let next = next.unwrap_or_else(|_| Err(stands_still()));
            match next.and_then(|chunk| order.check(chunk)) {
                Ok(Some(chunk)) if chunk.last => {
                    let begin = env::now();
                    let arrived = self.stored(partial.finish(announcement, place).await)?;
                    let took = env::now() - begin;
                    self.metrics.snapshot_sync_seconds.observe(took.as_secs_f64());
                    tracing::info!(index = %id.index, ?took, "received and saved database snapshot");
                    self.consensus.add(|incoming| incoming.snapshots.push(arrived));
                    let reply = envelope::seal_snapshot_reply(SnapshotReply {
                        complete: true,
                        ..SnapshotReply::default()
                    });
                    return replies
                        .send(Ok(reply))
                        .await
                        .map_err(|_| Status::cancelled("the sender went away"));
                }
                Ok(Some(chunk)) => {
                    self.stored(partial.take(&chunk))?;
                    if let Some(line) = progress.add(partial.bytes - progress.bytes(), env::now()) {
                        tracing::info!(
                            from = %id.from, bytes = line.bytes, percent = line.percent,
                            bytes_per_second = line.bytes_per_second, "receiving database snapshot"
                        );
                    }
                }
                Ok(None) => outcome = Err(Status::unavailable("the transfer broke off")),
                Err(status) => outcome = Err(status),
            }
        }
        self.arrivals.keep(partial);
        outcome
    }

    /// Stops this member if its disk could not store what arrived. The sender is not told this member's paths.
    fn stored<T>(&self, outcome: Result<T, Status>) -> Result<T, Status> {
        outcome.map_err(|status| {
            if status.code() != DISK_FAILED {
                return status;
            }
            self.stop.fail(&status.message());
            Status::new(DISK_FAILED, "the receiver's disk failed")
        })
    }
}

fn damaged(error: envelope::EnvelopeError) -> Status {
    Status::data_loss(error.to_string())
}

#[tonic::async_trait]
impl Peer for PeerService {
    type LinkStream = ReceiverStream<Result<LinkReply, Status>>;
    type SnapshotStream = ReceiverStream<Result<SnapshotReply, Status>>;

    async fn link(
        &self,
        request: Request<Streaming<Envelope>>,
    ) -> Result<Response<Self::LinkStream>, Status> {
        let mut envelopes = request.into_inner();
        let first = envelopes
            .message()
            .await?
            .ok_or_else(|| Status::invalid_argument("no handshake"))?;
        let hello = envelope::unwrap_hello(&first).map_err(damaged)?;
        let (from, contact) = (self.greet(&hello)?, identity::contact(&hello));
        self.hear_urls(from, hello);
        let (session, recollection) = self.recollect(from).await?;
        let (replies, stream) = mpsc::channel(1);
        let greeted = replies.try_send(Ok(envelope::seal_handshake(version::SERVER, &recollection)));
        greeted.map_err(|_| Status::internal("an empty channel is full"))?;
        let service = self.clone();
        let metrics = self.metrics.from(from);
        env::spawn(async move {
            let status = loop {
                let next = env::timeout(SILENCE_MAX, envelopes.message()).await;
                if let Ok(Ok(Some(envelope))) = &next {
                    metrics.bytes.inc_by(envelope.encoded_len() as u64);
                }
                match next {
                    Ok(Ok(Some(envelope))) => match envelope::unwrap(envelope) {
                        // A connection that its member has given up may outlive the newer one's handshake. Messages on it no
                        // longer count, and the sending member would not notice.
                        Ok(_) if service.is_replaced(session) => {
                            break Status::aborted("a newer connection has taken its place");
                        }
                        Ok(_) if service.identity_check.is_removed(from) => break identity::removed(),
                        // If there is no room, an answer is already on its way.
                        Ok(batch) if batch == Batch::default() => {
                            let _ = replies.try_send(Ok(envelope::seal_link_reply(version::SERVER)));
                        }
                        Ok(batch) => match service.note(from, contact).await {
                            Ok(()) => service.take_in(session, batch),
                            Err(status) => break status,
                        },
                        Err(error) => break Status::data_loss(error.to_string()),
                    },
                    Ok(Ok(None)) => break Status::unavailable("closed by the remote member"),
                    Ok(Err(status)) => break status,
                    Err(_) => break Status::deadline_exceeded("the link has gone silent"),
                }
            };
            metrics.failures.inc();
            tracing::warn!(remote_member = %from, error = status.message(), "peer connection ended");
            // Dropped if an unread answer fills the queue: the end of the stream suffices.
            let _ = replies.try_send(Err(status));
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn snapshot(
        &self,
        request: Request<Streaming<SnapshotChunk>>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        let mut chunks = request.into_inner();
        let first = env::timeout(CHUNK_TIMEOUT, chunks.message())
            .await
            .map_err(|_| stands_still())??
            .ok_or_else(|| Status::invalid_argument("no handshake"))?;
        let (hello, announcement) = envelope::unwrap_announcement(&first).map_err(damaged)?;
        let from = self.greet(&hello)?;
        if announcement.from != from.0 {
            return Err(Status::invalid_argument("the announcement is not the sender's"));
        }
        let place = self.arrivals.place()?;
        let (replies, stream) = mpsc::channel(2);
        let service = self.clone();
        let metrics = self.metrics.from(from);
        let receive = async move {
            metrics.snapshots_under_way.inc();
            let begin = env::now();
            let outcome = service.receive(announcement, place, chunks, &replies).await;
            metrics.snapshots_under_way.dec();
            if outcome.is_ok() {
                let took = (env::now() - begin).as_secs_f64();
                metrics.snapshots.inc();
                metrics.snapshot_seconds.observe(took);
                service.metrics.snapshot_save_seconds.observe(took);
            } else {
                metrics.failed_snapshots.inc();
            }
            if let Err(status) = outcome {
                tracing::warn!(remote_member = %from, error = status.message(), "a snapshot did not arrive");
                let _ = replies.send(Err(status)).await;
            }
        };
        if mutants::active(Mutant::SnapshotStoredByRaft) {
            env::spawn(receive);
        } else {
            self.transfers.spawn(receive);
        }
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn ask_leases(&self, request: Request<Envelope>) -> Result<Response<Envelope>, Status> {
        let envelope = request.into_inner();
        self.greet(&envelope::unwrap_hello(&envelope).map_err(damaged)?)?;
        let LeaseQuestions { questions } = envelope::unwrap_call(envelope).map_err(damaged)?;
        let answers = self.leases.answer_leases(questions).await?;
        Ok(Response::new(envelope::wrap_call(
            None,
            &LeaseAnswers { answers },
        )))
    }

    async fn ask_state(&self, request: Request<Envelope>) -> Result<Response<Envelope>, Status> {
        let envelope = request.into_inner();
        self.greet(&envelope::unwrap_hello(&envelope).map_err(damaged)?)?;
        let StateQuestion { question } = envelope::unwrap_call(envelope).map_err(damaged)?;
        let answer = self.hashes.answer_state(question).await;
        Ok(Response::new(envelope::wrap_call(None, &answer)))
    }
}
