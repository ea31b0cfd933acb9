//! Maintenance.Snapshot: the state as one file, in pieces, and then the SHA-256 of it. Mirrors etcd's
//! server/etcdserver/api/v3rpc/maintenance.go; see [`backup`](crate::backup) for the file.
//!
//! A thread of its own reads the state, less urgently than what clients wait for.

use super::backend::Backend;
use super::body::{Body, frame};
use super::status::{ApiError, Failure};
use crate::backup::BackupFile;
use crate::backup::file::BackupError;
use crate::config::CLUSTER_VERSION;
use crate::env;
use crate::limits::{BACKUP_CHUNK_BYTES, BACKUP_CHUNK_TIMEOUT};
use crate::mvcc::View;
use crate::proto::etcdserverpb::{SnapshotRequest, SnapshotResponse};
use bytes::Bytes;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

/// Messages that wait for the client to take them.
const MESSAGES_AHEAD: usize = 4;

/// `places` bounds how many of them are under way.
pub fn snapshot(backend: &impl Backend, _: SnapshotRequest, places: &Arc<Semaphore>) -> Result<Body, Status> {
    let place = Arc::clone(places)
        .try_acquire_owned()
        .map_err(|_| ApiError::TooManyRequests)?;
    let view = backend.view();
    let (messages, stream) = mpsc::channel(MESSAGES_AHEAD);
    let run = move || async move {
        let mut sending = Sending {
            messages,
            sum: Sha256::new(),
            left: 0,
        };
        if let Err(status) = sending.all(view).await {
            tracing::warn!(error = %status.message(), "failed to send the database snapshot");
            // If it was the client who has gone, nobody listens.
            let _ = sending.messages.send(Err(status)).await;
        }
        drop(place);
    };
    // The thread ends with the stream, or once whoever reads that has gone.
    let _detached = env::with_patient_threads(|| env::thread("backup", 1, run));
    Ok(Body::messages(Box::pin(ReceiverStream::new(stream))))
}

struct Sending {
    messages: mpsc::Sender<Result<Bytes, Status>>,
    sum: Sha256,
    /// Bytes of the file.
    left: u64,
}

impl Sending {
    async fn all(&mut self, view: Arc<View>) -> Result<(), Status> {
        let begin = env::now();
        let mut file = BackupFile::lay_out(view, || !self.messages.is_closed()).map_err(failed)?;
        let total_bytes = file.bytes();
        tracing::info!(
            total_bytes,
            storage_version = CLUSTER_VERSION,
            "sending database snapshot to client"
        );
        self.left = total_bytes;
        let mut buffer = Vec::new();
        while let Some(pages) = file.next_pages().map_err(failed)? {
            buffer.extend_from_slice(&pages);
            if buffer.len() >= BACKUP_CHUNK_BYTES {
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

    /// Sends what is at hand of the file. A long value makes it longer than what one message carries.
    async fn blobs(&mut self, mut bytes: Bytes) -> Result<(), Status> {
        while !bytes.is_empty() {
            let blob = bytes.split_to(bytes.len().min(BACKUP_CHUNK_BYTES));
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
            version: CLUSTER_VERSION.to_owned(),
        });
        let sent = env::timeout(BACKUP_CHUNK_TIMEOUT, self.messages.send(Ok(message))).await;
        sent.map_err(|_| Status::deadline_exceeded("the client does not read"))?
            .map_err(|_| Status::cancelled("the client has gone"))
    }
}

fn failed(error: BackupError) -> Status {
    match error {
        BackupError::State(error) => Failure::from(error).into(),
        BackupError::Abandoned => Status::cancelled(error.to_string()),
        error @ BackupError::Unlike(_) => Status::data_loss(error.to_string()),
    }
}
