//! The receiving end of a snapshot: records are written to a state directory beside the one in use. Only when the last
//! has come and all of it is synced does raft hear of it. A transfer that broke off is kept, so that the same snapshot
//! goes on where it stopped; another one starts afresh.

use super::envelope;
use crate::consensus::inbox::ArrivedSnapshot;
use crate::env;
use crate::ids::{LogIndex, MemberId, Term};
use crate::proto::peer::{SnapshotChunk, SnapshotPosition};
use crate::storage::directory::DataDirectory;
use crate::storage::state::StateOptions;
use crate::storage::state_error::StateError;
use crate::storage::state_snapshot::StateImport;
use std::sync::Arc;
use tonic::{Code, Status};

/// Which snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotId {
    pub from: MemberId,
    pub index: LogIndex,
    pub term: Term,
}

/// What has arrived of a snapshot so far.
pub struct Partial {
    pub id: SnapshotId,
    pub position: Option<SnapshotPosition>,
    import: StateImport,
}

impl Partial {
    /// Starts in a fresh directory beside the state in use.
    pub fn begin(id: SnapshotId, directory: &DataDirectory, options: &StateOptions) -> Result<Self, Status> {
        let path = directory.next_state_path().map_err(|error| failed(&error))?;
        env::remove_directory(&path).map_err(|error| failed(&error))?;
        let import = StateImport::begin(&path, options).map_err(|error| failed(&error))?;
        Ok(Self {
            id,
            position: None,
            import,
        })
    }

    /// Takes a chunk in.
    pub fn take(&mut self, chunk: &SnapshotChunk) -> Result<(), Status> {
        let records =
            envelope::unwrap_records(chunk).map_err(|error| Status::data_loss(error.to_string()))?;
        let last = records.last().map(|record| SnapshotPosition {
            keyspace: record.keyspace,
            key: record.key.clone(),
        });
        self.import
            .write(records)
            .map_err(|error| failed_import(&error))?;
        if last.is_some() {
            self.position = last;
        }
        Ok(())
    }

    /// Syncs what has arrived: the whole snapshot.
    pub async fn finish(self, announcement: crate::proto::peer::Message) -> Result<ArrivedSnapshot, Status> {
        let import = self.import;
        let state = env::disk_sync(move || import.finish())
            .await
            .map_err(|error| failed_import(&error))?;
        Ok(ArrivedSnapshot {
            announcement,
            state: Arc::clone(&state),
        })
    }
}

/// The status of a failure to store what came: this member's own disk is at fault.
pub const DISK_FAILED: Code = Code::Internal;

fn failed(error: &dyn std::error::Error) -> Status {
    Status::new(DISK_FAILED, format!("cannot store the snapshot: {error}"))
}

/// A snapshot that cannot be one is its sender's fault.
fn failed_import(error: &StateError) -> Status {
    match error {
        StateError::UnknownKeyspace(_) | StateError::ImportIncomplete => {
            Status::invalid_argument(error.to_string())
        }
        _ => failed(error),
    }
}
