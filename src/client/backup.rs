//! Fetching a backup of one member.

use super::error::Error;
use super::requests::Client;
use crate::proto::etcdserverpb::SnapshotRequest;
use crate::proto::etcdserverpb::maintenance_client::MaintenanceClient;
use sha2::{Digest, Sha256};
use tonic::{Response, Status};

/// What stands behind the file: its SHA-256.
const SUM_BYTES: usize = 32;

impl Client {
    /// The state of a member as the file that etcd's tools know, without the sum behind it, which has been checked. All of it
    /// is in memory, and has to come within the client's limit for one request.
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
