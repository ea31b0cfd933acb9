//! Disk space that a member reserves for itself: a file whose blocks are allocated, and freed when almost no space is left.
//!
//! A program that fills the disk, even another one, runs out of space while the member still has this file. Removing the file
//! gives the storage engine the space to continue: to write its memtables to tables, to accept deletions and compactions, and to
//! merge. The file is created again once there is space.

use crate::env::{self, DiskSpace, FileError};
use crate::quota::Rules;
use std::path::{Path, PathBuf};

/// Its name in the data directory.
const NAME: &str = "reserve";

/// The reserve on one disk.
#[derive(Debug)]
struct Reserve {
    path: PathBuf,
    rules: Rules,
}

impl Reserve {
    fn new(data_dir: &Path, rules: Rules) -> Self {
        Self {
            path: data_dir.join(NAME),
            rules,
        }
    }

    /// The bytes that are held now.
    fn held_bytes(&self) -> u64 {
        env::file_length(&self.path).unwrap_or(0)
    }

    /// The free space of the disk, including the bytes that are held.
    fn look(&self) -> Option<DiskSpace> {
        let data_dir = self.path.parent()?;
        let mut disk = env::disk_space(data_dir).ok()?;
        disk.free_bytes += self.held_bytes();
        Some(disk)
    }

    /// Frees a part if almost no space is left, and allocates it again when there is space. Blocks for some milliseconds.
    fn keep(&self, disk: DiskSpace) -> Result<(), FileError> {
        let held_bytes = self.held_bytes();
        let held_bytes_max = self.rules.held_bytes(disk.total_bytes);
        let wanted = self.rules.reserve(disk.total_bytes);
        if held_bytes > 0 && disk.free_bytes < held_bytes + self.rules.last_bytes(disk.total_bytes) {
            // In halves: a program that is filling the disk may take the first half, and then meets a full disk.
            let half = held_bytes_max / 2;
            let left_bytes = if held_bytes > half { half } else { 0 };
            tracing::warn!(
                held_bytes,
                left_bytes,
                "the disk is full: the member gives back what it has reserved, to go on"
            );
            return env::allocate_file(&self.path, left_bytes);
        }
        if held_bytes < held_bytes_max && disk.free_bytes >= wanted + wanted / 10 {
            return env::allocate_file(&self.path, held_bytes_max);
        }
        Ok(())
    }

    /// How far the disk is from the free space that it must keep, in bytes.
    fn distance(&self, disk: DiskSpace) -> i128 {
        i128::from(disk.free_bytes) - i128::from(self.rules.reserve(disk.total_bytes))
    }

    /// Frees the whole reserve if the disk is full, so that the member can start. Returns whether it was full.
    fn release_if_full(&self) -> bool {
        let Some(disk) = self.look() else { return false };
        let free_bytes = disk.free_bytes.saturating_sub(self.held_bytes());
        let is_full = free_bytes < 2 * self.rules.last_bytes(disk.total_bytes);
        if is_full && let Err(error) = env::allocate_file(&self.path, 0) {
            tracing::warn!(%error, "the reserve cannot be given back");
        }
        is_full
    }

    /// Whether a member that stopped on a full disk may start again.
    fn has_room(&self) -> bool {
        let last_bytes = |disk: &DiskSpace| self.rules.last_bytes(disk.total_bytes);
        self.look()
            .is_some_and(|disk| disk.free_bytes >= 2 * last_bytes(&disk))
    }
}

/// Those of all directories that a member writes to: the data directory, and the log's if that has one of its own.
#[derive(Debug)]
pub struct Reserves(Vec<Reserve>);

impl Reserves {
    pub fn new<'a>(directories: impl IntoIterator<Item = &'a Path>, rules: Rules) -> Self {
        let directories = directories.into_iter();
        Self(
            directories
                .map(|directory| Reserve::new(directory, rules))
                .collect(),
        )
    }

    /// Keeps them all, and tells of the disk that is nearest to being full.
    pub fn keep(&self) -> Option<DiskSpace> {
        let kept = self.0.iter().filter_map(|reserve| {
            // If the disk cannot be checked, writes to it will report their errors.
            let mut disk = reserve.look()?;
            if let Err(error) = reserve.keep(disk) {
                tracing::warn!(%error, "what the member reserves on its disk cannot be changed");
                disk = reserve.look()?;
            }
            Some((reserve.distance(disk), disk))
        });
        kept.min_by_key(|(distance, _)| *distance).map(|(_, disk)| disk)
    }

    /// Has a member start on full disks; says whether any is.
    pub fn release_if_full(&self) -> bool {
        let released = self.0.iter().map(Reserve::release_if_full);
        released.fold(false, |before, is_full| before | is_full)
    }

    /// Whether a member that met a full disk may start again.
    pub fn have_room(&self) -> bool {
        self.0.iter().all(Reserve::has_room)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn it_is_held_while_there_is_room_and_given_back_before_there_is_none() {
        let scratch = tempfile::tempdir().expect("a directory");
        let rules = Rules {
            quota_bytes: -1,
            free_disk_bytes: 16 * MIB as i64,
        };
        let reserve = Reserve::new(scratch.path(), rules);
        let keep = |free_bytes| {
            let disk = DiskSpace {
                free_bytes,
                total_bytes: 100 * MIB,
            };
            reserve.keep(disk).expect("a disk that works");
            reserve.held_bytes() / MIB
        };
        assert_eq!(keep(17 * MIB), 0, "a tenth more than what must be free");
        assert_eq!(keep(18 * MIB), 8);
        // 8 MiB of it are the reserve's own.
        assert_eq!(keep(10 * MIB), 8);
        assert_eq!(keep(10 * MIB - 1), 4, "the last 2 MiB");
        assert_eq!(keep(6 * MIB), 4);
        assert_eq!(keep(6 * MIB - 1), 0);
        assert_eq!(keep(17 * MIB), 0);
        assert_eq!(keep(18 * MIB), 8);

        let none = Rules {
            free_disk_bytes: -1,
            ..rules
        };
        let scratch = tempfile::tempdir().expect("a directory");
        let reserve = Reserve::new(scratch.path(), none);
        let disk = reserve.look().expect("a disk");
        reserve.keep(disk).expect("nothing to do");
        assert!(reserve.held_bytes() == 0 && !reserve.release_if_full());
    }
}
