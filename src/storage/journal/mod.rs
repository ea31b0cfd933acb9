//! What a look at the storage engine's journals tells before the engine opens them.
//!
//! The engine takes whatever it cannot read in a journal for the torn end of it, and cuts it off in silence. That is
//! right after a loss of power, and forgets what was acknowledged when the disk has rotted. It also trusts sequence
//! numbers that no checksum covers. So each journal is read first, from the disk and not from the operating system's
//! memory of it ([`Found::look`]). Where one does not read on, `journal/damage` tells what is torn from what has rotted;
//! only the newest may end torn, since the others were synced when their successor was begun.
//!
//! Looking changes nothing, but that it puts back what a start has cut off that was killed undecided. A torn end is cut off
//! afterwards ([`Found::cut`]), since the engine refuses some torn batches. Whether a journal of few batches was torn or has
//! rotted cannot be told from itself alone: should it turn out that there was more, [`Found::put_back`] leaves it as it was
//! found. Until that is decided the end is kept in a file beside (`journal/torn`), for a process that is killed in between.
//!
//! The layout is that of `journal/batch`; not here: what batches mean.

pub mod batch;
mod damage;
mod torn;
pub mod writer;

use crate::env::{self, DiskFile, FileError};
use crate::mutants::{self, Mutant};
use crate::storage::journal::batch::{Batch, KeyspaceSet};
use crate::storage::journal::damage::Remains;
use std::path::{Path, PathBuf};

/// Sequence numbers grow by one a batch, and by little more where tables are made.
const SEQUENCE_STEP_MAX: u64 = 1 << 32;

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{path} has rotted at byte {offset}: {what}", path = path.display())]
    Rotten {
        path: PathBuf,
        offset: u64,
        what: &'static str,
    },
}

/// What the engine does in a database that is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// As soon as the database is open it makes tables of what older journals hold, and removes these; it may begin another
    /// journal behind the newest.
    Works,
    /// Nothing: it has no thread. Journals stay as they are, but for the room at the end of the newest. Nobody may write.
    Rests,
}

impl Engine {
    pub(in crate::storage) const fn threads(self) -> usize {
        match self {
            Self::Works => 1,
            Self::Rests => 0,
        }
    }
}

/// A database's journals as they were found.
#[derive(Debug, Default)]
pub struct Found {
    directory: PathBuf,
    /// With their lengths, oldest first: the engine cuts off the room at the end of the newest.
    lengths: Vec<(PathBuf, u64)>,
    /// How many sound batches they hold.
    pub batches: u64,
    /// The sequence number of the last one.
    sequence: u64,
    /// Where the next batch will stand, as marks count; none if no batch tells.
    pub(in crate::storage) position: Option<u64>,
    torn: Option<Torn>,
    /// Of which keyspaces the batches hold items.
    pub(in crate::storage) keyspaces: KeyspaceSet,
}

/// The torn end of the newest journal.
#[derive(Debug)]
struct Torn {
    offset: u64,
    bytes: Vec<u8>,
    /// Sound batches follow.
    is_followed: bool,
    /// No batch before this sequence number is lost; none if nothing tells.
    lost_from: Option<u64>,
}

impl Found {
    /// Looks at the journals of the database in a directory, once what a start has cut off is back that was killed before it
    /// was decided.
    pub fn look(directory: &Path) -> Result<Self, JournalError> {
        let mut found = Self {
            directory: directory.to_owned(),
            ..Self::default()
        };
        if !env::exists(directory) {
            return Ok(found);
        }
        // A process that was killed, or whose engine met an error, may have made or replaced a file and not come to sync its
        // directory. Entries would be written to that file, and others removed because it is there; then its name must not
        // go with the power.
        for made in directories(directory)? {
            env::sync_directory(&made)?;
        }
        torn::put_back(directory)?;
        let paths = list(directory)?;
        for path in &paths {
            found.look_at(path, Some(path) == paths.last())?;
        }
        Ok(found)
    }

