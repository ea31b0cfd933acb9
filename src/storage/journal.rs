//! What a look at the storage engine's journals tells before the engine opens them.
//!
//! The engine takes whatever it cannot read in a journal for the torn end of it, and cuts it off in silence. That is
//! right after a loss of power, and forgets what was acknowledged when the disk has rotted. It also trusts sequence
//! numbers that no checksum covers. So each journal is read first, from the disk and not from the operating system's
//! memory of it:
//!
//! * A broken batch with a sound one behind it was written long ago: rot.
//! * A broken batch at the end whose last bytes are there was written in full: rot, unless a whole sector of it is
//!   missing, as when a disk lost its power between two sectors.
//! * Anything else at the end is torn. It is cut off here, since the engine refuses some torn batches.
//! * Only the newest journal may end torn: the others were synced when their successor was begun.
//!
//! Whether a journal of few batches was torn or has rotted cannot be told from itself alone. What is cut off is handed to
//! the caller, who may know better: should it turn out that there was more, it is put back, and stays as it was found.
//!
//! The layout is that of fjall 3 (its `journal/entry.rs`); not here: what batches mean.

use crate::env::{self, DiskFile, FileError};
use crate::mutants::{self, Mutant};
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::Xxh3;

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
/// What every whole batch ends with.
const TRAILER: &[u8; 4] = b"FJL\x03";
/// A disk writes this much, or nothing of it.
const SECTOR_BYTES: usize = 512;
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

/// Checks the journals of the database in a directory, oldest first, and cuts a torn end off the newest.
pub fn check(directory: &Path) -> Result<Option<CutOff>, JournalError> {
    let mut cut_off = None;
    if !env::exists(directory) {
        return Ok(cut_off);
    }
    let mut sequence = 0;
    let paths = list(directory)?;
    for path in &paths {
        (sequence, cut_off) = check_one(path, sequence, Some(path) == paths.last())?;
    }
    Ok(cut_off)
}

/// What was cut off the end of a journal.
#[derive(Debug)]
pub struct CutOff {
    path: PathBuf,
    offset: u64,
    bytes: Vec<u8>,
    /// That of the file, with the room at its end.
    length: u64,
}

impl CutOff {
    /// Makes the journal what it was before, durably. Nobody may use it.
    pub fn put_back(&self) -> Result<(), FileError> {
        tracing::warn!(path = %self.path.display(), offset = self.offset, "put what was cut off a journal back");
        DiskFile::open(&self.path)?.write_rest(self.offset, &self.bytes, self.length)
    }
}

/// The journals of the database in a directory, oldest first.
pub fn list(directory: &Path) -> Result<Vec<PathBuf>, FileError> {
    let mut numbers: Vec<u64> = env::list_directory(directory)?
        .iter()
        .filter_map(|name| name.strip_suffix(".jnl")?.parse().ok())
        .collect();
    numbers.sort_unstable();
    let paths = numbers
        .iter()
        .map(|number| directory.join(format!("{number}.jnl")));
    Ok(paths.collect())
}

/// Checks one journal, whose batches follow those up to `sequence`; gives the number of its last one, and what was cut off.
fn check_one(path: &Path, mut sequence: u64, is_newest: bool) -> Result<(u64, Option<CutOff>), JournalError> {
    let mut file = DiskFile::open(path)?;
    let mut offset = 0;
    let mut read = |buffer: &mut [u8]| file.read_exact(buffer);
    while let Some(batch) = Batch::read(&mut read)? {
        let is_first = offset + sequence == 0 && batch.sequence == 0;
        if !is_first && !follows(&batch, sequence) {
            break;
        }
        sequence = batch.sequence;
        offset += batch.bytes;
    }
    let rest = file.rest(offset)?;
    if rest.is_empty() {
        return Ok((sequence, None));
    }
    let rotten = |what| {
        let path = path.to_owned();
        Err(JournalError::Rotten { path, offset, what })
    };
    if !is_newest {
        return rotten("it does not read to its end, and a newer journal follows");
    }
    if let Some(what) = why_rotten(&rest, offset)
        && !mutants::active(Mutant::RotTakenForTorn)
    {
        return rotten(what);
    }
    tracing::warn!(path = %path.display(), offset, bytes = rest.len(), "cut a torn batch off a journal");
    let cut_off = CutOff {
        path: path.to_owned(),
        offset,
        bytes: rest,
        length: file.length()?,
    };
    file.truncate(offset)?;
    Ok((sequence, Some(cut_off)))
}

/// A journal that is in use, read bit by bit: is all of it still what was written?
#[derive(Debug)]
pub struct JournalScan {
    file: DiskFile,
    path: PathBuf,
    /// Up to where all is well, and the number of the last batch there.
    pub(super) offset: u64,
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
        let rest = self.file.rest(offset)?;
        Ok(match why_rotten(&rest, offset) {
            Some(what) => ScanStep::Unsound { offset, what },
            None => ScanStep::Done,
        })
    }
}

