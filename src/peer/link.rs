//! The link to one remote member: an actor that keeps a stream to it open, trying its peer URLs in turn, and sends consensus's
//! messages in order. Messages that cannot be sent are dropped and the member is reported unreachable: raft repeats what
//! matters, and forwarded commands are never sent twice.
//!
//! Every second an empty batch asks for an answer, and each side closes the stream after a silence. This is needed beside
//! checksums: a damaged frame length or window has no checksum, and can leave both ends waiting for bytes that never come
//! while the connection still answers pings.

use super::identity::IdentityCheck;
use super::{envelope, identity, snapshot_send};
use crate::client::{Channel, ChannelOptions, KeepAlive};
use crate::cluster::MemberUrl;
use crate::consensus::inbox::Incoming;
use crate::consensus::start_check::Word;
use crate::env::{self, TaskThread};
use crate::ids::MemberId;
use crate::inbox::Inbox;
use crate::metrics::SentMetrics;
use crate::mutants::{self, Mutant};
use crate::proto::peer::peer_client::PeerClient;
use crate::proto::peer::{self, Batch, Envelope, Hello, LinkReply, Recollection};
use crate::state::View;
use crate::stop::StopSignal;
use crate::storage::directory::Identity;
use crate::tls::Connector;
use actix::{Actor, ActorContext, AsyncContext, Context, Handler, Message};
use prometheus::Histogram;
use prost::Message as _;
use std::cell::Cell;
use std::convert::Infallible;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

/// Envelopes queued for the connection. Beyond that the network is too slow, and messages are dropped.
const ENVELOPES_MAX: usize = 256;
/// Interval between attempts to connect; random jitter adds up to as much again (etcd tries every 100 ms).
const RECONNECT_AFTER: Duration = Duration::from_millis(100);
/// The time limit for the answer to a handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Interval between empty batches.
const BEAT_INTERVAL: Duration = Duration::from_secs(1);
/// Either end closes a stream after this much silence.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(5);

/// A refusal is believed after so many in a row: no checksum covers a gRPC status, and stopping this member is final.
const REFUSALS_MAX: usize = 3;

/// Raft messages for the remote member, or commands for it to propose.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Send(pub Batch);

/// A snapshot for the remote member: raft's message and the state that belongs to it.
#[derive(Message)]
#[rtype(result = "()")]
pub struct SendSnapshot {
    pub announcement: peer::Message,
    pub view: Arc<View>,
}

#[derive(Message)]
#[rtype(result = "()")]
struct Connected(mpsc::Sender<Envelope>);

#[derive(Message)]
#[rtype(result = "()")]
struct SnapshotSent {
    arrived: bool,
}

/// The remote member was removed, or its URLs have changed.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct End;

/// The remote member's address, and this member's identity towards it.
#[derive(Clone, Debug)]
pub struct Remote {
    pub own: Identity,
    pub member: MemberId,
    pub urls: Vec<MemberUrl>,
    /// This member's peer URLs according to the membership and to its flags.
    pub own_urls: Vec<String>,
    /// For https peer URLs.
    pub dialler: Option<Connector>,
}

impl Remote {
    /// What this member says of itself when it dials the remote one.
    pub(super) fn hello(&self) -> Hello {
        Hello {
            peer_urls: self.own_urls.clone(),
            ..identity::hello(self.own, self.member)
        }
    }
}

/// The actor of a link.
pub struct Link {
    remote: Remote,
    consensus: Arc<Inbox<Incoming>>,
    identity_check: IdentityCheck,
    stop: StopSignal,
    transfers: TaskThread,
    outgoing: Option<mpsc::Sender<Envelope>>,
    snapshot_under_way: bool,
    /// The view that was sent last, and the name of its stream. While the view is the same, a broken transfer is resumed. The
    /// reference is weak, so that it does not keep the view alive.
    streamed: (Weak<View>, u64),
    metrics: SentMetrics,
    ended: Arc<Notify>,
}

impl Link {
    pub fn new(
        remote: Remote,
        consensus: Arc<Inbox<Incoming>>,
        identity_check: IdentityCheck,
        stop: StopSignal,
        transfers: TaskThread,
        metrics: SentMetrics,
    ) -> Self {
        Self {
            remote,
            consensus,
            identity_check,
            stop,
            transfers,
            outgoing: None,
            snapshot_under_way: false,
            streamed: (Weak::new(), 0),
            metrics,
            ended: Arc::default(),
        }
    }

    /// The name of the stream of this view's records.
    fn stream_of(&mut self, view: &Arc<View>) -> u64 {
        let (streamed, name) = &self.streamed;
        if !std::ptr::eq(streamed.as_ptr(), Arc::as_ptr(view)) || streamed.strong_count() == 0 {
            self.streamed = (Arc::downgrade(view), env::random_u64().max(1));
            return self.streamed.1;
        }
        *name
    }

