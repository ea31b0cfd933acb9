//! Fetching a backup of one member.

use super::error::Error;
use super::requests::Client;
use crate::proto::etcdserverpb::SnapshotRequest;
use crate::proto::etcdserverpb::maintenance_client::MaintenanceClient;
use sha2::{Digest, Sha256};
use tonic::{Response, Status};

/// The SHA-256 that follows the file.
const SUM_BYTES: usize = 32;

impl Client {
    /// A member's state as the file that etcd's tools read, without the SHA-256 behind it, which has been checked. The whole file
    /// is in memory, and must arrive within the client's limit for one request.
    pub async fn snapshot(&self, request: SnapshotRequest) -> Result<Vec<u8>, Error> {
        self.read(request, |channel, request| async move {
            let mut client = MaintenanceClient::new(channel).max_decoding_message_size(usize::MAX);
            let mut messages = client.snapshot(request).await?.into_inner();
            let mut file = Vec::new();
            while let Some(message) = messages.message().await? {
                file.extend_from_slice(&message.blob);
            }
            let sum = file.split_off(file.len().saturating_sub(SUM_BYTES));
            if *Sha256::digest(&file) != sum[..] {
                return Err(Status::data_loss("the backup does not have its checksum"));
            }
            Ok(Response::new(file))
        })
        .await
    }
}
