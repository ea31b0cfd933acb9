//! The receiving end of a snapshot: records are written to a state directory next to the one in use. Raft hears of the
//! snapshot only once the last record has arrived and all are synced. An interrupted transfer is kept: the same snapshot
//! resumes where it stopped, and another one starts afresh.
//!
//! There is one directory for this, hence one permit to receive. It is held until the state is in use or refused, so that a
//! second snapshot cannot remove the first one's files.

use super::envelope;
use crate::consensus::inbox::ArrivedSnapshot;
use crate::env;
use crate::ids::{LogIndex, MemberId, Term};
use crate::limits::{DISK_BYTES_PER_SNAPSHOT_BYTE, SNAPSHOT_DISK_BYTES_MIN};
use crate::mutants::{self, Mutant};
use crate::proto::peer::{Message, SnapshotChunk, SnapshotMetadata, SnapshotPosition};
use crate::storage::directory::DataDirectory;
use crate::storage::state::StateOptions;
use crate::storage::state::error::StateError;
use crate::storage::state::snapshot::StateImport;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Code, Status};

/// Identifies a snapshot and the stream of its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotId {
    pub from: MemberId,
    pub index: LogIndex,
    pub term: Term,
    /// The sender's name for the view that it sends; 0 if it does not state one.
    pub stream: u64,
}

impl SnapshotId {
    pub fn new(announcement: &Message, snapshot: &SnapshotMetadata) -> Self {
        Self {
            from: MemberId(announcement.from),
            index: LogIndex(snapshot.index),
            term: Term(snapshot.term),
            stream: snapshot.stream,
        }
    }

    /// Whether records of one transfer can be continued by the other. A record may hold many changes, and a member that
    /// applies its log again after a crash packs them differently. The position after the last record of one stream may be in
    /// the middle of a record of another, so that changes would be missing or come twice.
    fn goes_on_in(self, other: Self) -> bool {
        if mutants::active(Mutant::StaleTransferResumed) {
            return true;
        }
        if mutants::active(Mutant::ResumedAcrossPacking) {
            return Self { stream: 0, ..self } == Self { stream: 0, ..other };
        }
        self == other && self.stream != 0
    }
}

/// The permit to receive a snapshot, and an interrupted transfer.
#[derive(Clone)]
pub struct Arrivals {
    places: Arc<Semaphore>,
    kept: Arc<Mutex<Option<Partial>>>,
}

impl Default for Arrivals {
    fn default() -> Self {
        Self {
            places: Arc::new(Semaphore::new(1)),
            kept: Arc::default(),
        }
    }
}

impl Arrivals {
    /// Takes the permit if it is free.
    pub fn place(&self) -> Result<OwnedSemaphorePermit, Status> {
        Arc::clone(&self.places)
            .try_acquire_owned()
            .map_err(|_| Status::resource_exhausted("another snapshot is under way"))
    }

    /// Resumes a kept transfer of the same snapshot, and discards one of another snapshot. The caller holds the permit.
    pub fn begin(
        &self,
        id: SnapshotId,
        directory: &DataDirectory,
        options: &StateOptions,
    ) -> Result<Partial, Status> {
        let kept = self.kept().take();
        let kept = kept.filter(|partial| partial.id.goes_on_in(id));
        kept.map_or_else(|| Partial::begin(id, directory, options), Ok)
    }

    /// Keeps an interrupted transfer. The caller holds the permit.
    pub fn keep(&self, partial: Partial) {
        if !partial.lacks_room {
            *self.kept() = Some(partial);
            return;
        }
        let path = partial.path.clone();
        drop(partial);
        if let Err(error) = env::remove_directory(&path) {
            tracing::warn!(%error, "cannot remove what has arrived of a snapshot");
        }
    }