fn follows(batch: &Batch, sequence: u64) -> bool {
    batch.sequence > sequence && batch.sequence - sequence <= SEQUENCE_STEP_MAX
}

/// Why the end of a journal cannot be one that was torn.
fn why_rotten(rest: &[u8], offset: u64) -> Option<&'static str> {
    if rest.is_empty() {
        None
    } else if holds_sound_batch(&rest[1..]) {
        Some("a sound batch follows a broken one")
    } else if ends_like_a_batch(rest) && !lacks_sector(rest, offset) {
        Some("the last batch was written in full, and is not what was written")
    } else {
        None
    }
}

/// Whether a sound batch begins anywhere.
fn holds_sound_batch(bytes: &[u8]) -> bool {
    let starts = bytes.iter().enumerate().filter(|(_, byte)| **byte == START);
    starts.into_iter().any(|(at, _)| {
        let mut left = &bytes[at..];
        let mut read = |buffer: &mut [u8]| {
            let Some((taken, rest)) = left.split_at_checked(buffer.len()) else {
                return Ok::<_, std::convert::Infallible>(false);
            };
            buffer.copy_from_slice(taken);
            left = rest;
            Ok(true)
        };
        let Ok(batch) = Batch::read(&mut read);
        // The checksum of no items at all says nothing.
        batch.is_some_and(|batch| batch.items > 0)
    })
}

/// Whether the last bytes are a trailer, rotten or not. What is torn ends with something else, or with half a trailer.
fn ends_like_a_batch(bytes: &[u8]) -> bool {
    let Some(last) = bytes.last_chunk::<4>() else {
        return false;
    };
    (u32::from_le_bytes(*last) ^ u32::from_le_bytes(*TRAILER)).count_ones() <= 2
}

/// Whether one of the sectors that these bytes lie in holds none of them.
fn lacks_sector(bytes: &[u8], offset: u64) -> bool {
    let first = (SECTOR_BYTES - (offset % SECTOR_BYTES as u64) as usize).min(bytes.len());
    let (head, tail) = bytes.split_at(first);
    let is_empty = |sector: &[u8]| sector.iter().all(|byte| *byte == 0);
    is_empty(head) || tail.chunks(SECTOR_BYTES).any(is_empty)
}

/// A sound batch.
struct Batch {
    sequence: u64,
    items: u32,
    bytes: u64,
}

impl Batch {
    /// Reads one batch; none if what is there is not a sound one. `read` fills a buffer, or says that there is less.
    fn read<E>(read: &mut impl FnMut(&mut [u8]) -> Result<bool, E>) -> Result<Option<Self>, E> {
        let mut start = [0; 13];
        if !read(&mut start)? || start[0] != START {
            return Ok(None);
        }
        let items = u32::from_le_bytes(start[1..5].try_into().expect("four bytes"));
        let sequence = u64::from_le_bytes(start[5..].try_into().expect("eight bytes"));
        let mut bytes = start.len() as u64;
        let mut sum = Xxh3::new();
        for _ in 0..items {
            let Some(item_bytes) = read_item(read, &mut sum)? else {
                return Ok(None);
            };
            bytes += item_bytes;
        }
        let mut end = [0; 13];
        let whole = read(&mut end)?
            && end[0] == END
            && end[1..9] == sum.digest().to_le_bytes()
            && end[9..] == TRAILER[..];
        bytes += end.len() as u64;
        Ok(whole.then_some(Self {
            sequence,
            items,
            bytes,
        }))
    }
}

/// Reads one item and adds it to the sum; its length, or none if it is none.
fn read_item<E>(
    read: &mut impl FnMut(&mut [u8]) -> Result<bool, E>,
    sum: &mut Xxh3,
) -> Result<Option<u64>, E> {
    let mut tag = [0];
    if !read(&mut tag)? {
        return Ok(None);
    }
    let mut header = match tag[0] {
        // The keyspace.
        CLEAR => vec![0; 8],
        // Kind, compression, keyspace, length of the key, of the value, and of the value as it is stored.
        ITEM => vec![0; 20],
        _ => return Ok(None),
    };
    if !read(&mut header)? {
        return Ok(None);
    }
    sum.update(&tag);
    sum.update(&header);
    let mut bytes = 1 + header.len() as u64;
    if tag[0] == ITEM {
        let key_bytes = u16::from_le_bytes(header[10..12].try_into().expect("two bytes"));
        let value_bytes = u32::from_le_bytes(header[16..20].try_into().expect("four bytes"));
        let mut left = u64::from(key_bytes) + u64::from(value_bytes);
        bytes += left;
        let mut buffer = [0; 4096];
        while left > 0 {
            let piece = &mut buffer[..left.min(4096) as usize];
            if !read(piece)? {
                return Ok(None);
            }
            sum.update(piece);
            left -= piece.len() as u64;
        }
    }
    Ok(Some(bytes))
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;