    /// Looks at the next journal.
    fn look_at(&mut self, path: &Path, is_newest: bool) -> Result<(), JournalError> {
        let mut file = DiskFile::open(path)?;
        self.lengths.push((path.to_owned(), file.length()?));
        let mut offset = 0;
        let mut read = |buffer: &mut [u8]| file.read_exact(buffer);
        while let Some(batch) = Batch::read(&mut read)? {
            if !self.is_next(&batch, offset) {
                break;
            }
            self.sequence = batch.sequence;
            self.batches += 1;
            self.keyspaces.add(batch.keyspaces);
            offset += batch.bytes;
            let position = batch.mark.map(|mark| mark.position).or(self.position);
            self.position = position.map(|position| position.wrapping_add(batch.bytes));
        }
        let bytes = file.rest(offset)?;
        if bytes.is_empty() {
            return Ok(());
        }
        let rotten = |what| {
            let path = path.to_owned();
            Err(JournalError::Rotten { path, offset, what })
        };
        if !is_newest {
            return rotten("it does not read to its end, and a newer journal follows");
        }
        let remains = Remains {
            bytes: &bytes,
            offset,
            position: self.position,
        };
        if let Some(what) = remains.why_rotten()
            && !mutants::active(Mutant::RotTakenForTorn)
        {
            return rotten(what);
        }
        let is_followed = remains.is_followed();
        let lost_from = match self.batches {
            0 => Batch::claimed_sequence(&bytes),
            _ => Some(self.sequence + 1),
        };
        self.torn = Some(Torn {
            offset,
            bytes,
            is_followed,
            lost_from,
        });
        Ok(())
    }

    /// Whether a batch comes after those before it. Journals that are not needed any more are removed, and may come back
    /// with the power: there may be a gap before one.
    fn is_next(&self, batch: &Batch, offset: u64) -> bool {
        let is_first = self.batches == 0 && batch.sequence == 0;
        let is_in_place = match (batch.mark, self.position) {
            (Some(mark), Some(position)) => mark.position == position || offset == 0,
            (None, Some(_)) => false,
            (_, None) => true,
        };
        is_in_place && (is_first || follows(batch, self.sequence))
    }

    /// Whether there are others than the newest: an engine that works makes tables of them.
    pub const fn has_older(&self) -> bool {
        self.lengths.len() > 1
    }

    /// Whether a torn end will be cut off.
    pub const fn is_torn(&self) -> bool {
        self.torn.is_some()
    }

    /// Cuts the torn end off, durably. Nobody may use the journals. Then either [`Self::put_back`] or [`Self::accept`] is due.
    pub fn cut(&self) -> Result<(), FileError> {
        let (Some(torn), Some((path, length))) = (&self.torn, self.lengths.last()) else {
            return Ok(());
        };
        torn::keep(path, torn.offset, &torn.bytes, *length)?;
        let (offset, bytes) = (torn.offset, torn.bytes.len());
        if torn.is_followed {
            tracing::warn!(
                path = %path.display(),
                offset,
                bytes,
                "cut a torn batch off a journal, and sound ones that follow it"
            );
        } else {
            tracing::warn!(path = %path.display(), offset, bytes, "cut a torn batch off a journal");
        }
        DiskFile::open(path)?.truncate(torn.offset)
    }

    /// Makes the journals what they were before they were cut and opened, durably. Nobody may use them any more, nor have
    /// written to them.
    pub fn put_back(&self) -> Result<(), FileError> {
        for (path, length) in &self.lengths {
            // An engine that works removes a journal that it has made tables of, and may have been at it already.
            if !env::exists(path) {
                continue;
            }
            let mut file = DiskFile::open(path)?;
            let (offset, bytes) = match &self.torn {
                Some(torn) if self.lengths.last().is_some_and(|(newest, _)| newest == path) => {
                    (torn.offset, torn.bytes.as_slice())
                }
                _ if file.length()? == *length => continue,
                _ => (file.length()?.min(*length), &[][..]),
            };
            file.write_rest(offset, bytes, *length)?;
        }
        self.accept()
    }

    /// The start goes on: what was cut off is not needed any more. Durable on return.
    pub fn accept(&self) -> Result<(), FileError> {
        match self.torn {
            Some(_) => torn::forget(&self.directory),
            None => Ok(()),
        }
    }

    /// What is wrong with the journals if tables hold changes up to this sequence number. The engine syncs a journal before
    /// it makes tables of what that holds.
    pub fn check_tables(&self, sequence: u64) -> Result<(), JournalError> {
        match (&self.torn, self.lengths.last()) {
            (Some(torn), Some((path, _))) if torn.lost_from.is_some_and(|lost| sequence >= lost) => {
                Err(JournalError::Rotten {
                    path: path.clone(),
                    offset: torn.offset,
                    what: "tables hold what should follow here",
                })
            }
            _ => Ok(()),
        }
    }
}

