//! Checks the storage engine's journals before the engine opens them.
//!
//! The engine takes whatever it cannot read in a journal for a torn write, and silently truncates it. That is right after a power
//! loss, but loses acknowledged writes after bit rot. It also trusts sequence numbers that no checksum covers. So each journal is
//! read first, from the disk and not from the operating system's cache ([`Found::look`]). Where one cannot be read further,
//! `journal/damage` tells torn writes from bit rot. Only the newest journal may end torn, since the others were synced when their
//! successor was begun.
//!
//! Looking changes nothing, with one exception: it restores what an earlier start truncated if that start was killed before it
//! decided. A torn end is cut off afterwards ([`Found::cut`]), since the engine refuses some torn batches. A journal of few
//! batches cannot show on its own whether it was torn or has rotted: if it turns out that there was more, [`Found::put_back`]
//! restores it as it was found. Until that is decided, the end is kept in a separate file (`journal/torn`) in case the process is
//! killed.
//!
//! The layout is in `journal/batch`. Not here: what batches mean.

pub mod batch;
mod damage;
mod torn;
pub mod writer;

use crate::env::{self, DiskFile, FileError};
use crate::mutants::{self, Mutant};
use crate::storage::journal::batch::{Batch, KeyspaceSet};
use crate::storage::journal::damage::Remains;
use std::path::{Path, PathBuf};

/// Sequence numbers grow by one per batch, and by a little more where tables are written.
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

/// Whether the engine works in the background in a database that is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// As soon as the database is open, it writes older journals to tables and removes these journals; it may begin a new
    /// journal.
    Works,
    /// The engine has no thread. Journals stay as they are, except that the preallocated space at the end of the newest is cut
    /// off. Writing is not allowed.
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
    /// With their lengths, oldest first: the engine cuts off the preallocated space at the end of the newest.
    lengths: Vec<(PathBuf, u64)>,
    /// The number of sound batches.
    pub batches: u64,
    /// The sequence number of the last batch.
    sequence: u64,
    /// The position of the next batch, in terms of marks; none if no batch has a mark.
    pub(in crate::storage) position: Option<u64>,
    torn: Option<Torn>,
    /// The keyspaces for which the batches hold items.
    pub(in crate::storage) keyspaces: KeyspaceSet,
}

/// The torn end of the newest journal.
#[derive(Debug)]
struct Torn {
    offset: u64,
    bytes: Vec<u8>,
    /// Sound batches follow.
    is_followed: bool,
    /// No batch before this sequence number is lost; none if unknown.
    lost_from: Option<u64>,
}

impl Found {
    /// Inspects the journals of the database in a directory. First restores what an earlier start truncated if it was killed
    /// before it decided.
    pub fn look(directory: &Path) -> Result<Self, JournalError> {
        let mut found = Self {
            directory: directory.to_owned(),
            ..Self::default()
        };
        if !env::exists(directory) {
            return Ok(found);
        }
        // A process that was killed, or whose engine failed, may have created or replaced a file without syncing its directory.
        // This process would write entries to that file, and remove others because it exists. So its name must survive a power
        // loss.
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

    /// Whether a batch follows those before it. Obsolete journals are removed, and may reappear after a power loss, so there may
    /// be a gap before a journal.
    fn is_next(&self, batch: &Batch, offset: u64) -> bool {
        let is_first = self.batches == 0 && batch.sequence == 0;
        let is_in_place = match (batch.mark, self.position) {
            (Some(mark), Some(position)) => mark.position == position || offset == 0,
            (None, Some(_)) => false,
            (_, None) => true,
        };
        is_in_place && (is_first || follows(batch, self.sequence))
    }

    /// Whether there are older journals than the newest: a working engine writes them to tables.
    pub const fn has_older(&self) -> bool {
        self.lengths.len() > 1
    }

    /// Whether a torn end will be cut off.
    pub const fn is_torn(&self) -> bool {
        self.torn.is_some()
    }

    /// Cuts off the torn end, durably. The journals must not be in use. Call [`Self::put_back`] or [`Self::accept`] afterwards.
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

    /// Restores the journals as they were before they were cut and opened, durably. They must no longer be in use, and must not
    /// have been written to.
    pub fn put_back(&self) -> Result<(), FileError> {
        for (path, length) in &self.lengths {
            // A working engine removes a journal that it has written to tables, and may have done so already.
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

    /// Accepts the cut: the saved end is removed. Durable on return.
    pub fn accept(&self) -> Result<(), FileError> {
        match self.torn {
            Some(_) => torn::forget(&self.directory),
            None => Ok(()),
        }
    }

    /// Checks the journals, given that tables hold changes up to this sequence number. The engine syncs a journal before it
    /// writes its content to tables.
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

/// The offset up to which the last sound batch of a journal proves that it was on disk.
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

/// The directories in which the engine creates, replaces and removes files of a database: its own, and those of its keyspaces and
/// their tables.
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

/// The number of the newest journal.
pub(in crate::storage) fn newest(directory: &Path) -> Result<Option<u64>, FileError> {
    Ok(numbers(directory)?.pop())
}

/// The number of the oldest journal after the given one.
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

/// The path of the journal with this number in the directory of a database.
pub(in crate::storage) fn path_of(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number}.jnl"))
}

/// Reads a journal that is in use, in pieces: does it still hold what was written?
#[derive(Debug)]
pub struct JournalScan {
    file: DiskFile,
    path: PathBuf,
    /// The offset up to which all is sound, and below it the number of the last batch there.
    pub(in crate::storage) offset: u64,
    sequence: u64,
}

/// The progress of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScanStep {
    /// This many bytes were read, and there are more.
    More(u64),
    Done,
    /// The bytes from here on are not sound. In a journal that grows, look again: a write may be in progress.
    Unsound {
        offset: u64,
        what: &'static str,
    },
}

impl JournalScan {
    /// None if the journal has been removed.
    pub fn open(path: &Path) -> Result<Option<Self>, FileError> {
        let file = DiskFile::look_into(path)?;
        Ok(file.map(|file| Self {
            file,
            path: path.to_owned(),
            offset: 0,
            sequence: 0,
        }))
    }

    /// Rereads the unsound part from the disk; false if the journal has been removed.
    pub fn look_again(&mut self) -> Result<bool, FileError> {
        let Some(mut file) = DiskFile::look_into(&self.path)? else {
            return Ok(false);
        };
        file.seek(self.offset)?;
        self.file = file;
        Ok(true)
    }

    /// Reads about `bytes_max` bytes further.
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
