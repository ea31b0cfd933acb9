//! The sending end of a snapshot: the records of one view, in chunks on a stream of their own, gone on with after a lost
//! connection from where the receiver stands.

use super::envelope;
use super::link::{Remote, connect};
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

/// Chunks on their way into the connection.
const CHUNKS_AHEAD: usize = 4;
/// No chunk is longer on its way, however slow the network, nor are the first words of either end: after that either gives
/// the transfer up, so that another one can begin. What was damaged on a connection can leave both waiting for ever.
pub(super) const CHUNK_TIMEOUT: Duration = Duration::from_secs(15);
/// Attempts before raft is told that the snapshot did not arrive; it starts another then.
const ATTEMPTS_MAX: usize = 5;
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// The receiver's last answer, after syncing all of it.
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

/// Sends the state of `view`, announced by raft's message.
pub async fn send(remote: &Remote, announcement: peer::Message, view: &View) -> Result<(), SendError> {
    let mut attempt = 0;
    loop {
        match send_once(remote, attempt, announcement.clone(), view).await {
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
        let chunk = envelope::wrap_records(number, found, last);
        let sent = env::timeout(CHUNK_TIMEOUT, chunks.send(chunk)).await;
        let sent = sent.map_err(|_| stands_still())?;
        if sent.is_err() || last {
            break;
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

/// What is tried again.
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