    fn send(&mut self, batch: &Batch) {
        let envelope = envelope::wrap(batch);
        let bytes = envelope.encoded_len();
        let sent = self
            .outgoing
            .as_ref()
            .is_some_and(|outgoing| outgoing.try_send(envelope).is_ok());
        if sent {
            self.metrics.bytes.inc_by(bytes as u64);
        } else {
            self.metrics.failures.inc();
            let member = self.remote.member;
            self.consensus.add(|incoming| incoming.unreachable.push(member));
        }
    }
}

impl Actor for Link {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        let (remote, stop, address) = (self.remote.clone(), self.stop.clone(), context.address());
        let (metrics, consensus) = (self.metrics.clone(), Arc::clone(&self.consensus));
        let identity_check = self.identity_check.clone();
        let ended = Arc::clone(&self.ended);
        let dialling = async move {
            let (mut attempt, mut refusals) = (0, 0);
            while address.connected() {
                let say = |word| {
                    consensus.add(|incoming| incoming.words.insert(remote.member, word));
                };
                let report = |outgoing, recollection| {
                    say(Word::Remembers(recollection));
                    address.do_send(Connected(outgoing));
                };
                let Err(status) = keep_open(&remote, &identity_check, attempt, &metrics, report).await;
                attempt += 1;
                let is_removed = status.code() == identity::REMOVED;
                let is_refused = is_removed || status.code() == identity::REFUSED;
                refusals = if is_refused { refusals + 1 } else { 0 };
                say(if is_refused { Word::Refused } else { Word::Nothing });
                if refusals == REFUSALS_MAX && is_removed && !mutants::active(Mutant::RemovedStays) {
                    return stop.leave();
                }
                if refusals == REFUSALS_MAX && !is_removed {
                    let reason = format!("member {} refuses this one: {}", remote.member, status.message());
                    return stop.fail(&reason);
                }
                tracing::warn!(
                    remote_member = %remote.member, error = %status.message(), "lost or failed to make a peer connection"
                );
                let jitter_ms = env::random_below(RECONNECT_AFTER.as_millis() as u64);
                env::sleep(RECONNECT_AFTER + Duration::from_millis(jitter_ms)).await;
            }
        };
        env::spawn_local(async move {
            env::first(dialling, ended.notified(), std::future::pending::<()>()).await;
        });
    }
}

/// Whether the remote member runs on its own disk. If not, its memory does not count: a blank disk remembers nothing, and an
/// older copy too little. The remote member learns that when it dials this one.
fn check_answer(identity_check: &IdentityCheck, recollection: &Recollection) -> Result<(), Status> {
    let hello = recollection.hello.as_ref();
    let hello = hello.ok_or_else(|| Status::data_loss("it does not say who it is"))?;
    match identity_check.check(hello) {
        Err(status) if !mutants::active(Mutant::AnswersUnchecked) => Err(Status::aborted(status.message())),
        _ => Ok(()),
    }
}

/// Keeps a stream to the remote member open. It always ends with an error.
async fn keep_open(
    remote: &Remote,
    identity_check: &IdentityCheck,
    attempt: usize,
    metrics: &SentMetrics,
    report: impl Fn(mpsc::Sender<Envelope>, Recollection),
) -> Result<Infallible, Status> {
    let LinkStream {
        outgoing,
        replies,
        version,
        recollection,
    } = open(remote, attempt).await?;
    check_answer(identity_check, &recollection)?;
    tracing::info!(remote_member = %remote.member, version, "established a peer connection");
    report(outgoing.clone(), recollection);
    let asked = Cell::new(None);
    metrics.active.set(1);
    let ended = tokio::select! {
        biased;
        ended = answers(replies, &asked, &metrics.round_trip_seconds) => ended,
        never = beat(&outgoing, &asked) => match never {},
    };
    metrics.active.set(0);
    metrics.disconnected.inc();
    ended
}

/// A stream to a remote member, after the handshake.
pub struct LinkStream {
    outgoing: mpsc::Sender<Envelope>,
    replies: Streaming<LinkReply>,
    version: String,
    recollection: Recollection,
}

/// Opens a stream to the remote member, over the next of its URLs.
pub async fn open(remote: &Remote, attempt: usize) -> Result<LinkStream, Status> {
    let mut client = connect(remote, attempt).await?;
    let (outgoing, envelopes) = mpsc::channel(ENVELOPES_MAX);
    let hello = envelope::wrap_hello(&remote.hello());
    outgoing
        .try_send(hello)
        .map_err(|_| Status::internal("an empty channel is full"))?;
    let handshake = async {
        let mut replies = client.link(ReceiverStream::new(envelopes)).await?.into_inner();
        let reply = replies
            .message()
            .await?
            .ok_or_else(|| Status::unavailable("closed during the handshake"))?;
        let recollection =
            envelope::unwrap_handshake(&reply).map_err(|error| Status::data_loss(error.to_string()))?;
        Ok(LinkStream {
            outgoing,
            replies,
            version: reply.version,
            recollection,
        })
    };
    env::timeout(HANDSHAKE_TIMEOUT, handshake)
        .await
        .map_err(|_| Status::deadline_exceeded("no answer to the handshake"))?
}

/// When the unanswered empty batch was sent.
type AskedAt = Cell<Option<env::Instant>>;

