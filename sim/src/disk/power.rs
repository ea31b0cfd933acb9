//! The effect of a power loss on a disk. Each file keeps any of the pages that were written since its last sync, in any order; a
//! page that was written several times is as it was after any of these writes, and one page may be torn between two sectors. Each
//! directory keeps any of the names that were created or removed since its last sync (`names`).
//!
//! Also the effect when the operating system drops a file from its cache, including the remains of a failed sync.
//!
//! A file that was extended or truncated without a sync keeps a prefix of its changes: that its pages get ahead of its length is
//! not simulated.

use super::names;
use super::{Disks, INSIDE, Tracked, Way, Write, disks};
use crate::random::RandomStream;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Result;
use std::os::fd::RawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The operating system writes this much at once, unless the power fails.
const PAGE_BYTES: u64 = 4096;
/// A disk writes a sector completely or not at all.
const SECTOR_BYTES: u64 = 512;
const SECTORS: u64 = PAGE_BYTES / SECTOR_BYTES;

/// The losses in a power loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    pub writes: u64,
    /// Writes that were kept partly.
    pub torn: u64,
    /// Files in which a later write was kept and an earlier one lost.
    pub reordered: u64,
    /// Created names that are gone, and removed names that are back.
    pub names: u64,
}

/// Takes unsynced changes from a directory.
pub fn lose_power(directory: &Path, random: &mut RandomStream) -> Result<Lost> {
    INSIDE.set(true);
    let lost = lose(&mut disks(), directory, random);
    INSIDE.set(false);
    lost
}

fn lose(disks: &mut Disks, directory: &Path, random: &mut RandomStream) -> Result<Lost> {
    let mut lost = Lost::default();
    // In the order of names: inode numbers differ from run to run.
    let mut files: Vec<_> = disks
        .files
        .values_mut()
        .filter(|file| file.path.starts_with(directory) && !file.unsynced.is_empty())
        .collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let seed = random.next();
    for tracked in files {
        let path = tracked.path.strip_prefix(directory).unwrap_or(&tracked.path);
        let mut random = RandomStream::of(seed, &path.to_string_lossy());
        lose_of_file(tracked, &mut random, &mut lost)?;
    }
    lost.names = names::lose(disks, directory, random)?;
    Ok(lost)
}

fn lose_of_file(tracked: &mut Tracked, random: &mut RandomStream, lost: &mut Lost) -> Result<()> {
    let writes = std::mem::take(&mut tracked.unsynced);
    let Some(file) = tracked.writer() else {
        return Ok(());
    };
    let doomed = writes
        .iter()
        .position(|write| write.doomed)
        .unwrap_or(writes.len());
    if writes.iter().any(|write| write.bytes == 0) {
        let kept = random.below(doomed as u64 + 1) as usize;
        for write in writes[kept..].iter().rev() {
            undo(&file, write)?;
            lost.writes += 1;
        }
        return file.sync_all();
    }
    let kept = Kept::draw(&writes, doomed, random);
    for (number, write) in writes.iter().enumerate().rev() {
        kept.undo(&file, number, write)?;
    }
    file.set_len(kept.length(&writes))?;
    kept.count(&writes, lost);
    file.sync_all()
}

/// Which writes to a file are kept: for each sector, the writes before this number.
struct Kept {
    usual: usize,
    sectors: BTreeMap<u64, usize>,
}

impl Kept {
    fn draw(writes: &[Write], doomed: usize, random: &mut RandomStream) -> Self {
        let any = |random: &mut RandomStream| random.below(doomed as u64 + 1) as usize;
        if random.chance(25) {
            return Self {
                usual: 0,
                sectors: BTreeMap::new(),
            };
        }
        if random.chance(30) {
            return Self::beginning(writes, any(random), random);
        }
        let mut sectors = BTreeMap::new();
        let share = *random.pick(&[10, 50, 90]);
        for page in pages(writes) {
            // Most pages are kept in their last form, or not at all.
            let whole = match (random.chance(20), random.chance(share)) {
                (true, _) => any(random),
                (false, true) => doomed,
                (false, false) => 0,
            };
            let mut kept = whole;
            let cut = random.chance(10).then(|| random.below(SECTORS));
            for sector in 0..SECTORS {
                if cut == Some(sector) {
                    kept = any(random);
                }
                sectors.insert(page * SECTORS + sector, kept);
            }
        }
        Self { usual: 0, sectors }
    }

    /// Keeps the first writes, and perhaps a part of the next.
    fn beginning(writes: &[Write], kept: usize, random: &mut RandomStream) -> Self {
        let mut sectors = BTreeMap::new();
        if let Some(next) = writes.get(kept).filter(|next| !next.doomed)
            && random.chance(50)
        {
            let first = next.offset / SECTOR_BYTES;
            let there = random.below(next.bytes / SECTOR_BYTES + 2);
            sectors.extend((first..first + there).map(|sector| (sector, kept + 1)));
        }
        Self { usual: kept, sectors }
    }

