//! Bit rot: bits that change at rest on a disk.

use super::INSIDE;
use crate::random::{RandomStream, extend_fingerprint};
use callboard::storage::{directory, journal, manifest};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Result;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::xxh3_128;

/// Bytes that have changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flip {
    path: PathBuf,
    offset: u64,
    before: Vec<u8>,
    after: Vec<u8>,
    /// The surrounding bytes, by which it is found again.
    around: Vec<u8>,
}

/// The number of surrounding bytes on each side.
const AROUND: u64 = 32;

fn around(file: &File, offset: u64) -> Result<Vec<u8>> {
    let mut bytes = vec![0; 2 * AROUND as usize];
    let count = file.read_at(&mut bytes, offset.saturating_sub(AROUND))?;
    bytes.truncate(count);
    Ok(bytes)
}

/// The offsets with data in a file: journals are mostly holes.
fn written(file: &File) -> Result<Vec<u64>> {
    let mut places = Vec::new();
    let length = file.metadata()?.len();
    let mut chunk = vec![0; 64 * 1024];
    let mut offset = 0;
    while offset < length {
        let start = super::data_start(file, offset).unwrap_or(length);
        if start >= length {
            break;
        }
        let count = file.read_at(&mut chunk, start)?;
        if count == 0 {
            break;
        }
        // Only chunks of 16 bytes that are not zero: the end of a journal is zeros.
        let full = chunk[..count].chunks(16).enumerate();
        places.extend(
            full.filter(|(_, bytes)| bytes.iter().any(|byte| *byte != 0))
                .map(|(at, _)| start + at as u64 * 16),
        );
        offset = start + count as u64;
    }
    Ok(places)
}

fn files_below(directory: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    let mut entries: Vec<_> = std::fs::read_dir(directory)?.collect::<Result<Vec<_>>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let kind = entry.file_type()?;
        if kind.is_dir() {
            files_below(&entry.path(), found)?;
        } else if kind.is_file() && entry.metadata()?.len() > 0 {
            found.push(entry.path());
        }
    }
    Ok(())
}

/// Leaves out tables, and lists of tables, that the storage engine no longer uses: its own thread decides when to remove them,
/// and a start removes them anyway. A list names its tables by the sum of their content.
fn leave_out_the_dead(files: &mut Vec<PathBuf>) -> Result<()> {
    let mut dead = Vec::new();
    for current in files.iter().filter(|path| path.ends_with("current")) {
        let keyspace = current.parent().expect("a file is in a directory");
        let used = manifest::list_in_use(keyspace, &std::fs::read(current)?);
        let list = used.as_ref().and_then(|used| std::fs::read(used).ok());
        let list = list.unwrap_or_default();
        for path in files.iter().filter(|path| path.starts_with(keyspace)) {
            let is_alive = if path.starts_with(keyspace.join("tables")) {
                let sum = xxh3_128(&std::fs::read(path)?).to_le_bytes();
                list.windows(sum.len()).any(|bytes| bytes == sum)
            } else {
                path == current || used.as_ref() == Some(path)
            };
            if !is_alive {
                dead.push(path.clone());
            }
        }
    }
    files.retain(|path| !dead.contains(path));
    Ok(())
}

/// Flips single bits in the files below a directory, half of them in journals. Returns the flips.
pub fn rot(directory: &Path, bits: u64, random: &mut RandomStream) -> Result<Vec<Flip>> {
    INSIDE.set(true);
    let flips = flip(directory, bits, random);
    INSIDE.set(false);
    flips
}

/// The end of a journal, in chunks of 16 bytes, which is hit more often: bit rot there looks like a torn write.
const END_CHUNKS: usize = 16;

fn flip(directory: &Path, bits: u64, random: &mut RandomStream) -> Result<Vec<Flip>> {
    let mut files = Vec::new();
    files_below(directory, &mut files)?;
    leave_out_the_dead(&mut files)?;
    let journals: Vec<_> = files
        .iter()
        .filter(|path| path.extension().is_some_and(|ext| ext == "jnl"))
        .cloned()
        .collect();
    let mut flips = Vec::new();
    for _ in 0..bits {
        let is_journal = random.chance(50) && !journals.is_empty();
        let among = if is_journal { &journals } else { &files };
        if among.is_empty() {
            break;
        }
        let path = random.pick(among).clone();
        let file = File::options().read(true).write(true).open(&path)?;
        let mut places = written(&file)?;
        if places.is_empty() {
            continue;
        }
        if is_journal && random.chance(25) {
            places.drain(..places.len().saturating_sub(END_CHUNKS));
        }
        let offset = (*random.pick(&places) + random.below(16)).min(file.metadata()?.len() - 1);
        let mut byte = [0];
        file.read_exact_at(&mut byte, offset)?;
        let after = byte[0] ^ (1 << random.below(8));
        file.write_all_at(&[after], offset)?;
        let around = around(&file, offset)?;
        flips.push(Flip {
            path,
            offset,
            before: byte.to_vec(),
            after: vec![after],
            around,
        });
    }
    Ok(flips)
}