/// Up to where the last sound batch of a journal shows that it was on the disk.
pub fn known_synced(path: &Path) -> Result<u64, FileError> {
    let mut file = DiskFile::open(path)?;
    let (mut offset, mut known) = (0_u64, 0);
    while let Some(batch) = Batch::read(&mut |buffer: &mut [u8]| file.read_exact(buffer))? {
        if let Some(mark) = batch.mark {
            known = offset.saturating_sub(mark.position - mark.synced);
        }
        offset += batch.bytes;
    }
    Ok(known)
}

/// The journals of the database in a directory, oldest first.
pub fn list(directory: &Path) -> Result<Vec<PathBuf>, FileError> {
    let numbers = numbers(directory)?.into_iter();
    Ok(numbers.map(|number| path_of(directory, number)).collect())
}

/// The directories in which the engine makes, replaces and removes files of a database: its own, and those of its keyspaces
/// with their tables.
fn directories(database: &Path) -> Result<Vec<PathBuf>, FileError> {
    let keyspaces = database.join("keyspaces");
    let mut found = vec![database.to_owned()];
    if !env::exists(&keyspaces) {
        return Ok(found);
    }
    for name in env::list_directory(&keyspaces)? {
        let keyspace = keyspaces.join(name);
        let tables = keyspace.join("tables");
        found.extend(env::exists(&tables).then_some(tables));
        found.extend(env::is_directory(&keyspace).then_some(keyspace));
    }
    found.push(keyspaces);
    Ok(found)
}

/// The number of the newest one.
pub(in crate::storage) fn newest(directory: &Path) -> Result<Option<u64>, FileError> {
    Ok(numbers(directory)?.pop())
}

/// The number of the oldest one after another.
pub(in crate::storage) fn oldest_behind(directory: &Path, number: u64) -> Result<Option<u64>, FileError> {
    Ok(numbers(directory)?.into_iter().find(|other| *other > number))
}

fn numbers(directory: &Path) -> Result<Vec<u64>, FileError> {
    let mut numbers: Vec<u64> = env::list_directory(directory)?
        .iter()
        .filter_map(|name| name.strip_suffix(".jnl")?.parse().ok())
        .collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// The journal of a number in the directory of a database.
pub(in crate::storage) fn path_of(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number}.jnl"))
}

/// A journal that is in use, read bit by bit: is all of it still what was written?
#[derive(Debug)]
pub struct JournalScan {
    file: DiskFile,
    path: PathBuf,
    /// Up to where all is well, and the number of the last batch there.
    pub(in crate::storage) offset: u64,
    sequence: u64,
}

/// How far a scan has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScanStep {
    /// This many bytes were read, and there are more.
    More(u64),
    Done,
    /// What begins here is not sound: in a journal that grows look again, it may be on its way.
    Unsound {
        offset: u64,
        what: &'static str,
    },
}

impl JournalScan {
    /// None if the journal has gone.
    pub fn open(path: &Path) -> Result<Option<Self>, FileError> {
        let file = DiskFile::look_into(path)?;
        Ok(file.map(|file| Self {
            file,
            path: path.to_owned(),
            offset: 0,
            sequence: 0,
        }))
    }

    /// Looks at what is unsound once more, from the disk; false if the journal has gone.
    pub fn look_again(&mut self) -> Result<bool, FileError> {
        let Some(mut file) = DiskFile::look_into(&self.path)? else {
            return Ok(false);
        };
        file.seek(self.offset)?;
        self.file = file;
        Ok(true)
    }

    /// Reads on, about so many bytes.
    pub fn advance(&mut self, bytes_max: u64) -> Result<ScanStep, FileError> {
        let begin = self.offset;
        while self.offset - begin < bytes_max {
            let file = &mut self.file;
            let batch = Batch::read(&mut |buffer: &mut [u8]| file.read_exact(buffer))?;
            match batch {
                Some(batch) if self.offset == 0 || follows(&batch, self.sequence) => {
                    self.sequence = batch.sequence;
                    self.offset += batch.bytes;
                }
                _ => return self.end(),
            }
        }
        Ok(ScanStep::More(self.offset - begin))
    }

    fn end(&mut self) -> Result<ScanStep, FileError> {
        let offset = self.offset;
        let bytes = self.file.rest(offset)?;
        let remains = Remains {
            bytes: &bytes,
            offset,
            position: None,
        };
        Ok(match remains.why_unsound() {
            Some(what) => ScanStep::Unsound { offset, what },
            None => ScanStep::Done,
        })
    }
}

fn follows(batch: &Batch, sequence: u64) -> bool {
    batch.sequence > sequence && batch.sequence - sequence <= SEQUENCE_STEP_MAX
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