    fn of(&self, sector: u64) -> usize {
        self.sectors.get(&sector).copied().unwrap_or(self.usual)
    }

    /// Undoes a write in the sectors where it is not kept. Later writes are already undone.
    fn undo(&self, file: &File, number: usize, write: &Write) -> Result<()> {
        for sector in sectors(write) {
            if number < self.of(sector) {
                continue;
            }
            let (start, end) = overlap(sector, write);
            let mut before = vec![0; (end - start) as usize];
            let from = (start - write.offset) as usize;
            if let Some(overwritten) = write.overwritten.get(from..) {
                let there = overwritten.len().min(before.len());
                before[..there].copy_from_slice(&overwritten[..there]);
            }
            file.write_all_at(&before, start)?;
        }
        Ok(())
    }

    /// The resulting length of the file.
    fn length(&self, writes: &[Write]) -> u64 {
        let mut length = writes.first().map_or(0, |write| write.length_before);
        for (number, write) in writes.iter().enumerate() {
            for sector in sectors(write).filter(|sector| number < self.of(*sector)) {
                length = length.max(overlap(sector, write).1);
            }
        }
        length
    }

    fn count(&self, writes: &[Write], lost: &mut Lost) {
        let mut is_missing = false;
        let mut is_reordered = false;
        for (number, write) in writes.iter().enumerate() {
            let there = sectors(write).filter(|sector| number < self.of(*sector)).count() as u64;
            let all = sectors(write).count() as u64;
            lost.writes += u64::from(there < all);
            lost.torn += u64::from(there > 0 && there < all);
            is_reordered |= is_missing && there == all;
            is_missing |= there < all;
        }
        lost.reordered += u64::from(is_reordered);
    }
}

/// The pages that were written to.
fn pages(writes: &[Write]) -> Vec<u64> {
    let mut pages: Vec<u64> = writes
        .iter()
        .flat_map(|write| sectors(write).map(|sector| sector / SECTORS))
        .collect();
    pages.sort_unstable();
    pages.dedup();
    pages
}

fn sectors(write: &Write) -> std::ops::Range<u64> {
    let end = write.offset + write.bytes;
    write.offset / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES)
}

/// The part of a sector that a write covers.
fn overlap(sector: u64, write: &Write) -> (u64, u64) {
    let start = (sector * SECTOR_BYTES).max(write.offset);
    let end = ((sector + 1) * SECTOR_BYTES).min(write.offset + write.bytes);
    (start, end)
}

impl Disks {
    /// The operating system drops clean pages of a file from its cache, so the remains of a failed sync are gone. A writer with
    /// an open descriptor still appends at the former end.
    pub(super) fn forget(&mut self, descriptor: RawFd) -> Way {
        let Some((file, _)) = self.tracked(descriptor) else {
            return Way::Through;
        };
        let Some(writer) = file
            .writer()
            .filter(|_| file.unsynced.iter().any(|write| write.doomed))
        else {
            return Way::Through;
        };
        let mut kept: Vec<Write> = Vec::new();
        for write in std::mem::take(&mut file.unsynced).into_iter().rev() {
            if !write.doomed || kept.iter().any(|later| later.overlaps(&write)) {
                kept.push(write);
                continue;
            }
            // A file that cannot be written keeps more than it should; rehearsals do not rely on this.
            let _ = vanish(&writer, &write);
        }
        kept.reverse();
        file.unsynced = kept;
        Way::Through
    }
}

impl Write {
    /// Whether they touch the same bytes. A change of the length touches all bytes.
    fn overlaps(&self, other: &Self) -> bool {
        let is_behind = |one: &Self, other: &Self| one.offset >= other.offset + other.bytes;
        self.bytes == 0 || other.bytes == 0 || !(is_behind(self, other) || is_behind(other, self))
    }
}

/// Undoes a write, except for the length that it has added to the file, which is now zeros.
fn vanish(file: &File, write: &Write) -> Result<()> {
    if write.bytes == 0 {
        return undo(file, write);
    }
    let length = file.metadata()?.len();
    let bytes = write.bytes.min(length.saturating_sub(write.offset)) as usize;
    let mut before = write.overwritten.clone();
    before.resize(bytes, 0);
    file.write_all_at(&before, write.offset)
}

pub(super) fn undo(file: &File, write: &Write) -> Result<()> {
    file.write_all_at(&write.overwritten, write.offset)?;
    file.set_len(write.length_before)
}