async fn beat(outgoing: &mpsc::Sender<Envelope>, asked: &AskedAt) -> Infallible {
    loop {
        env::sleep(BEAT_INTERVAL).await;
        // If the queue is full, nothing gets through, and missing answers end the stream.
        let sent = outgoing.try_send(envelope::wrap(&Batch::default()));
        if sent.is_ok() && asked.get().is_none() {
            asked.set(Some(env::now()));
        }
    }
}

/// Takes the answers to the empty batches until they stop coming.
async fn answers(
    mut replies: Streaming<LinkReply>,
    asked: &AskedAt,
    round_trip_seconds: &Histogram,
) -> Result<Infallible, Status> {
    loop {
        let reply = env::timeout(SILENCE_MAX, replies.message())
            .await
            .map_err(|_| Status::deadline_exceeded("the link has gone silent"))??
            .ok_or_else(|| Status::unavailable("closed by the remote member"))?;
        envelope::check_link_reply(&reply).map_err(|error| Status::data_loss(error.to_string()))?;
        if let Some(asked) = asked.take() {
            round_trip_seconds.observe((env::now() - asked).as_secs_f64());
        }
    }
}

/// Connects to the remote member, over the next of its URLs.
pub(crate) async fn connect(remote: &Remote, attempt: usize) -> Result<PeerClient<Channel>, Status> {
    let url = remote
        .urls
        .get(attempt % remote.urls.len().max(1))
        .ok_or_else(|| Status::unavailable("the remote member has no peer URL"))?;
    let tls = if url.is_secure() {
        let missing = || {
            let flags = "--peer-cert-file and --peer-key-file, or --peer-auto-tls";
            Status::unavailable(format!(
                "{url} wants TLS, and this member has none towards members: give {flags}"
            ))
        };
        Some(remote.dialler.clone().ok_or_else(missing)?)
    } else {
        None
    };
    let address = url.address();
    let keep_alive = KeepAlive {
        interval: Duration::from_secs(2),
        timeout: Duration::from_secs(5),
    };
    let options = ChannelOptions {
        keep_alive: Some(keep_alive),
        tls,
        ..ChannelOptions::default()
    };
    let channel = Channel::connect_with(&address, &url.authority(), &options)
        .await
        .map_err(|error| Status::unavailable(error.to_string()))?;
    Ok(PeerClient::new(channel).max_decoding_message_size(usize::MAX))
}

impl Handler<End> for Link {
    type Result = ();

    fn handle(&mut self, _: End, context: &mut Context<Self>) {
        tracing::info!(remote_peer_id = %self.remote.member, "stopped remote peer");
        self.ended.notify_one();
        context.stop();
    }
}

impl Handler<Connected> for Link {
    type Result = ();

    fn handle(&mut self, message: Connected, _: &mut Context<Self>) {
        self.outgoing = Some(message.0);
    }
}

impl Handler<Send> for Link {
    type Result = ();

    fn handle(&mut self, message: Send, _: &mut Context<Self>) {
        self.send(&message.0);
    }
}

impl Handler<SendSnapshot> for Link {
    type Result = ();

    fn handle(&mut self, message: SendSnapshot, context: &mut Context<Self>) {
        let (remote, address) = (self.remote.clone(), context.address());
        if std::mem::replace(&mut self.snapshot_under_way, true) {
            let member = remote.member;
            self.consensus
                .add(|incoming| incoming.snapshot_reports.push((member, false)));
            return;
        }
        let SendSnapshot {
            mut announcement,
            view,
        } = message;
        if let Some(snapshot) = &mut announcement.snapshot {
            snapshot.stream = self.stream_of(&view);
            snapshot.expected_bytes = view.applied.usage.live_bytes();
        }
        let metrics = self.metrics.clone();
        // Reading the state may wait for the storage engine, and encoding takes time. Heartbeats must not wait for either.
        self.transfers.spawn(async move {
            metrics.snapshots_under_way.inc();
            let begin = env::now();
            let sent = snapshot_send::send(&remote, announcement, &view).await;
            let took = env::now() - begin;
            metrics.snapshots_under_way.dec();
            match &sent {
                Ok(()) => {
                    metrics.snapshots.inc();
                    metrics.snapshot_seconds.observe(took.as_secs_f64());
                    tracing::info!(remote_peer_id = %remote.member, ?took, "sent database snapshot");
                }
                Err(error) => {
                    metrics.failed_snapshots.inc();
                    tracing::warn!(remote_member = %remote.member, %error, "failed to send a snapshot");
                }
            }
            address.do_send(SnapshotSent {
                arrived: sent.is_ok(),
            });
        });
    }
}

impl Handler<SnapshotSent> for Link {
    type Result = ();

    fn handle(&mut self, message: SnapshotSent, _: &mut Context<Self>) {
        self.snapshot_under_way = false;
        if !message.arrived && mutants::active(Mutant::TransferFailureHidden) {
            return;
        }
        let member = self.remote.member;
        self.consensus
            .add(|incoming| incoming.snapshot_reports.push((member, message.arrived)));
    }
}