    fn kept(&self) -> MutexGuard<'_, Option<Partial>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Checks that the chunks of a stream arrive in order.
#[derive(Debug, Default)]
pub struct ChunkOrder {
    number: u64,
}

impl ChunkOrder {
    /// Returns the chunk if it is intact and follows the one before it. The first chunk of a stream is checked elsewhere.
    pub fn check(&mut self, came: Option<SnapshotChunk>) -> Result<Option<SnapshotChunk>, Status> {
        let Some(chunk) = came else {
            return Ok(None);
        };
        if envelope::check_chunk(&chunk).is_err() {
            return Err(Status::unavailable("a chunk was damaged on its way"));
        }
        let expected = self.number + 1;
        if chunk.number != expected && !mutants::active(Mutant::ChunkGapsIgnored) {
            return Err(Status::unavailable(format!(
                "chunk {} came where {expected} was due",
                chunk.number
            )));
        }
        self.number = chunk.number;
        Ok(Some(chunk))
    }
}

/// What has arrived of a snapshot so far.
pub struct Partial {
    pub id: SnapshotId,
    pub position: Option<SnapshotPosition>,
    /// Bytes of keys and values so far.
    pub bytes: u64,
    import: StateImport,
    path: PathBuf,
    /// The disk has no room for more.
    lacks_room: bool,
}

impl Partial {
    /// Starts in a new directory next to the state in use.
    fn begin(id: SnapshotId, directory: &DataDirectory, options: &StateOptions) -> Result<Self, Status> {
        let path = directory.next_state_path().map_err(|error| failed(&error))?;
        env::remove_directory(&path).map_err(|error| failed(&error))?;
        let import = StateImport::begin(&path, options).map_err(|error| failed(&error))?;
        Ok(Self {
            id,
            position: None,
            bytes: 0,
            import,
            path,
            lacks_room: false,
        })
    }

    /// Writes the records of a chunk.
    pub fn take(&mut self, chunk: &SnapshotChunk) -> Result<(), Status> {
        let records =
            envelope::unwrap_records(chunk).map_err(|error| Status::data_loss(error.to_string()))?;
        let bytes: usize = records.iter().map(envelope::record_bytes).sum();
        let needed = SNAPSHOT_DISK_BYTES_MIN + DISK_BYTES_PER_SNAPSHOT_BYTE * bytes as u64;
        // The storage engine cannot continue on a full disk, and the space that it has taken is missing elsewhere.
        self.lacks_room = env::disk_space(&self.path).is_ok_and(|disk| disk.free_bytes < needed);
        if self.lacks_room {
            return Err(Status::resource_exhausted(
                "the receiver's disk has no room for the snapshot; free some space there",
            ));
        }
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
        self.bytes += bytes as u64;
        Ok(())
    }

