//! The sending end of a snapshot: the records of one view, in chunks on a stream of its own. After a lost connection it
//! resumes where the receiver stands.

use super::envelope;
use super::link::{Remote, connect};
use super::progress::Progress;
use crate::env;
use crate::limits::sizes;
use crate::mutants::{self, Mutant};
use crate::proto::peer::{self, SnapshotPosition, SnapshotReply};
use crate::state::View;
use crate::storage::state::error::StateError;
use crate::storage::state::snapshot::Cursor;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

/// Chunks queued for the connection.
const CHUNKS_AHEAD: usize = 4;
/// The time limit for each chunk, however slow the network, and for the first message of either end. After it the transfer is
/// given up, so that another one can begin: damage on a connection can leave both ends waiting for ever.
pub(super) const CHUNK_TIMEOUT: Duration = Duration::from_secs(15);
/// Retries before raft is told that the snapshot did not arrive. Raft then starts another one.
const ATTEMPTS_MAX: usize = 5;
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// The time limit for the receiver's last answer, after its final sync.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(2);

/// Why a snapshot did not arrive.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    #[error("{}", .0.message())]
    Remote(#[from] Status),
    #[error("the state cannot be read: {0}")]
    State(#[from] StateError),
    #[error("the receiver did not answer in time")]
    TimedOut,
}

/// Sends the state of `view`, which raft's message announces.
pub async fn send(remote: &Remote, announcement: peer::Message, view: &View) -> Result<(), SendError> {
    let mut attempt = 0;
    let snapshot = announcement.snapshot.as_ref();
    let expected_bytes = snapshot.map_or(0, |snapshot| snapshot.expected_bytes);
    let mut progress = Progress::new(expected_bytes, 0, env::now());
    loop {
        match send_once(remote, attempt, announcement.clone(), view, &mut progress).await {
            Err(SendError::Remote(status))
                if status.code() == tonic::Code::Unavailable && attempt < ATTEMPTS_MAX =>
            {
                tracing::warn!(remote_member = %remote.member, error = %status.message(), "sending the snapshot goes on");
                attempt += 1;
                env::sleep(RETRY_AFTER).await;
            }
            outcome => return outcome,
        }
    }
}

async fn send_once(
    remote: &Remote,
    attempt: usize,
    announcement: peer::Message,
    view: &View,
    progress: &mut Progress,
) -> Result<(), SendError> {
    let mut client = connect(remote, attempt).await?;
    let (chunks, stream) = mpsc::channel(CHUNKS_AHEAD);
    let first = envelope::announce(&remote.hello(), &announcement);
    chunks
        .try_send(first)
        .map_err(|_| Status::internal("an empty channel is full"))?;
    let begin = async {
        let mut replies = client.snapshot(ReceiverStream::new(stream)).await?.into_inner();
        let reply = next(&mut replies).await?;
        Ok::<_, Status>((replies, reply))
    };
    let (mut replies, reply) = env::timeout(CHUNK_TIMEOUT, begin)
        .await
        .map_err(|_| stands_still())??;
    let after = reply
        .resume_after
        .map(|SnapshotPosition { keyspace, key }| Cursor { keyspace, key });
    let mut records = view.records(after.as_ref())?;
    if after.is_some() && mutants::active(Mutant::TransferSkipsRecord) {
        records.next().transpose()?;
    }
    for number in 1.. {
        let found = records.next_chunk(sizes().snapshot_chunk_bytes)?;
        let last = found.is_empty();
        let bytes: usize = found.iter().map(envelope::record_bytes).sum();
        let chunk = envelope::wrap_records(number, found, last);
        let sent = env::timeout(CHUNK_TIMEOUT, chunks.send(chunk)).await;
        let sent = sent.map_err(|_| stands_still())?;
        if sent.is_err() || last {
            break;
        }
        if let Some(line) = progress.add(bytes as u64, env::now()) {
            tracing::info!(
                remote_peer_id = %remote.member, bytes = line.bytes, percent = line.percent,
                bytes_per_second = line.bytes_per_second, "sending database snapshot"
            );
        }
        env::yield_now().await;
    }
    let reply = env::timeout(ANSWER_TIMEOUT, next(&mut replies))
        .await
        .map_err(|_| SendError::TimedOut)??;
    if reply.complete {
        Ok(())
    } else {
        Err(Status::internal("the receiver did not complete the snapshot").into())
    }
}

/// A stalled transfer is retried.
pub(super) fn stands_still() -> Status {
    Status::unavailable("the transfer stands still")
}

async fn next(replies: &mut Streaming<SnapshotReply>) -> Result<SnapshotReply, Status> {
    let reply = replies
        .message()
        .await?
        .ok_or_else(|| Status::unavailable("closed by the receiver"))?;
    envelope::check_snapshot_reply(&reply).map_err(|error| Status::data_loss(error.to_string()))?;
    Ok(reply)
}
