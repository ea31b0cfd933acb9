//! Maintenance.Snapshot: the state as one file, in pieces, followed by its SHA-256. Mirrors etcd's
//! server/etcdserver/api/v3rpc/maintenance.go; see [`backup`](crate::backup) for the file.
//!
//! A separate thread reads the state, at a lower priority than requests of clients.

use super::backend::Backend;
use super::body::{Body, Messages, frame};
use super::status::{CallError, EtcdError};
use crate::backup::BackupFile;
use crate::backup::file::BackupError;
use crate::env;
use crate::limits::{BACKUP_CHUNK_TIMEOUT, sizes};
use crate::proto::etcdserverpb::{SnapshotRequest, SnapshotResponse};
use crate::state::View;
use bytes::Bytes;
use futures_util::StreamExt;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

/// Messages that wait for the client to take them.
const MESSAGES_AHEAD: usize = 4;

/// `places` bounds the number of concurrent snapshots.
pub fn snapshot(backend: &impl Backend, _: SnapshotRequest, places: &Arc<Semaphore>) -> Result<Body, Status> {
    let place = Arc::clone(places)
        .try_acquire_owned()
        .map_err(|_| EtcdError::TooManyRequests)?;
    Ok(Body::messages(read(backend.view(), place, BACKUP_CHUNK_TIMEOUT)))
}

/// `patience` is how long the client may take for a message.
fn read(view: Arc<View>, place: OwnedSemaphorePermit, patience: Duration) -> Messages {
    let (messages, stream) = mpsc::channel(MESSAGES_AHEAD);
    // Separate from the messages: a client that does not read them still gets the reason for the end.
    let (end, ended) = oneshot::channel();
    let run = move || async move {
        let mut sending = Sending {
            messages,
            patience,
            sum: Sha256::new(),
            left: 0,
            storage_version: view.cluster.storage_version().to_owned(),
        };
        let outcome = sending.all(view).await;
        if let Err(status) = &outcome {
            tracing::warn!(error = %status.message(), "failed to send the database snapshot");
        }
        // If the client has disconnected, there is no receiver.
        let _ = end.send(outcome);
        drop(place);
    };
    // The thread ends with the stream, or once its reader is dropped.
    let _detached = env::with_patient_threads(|| env::thread("backup", 1, run));
    let end = async move {
        let outcome = ended.await.unwrap_or_else(|_| Err(EtcdError::Stopped.into()));
        outcome.err().map(Err)
    };
    let end = futures_util::stream::once(end).filter_map(std::future::ready);
    let messages = ReceiverStream::new(stream).map(Ok).chain(end);
    Box::pin(messages)
}

struct Sending {
    messages: mpsc::Sender<Bytes>,
    patience: Duration,
    sum: Sha256,
    /// Remaining bytes of the file.
    left: u64,
    storage_version: String,
}

impl Sending {
    async fn all(&mut self, view: Arc<View>) -> Result<(), Status> {
        let begin = env::now();
        let mut file = BackupFile::lay_out(view, || !self.messages.is_closed()).map_err(failed)?;
        let total_bytes = file.bytes();
        tracing::info!(
            total_bytes,
            storage_version = self.storage_version,
            "sending database snapshot to client"
        );
        self.left = total_bytes;
        let mut buffer = Vec::new();
        while let Some(pages) = file.next_pages().map_err(failed)? {
            buffer.extend_from_slice(&pages);
            if buffer.len() >= sizes().backup_chunk_bytes {
                self.blobs(std::mem::take(&mut buffer).into()).await?;
            }
        }
        self.blobs(buffer.into()).await?;
        let sum = Bytes::copy_from_slice(&self.sum.finalize_reset());
        tracing::info!(
            total_bytes,
            checksum_size = sum.len(),
            "sending database sha256 checksum to client"
        );
        self.send(sum).await?;
        tracing::info!(
            total_bytes,
            took = ?env::now() - begin,
            "successfully sent database snapshot to client"
        );
        Ok(())
    }

    /// Sends the next bytes of the file. A long value makes them exceed what one message may carry.
    async fn blobs(&mut self, mut bytes: Bytes) -> Result<(), Status> {
        while !bytes.is_empty() {
            let blob = bytes.split_to(bytes.len().min(sizes().backup_chunk_bytes));
            self.sum.update(&blob);
            self.left -= blob.len() as u64;
            self.send(blob).await?;
        }
        Ok(())
    }

    async fn send(&mut self, blob: Bytes) -> Result<(), Status> {
        let message = frame(&SnapshotResponse {
            header: None,
            remaining_bytes: self.left,
            blob,
            version: self.storage_version.clone(),
        })?;
        let sent = env::timeout(self.patience, self.messages.send(message)).await;
        sent.map_err(|_| Status::deadline_exceeded("the client does not read"))?
            .map_err(|_| Status::cancelled("the client has gone"))
    }
}

fn failed(error: BackupError) -> Status {
    match error {
        BackupError::State(error) => CallError::from(error).into(),
        BackupError::Abandoned => Status::cancelled(error.to_string()),
        error @ BackupError::Unlike(_) => Status::data_loss(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::testing::{TestMember, put};
    use tonic::Code;

    #[test]
    fn a_client_that_does_not_read_is_told_that_it_was_given_up() {
        env::block_on(async {
            let mut member = TestMember::new();
            member.run(put("long", &"l".repeat(1_000_000))).unwrap();
            let places = Arc::new(Semaphore::new(1));
            let place = Arc::clone(&places).try_acquire_owned().expect("free");
            let mut messages = read(member.view(), place, Duration::from_millis(20));
            // The place is free again although the client has read nothing.
            let freed = env::timeout(Duration::from_secs(10), places.acquire()).await;
            drop(freed.expect("in time").expect("open"));
            let mut sent = 0;
            let status = loop {
                match messages.next().await.expect("not the end") {
                    Ok(_) => sent += 1,
                    Err(status) => break status,
                }
            };
            assert_eq!((sent, status.code()), (MESSAGES_AHEAD, Code::DeadlineExceeded));
            assert!(messages.next().await.is_none());
        });
    }
}