    /// Syncs the complete snapshot.
    pub async fn finish(
        self,
        announcement: Message,
        place: OwnedSemaphorePermit,
    ) -> Result<ArrivedSnapshot, Status> {
        let import = self.import;
        let state = env::disk_sync(move || import.finish())
            .await
            .map_err(|error| failed_import(&error))?;
        Ok(ArrivedSnapshot {
            announcement,
            state,
            place,
        })
    }
}

/// The status of a failure to store a snapshot: this member's disk has failed.
pub const DISK_FAILED: Code = Code::Internal;

fn failed(error: &dyn std::error::Error) -> Status {
    Status::new(DISK_FAILED, format!("cannot store the snapshot: {error}"))
}

/// An invalid snapshot is the sender's fault, other errors are this member's.
fn failed_import(error: &StateError) -> Status {
    match error {
        StateError::UnknownKeyspace(_) | StateError::ImportIncomplete => {
            Status::invalid_argument(error.to_string())
        }
        _ => failed(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::peer::SnapshotRecord;
    use crate::storage::state::meta;
    use crate::storage::state::{StateDatabase, StateKeyspace};

    fn id(from: u64, index: u64) -> SnapshotId {
        SnapshotId {
            from: MemberId(from),
            index: LogIndex(index),
            term: Term(1),
            stream: 5,
        }
    }

    fn records(index: u64) -> Vec<SnapshotRecord> {
        let applied = meta::Applied {
            index,
            ..meta::Applied::empty()
        };
        vec![SnapshotRecord {
            keyspace: StateKeyspace::Meta.number(),
            key: meta::APPLIED_KEY.to_vec().into(),
            value: meta::encode(meta::APPLIED_KEY, &applied).into(),
        }]
    }

    #[test]
    fn a_chunk_that_vanished_is_missed() {
        let chunk = |number| envelope::wrap_records(number, Vec::new(), false);
        let mut order = ChunkOrder::default();
        assert!(order.check(Some(chunk(1))).is_ok());
        assert!(order.check(Some(chunk(2))).is_ok());
        assert_eq!(order.check(None).expect("an end"), None);
        let mut damaged = chunk(3);
        damaged.last = true;
        for wrong in [chunk(2), chunk(4), chunk(0), damaged] {
            let refused = order.check(Some(wrong)).expect_err("it is not the next");
            assert_eq!(refused.code(), Code::Unavailable, "{}", refused.message());
        }
        assert!(order.check(Some(chunk(3))).is_ok());
    }

    #[test]
    fn a_transfer_goes_on_only_in_the_records_that_it_began_with() {
        let scratch = tempfile::tempdir().expect("a directory");
        let directory = DataDirectory::open(scratch.path()).expect("a directory");
        let (arrivals, options) = (Arrivals::default(), StateOptions::simulator());
        let position = Some(SnapshotPosition {
            keyspace: StateKeyspace::Meta.number(),
            key: meta::APPLIED_KEY.to_vec().into(),
        });
        let in_stream = |stream| SnapshotId { stream, ..id(3, 601) };
        // The stream of the interrupted transfer; that of the next one; whether it resumes.
        for (begun, next, goes_on) in [(5, 5, true), (5, 6, false), (0, 0, false), (5, 0, false)] {
            let broken_off = arrivals.begin(in_stream(begun), &directory, &options);
            let mut broken_off = broken_off.expect("begun");
            broken_off
                .take(&envelope::wrap_records(1, records(601), false))
                .expect("written");
            assert_eq!(broken_off.position, position);
            arrivals.keep(broken_off);
            let resumed = arrivals
                .begin(in_stream(next), &directory, &options)
                .expect("begun");
            assert_eq!(resumed.position.is_some(), goes_on, "{begun}, then {next}");
        }
    }

    #[test]
    fn a_transfer_does_not_go_on_where_another_was() {
        let scratch = tempfile::tempdir().expect("a directory");
        let directory = DataDirectory::open(scratch.path()).expect("a directory");
        let (arrivals, options) = (Arrivals::default(), StateOptions::simulator());
        let place = arrivals.place().expect("free");
        assert!(arrivals.place().is_err(), "one at a time");

        let broken_off = arrivals.begin(id(3, 601), &directory, &options).expect("begun");
        arrivals.keep(broken_off);
        let mut goes_on = arrivals.begin(id(3, 601), &directory, &options).expect("kept");
        goes_on.import.write(records(601)).expect("written");
        arrivals.keep(goes_on);

        let mut other = arrivals.begin(id(1, 581), &directory, &options).expect("begun");
        other.import.write(records(581)).expect("written");
        drop(other.import.finish().expect("complete"));

        let mut again = arrivals.begin(id(3, 601), &directory, &options).expect("begun");
        again.import.write(records(601)).expect("written");
        let state = again.import.finish().expect("complete");
        let path = state.path().to_owned();
        drop((state, place));
        assert!(arrivals.place().is_ok());
        let found = StateDatabase::open(&path, &options).expect("sound");
        let applied = found
            .get(StateKeyspace::Meta, meta::APPLIED_KEY)
            .expect("readable");
        let applied: meta::Applied =
            meta::decode(meta::APPLIED_KEY, &applied.expect("there")).expect("sound");
        assert_eq!(applied.index, 601, "what is in use is on the disk");
    }
}
