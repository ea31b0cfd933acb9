//! What a loss of power takes from a disk: each file keeps a random beginning of what was written to it since its last
//! sync; the first write that is lost may be there in part.

use super::{Disks, INSIDE, Write, disks};
use crate::random::Stream;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// What a loss of power took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    pub writes: u64,
    pub torn: u64,
}

/// Takes from the files of a directory what was not synced.
pub fn lose_power(directory: &Path, random: &mut Stream) -> std::io::Result<Lost> {
    INSIDE.set(true);
    let lost = lose(&mut disks(), directory, random);
    INSIDE.set(false);
    lost
}

fn lose(disks: &mut Disks, directory: &Path, random: &mut Stream) -> std::io::Result<Lost> {
    let mut lost = Lost::default();
    // In the order of names: numbers of files differ from run to run.
    let mut files: Vec<_> = disks
        .files
        .values_mut()
        .filter(|file| file.path.starts_with(directory) && !file.unsynced.is_empty())
        .collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    for tracked in files {
        let writes = std::mem::take(&mut tracked.unsynced);
        let Some(file) = tracked.writer() else {
            continue;
        };
        let doomed = writes
            .iter()
            .position(|write| write.doomed)
            .unwrap_or(writes.len());
        let kept = if random.chance(50) {
            0
        } else {
            random.below(doomed as u64 + 1) as usize
        };
        for write in writes[kept..].iter().skip(1).rev() {
            undo(&file, write)?;
            lost.writes += 1;
        }
        if let Some(write) = writes.get(kept) {
            let torn = if random.chance(50) {
                random.below(write.bytes + 1)
            } else {
                0
            };
            let mut part = vec![0; torn as usize];
            tracked.reader.read_exact_at(&mut part, write.offset)?;
            undo(&file, write)?;
            file.write_all_at(&part, write.offset)?;
            lost.writes += 1;
            lost.torn += u64::from(torn > 0);
        }
        file.sync_all()?;
        tracked.unsynced.clear();
    }
    Ok(lost)
}

pub(super) fn undo(file: &File, write: &Write) -> std::io::Result<()> {
    file.write_all_at(&write.overwritten, write.offset)?;
    file.set_len(write.length_before)
}