/// The sector size.
const SECTOR_BYTES: u64 = 512;

/// Zeroes a sector with data in a journal that a member uses, where a later batch proves that it was synced. Returns it, if there
/// is one.
pub fn lose_sector(directory: &Path, random: &mut RandomStream) -> Result<Option<Flip>> {
    INSIDE.set(true);
    let flip = take_sector(directory, random);
    INSIDE.set(false);
    flip
}

fn take_sector(directory: &Path, random: &mut RandomStream) -> Result<Option<Flip>> {
    let mut files = Vec::new();
    // A replaced state reappears if the power failed before its removal was on disk.
    let state = directory::state_in_use(directory).map_err(std::io::Error::other)?;
    for database in [directory.join("log"), state] {
        if database.exists() {
            files_below(&database, &mut files)?;
        }
    }
    let mut sectors = Vec::new();
    for path in files {
        if path.extension().is_some_and(|extension| extension == "jnl") {
            let synced = journal::known_synced(&path).map_err(std::io::Error::other)?;
            sectors.extend((0..synced / SECTOR_BYTES).map(|sector| (path.clone(), sector * SECTOR_BYTES)));
        }
    }
    if sectors.is_empty() {
        return Ok(None);
    }
    let (path, offset) = random.pick(&sectors).clone();
    let file = File::options().read(true).write(true).open(&path)?;
    let mut before = vec![0; SECTOR_BYTES as usize];
    file.read_exact_at(&mut before, offset)?;
    let after = vec![0; before.len()];
    if before == after {
        return Ok(None);
    }
    file.write_all_at(&after, offset)?;
    let around = around(&file, offset)?;
    Ok(Some(Flip {
        path,
        offset,
        before,
        after,
        around,
    }))
}

/// The content of journals, and of the small files beside them: their lengths, and sums of their data.
pub type Sums = BTreeMap<PathBuf, (u64, u64)>;

/// Sums of the files below a directory. Tables and their lists are left out, since the engine may merge them.
pub fn sums(directory: &Path) -> Sums {
    super::unnoticed(|| {
        let mut files = Vec::new();
        let mut sums = Sums::new();
        if files_below(directory, &mut files).is_err() {
            return sums; // there is none yet
        }
        files.retain(|path| path.parent() == Some(directory) || path.extension().is_some_and(|e| e == "jnl"));
        for path in files {
            let sum = sum(&path).expect("scratch files can be read");
            sums.insert(path, sum);
        }
        sums
    })
}

fn sum(path: &Path) -> Result<(u64, u64)> {
    let file = File::open(path)?;
    let mut sum = 0;
    let mut chunk = [0; 16];
    for place in written(&file)? {
        let count = file.read_at(&mut chunk, place)?;
        sum = extend_fingerprint(extend_fingerprint(sum, &place.to_le_bytes()), &chunk[..count]);
    }
    Ok((file.metadata()?.len(), sum))
}

/// The first file that differs.
pub fn difference(before: &Sums, after: &Sums) -> Option<PathBuf> {
    let mut names = before.keys().chain(after.keys());
    names.find(|name| before.get(*name) != after.get(*name)).cloned()
}

/// Undoes flips that were not overwritten or truncated since: the disk was read wrongly, and is read correctly again.
pub fn mend(flips: &[Flip]) -> Result<()> {
    INSIDE.set(true);
    let mended = undo(flips);
    INSIDE.set(false);
    mended
}

fn undo(flips: &[Flip]) -> Result<()> {
    for flip in flips.iter().rev() {
        let Ok(file) = File::options().read(true).write(true).open(&flip.path) else {
            continue; // removed meanwhile
        };
        if around(&file, flip.offset)? == flip.around {
            file.write_all_at(&flip.before, flip.offset)?;
        }
    }
    Ok(())
}

impl std::fmt::Display for Flip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut names: Vec<_> = self
            .path
            .iter()
            .rev()
            .take(2)
            .map(|name| name.to_string_lossy())
            .collect();
        names.reverse();
        let names = names.join("/");
        match (self.before.as_slice(), self.after.as_slice()) {
            // The byte itself may be part of a sum over the time at which the engine wrote a table.
            ([before], [after]) => write!(
                f,
                "{names} at {}: bit {}",
                self.offset,
                (before ^ after).trailing_zeros()
            ),
            (before, _) => write!(f, "{names} at {}: {} bytes lost", self.offset, before.len()),
        }
    }
}
