//! Faults of the disks of members, and their repair.

use super::{Cluster, DEATH, Trouble, lock};
use crate::disk::{self, Lost};
use crate::random::RandomStream;
use callboard::storage::directory::DataDirectory;
use std::path::{Path, PathBuf};

impl Cluster {
    /// Records a fault of a member's disk, unless it has one already.
    pub fn trouble(&self, number: usize, trouble: Trouble) -> bool {
        let mut process = lock(&self.members[number].process);
        if process.trouble.is_some() {
            return false;
        }
        process.trouble = Some(trouble);
        true
    }

    /// Replaces the fault of a member's disk by another.
    pub fn change_trouble(&self, number: usize, trouble: Trouble) {
        let mut process = lock(&self.members[number].process);
        process.has_rotted |= matches!(&trouble, Trouble::Rotten(flips) if !flips.is_empty());
        process.trouble = Some(trouble);
    }

    /// Whether bits have ever flipped on the disk of the member with this name.
    pub fn has_rotted(&self, name: &str) -> bool {
        let mut named = self.members.iter().filter(|member| member.name == name);
        named.any(|member| lock(&member.process).has_rotted)
    }

    /// Cuts the power of a machine whose process has ended: its unsynced writes are lost.
    pub fn lose_power_of_dead(&self, number: usize, random: &mut RandomStream) {
        if !self.is_idle(number) {
            return;
        }
        let directory = &self.members[number].directory;
        let lost = disk::lose_power(directory, random).expect("scratch files can be written");
        self.note_lost(number, lost);
    }

    /// Reports what a power loss took.
    pub fn note_lost(&self, number: usize, lost: Lost) {
        let note = format!(
            "{} unsynced writes lost, {} torn, {} files out of order, {} names",
            lost.writes, lost.torn, lost.reordered, lost.names
        );
        self.event(number, "power is off", &note);
        self.world.count("unsynced writes lost", lost.writes);
        self.world.count("torn writes", lost.torn);
        self.world
            .count("files with later writes than those lost", lost.reordered);
        self.world.count("names lost", lost.names);
    }

    /// Repairs a member's disk. If the process has noticed the fault, it has ended when this returns.
    pub async fn repair(&self, number: usize) {
        let member = &self.members[number];
        let Some(trouble) = lock(&member.process).trouble.clone() else {
            return;
        };
        if trouble != Trouble::Ailing || disk::has_met_error(&member.directory) {
            self.kill(number).await;
        }
        // A process that has just ended is judged by the fault that its disk had.
        self.wait_for_death(number).await;
        let undone = match &trouble {
            Trouble::Ailing => {
                disk::get_well(&member.directory);
                Ok(())
            }
            Trouble::Rotten(flips) => disk::mend(flips),
            Trouble::Altered | Trouble::Replaced => Ok(()),
            Trouble::Blank | Trouble::Older => disk::scrap(&member.directory)
                .and_then(|()| disk::carry(&aside(&member.directory), &member.directory)),
            Trouble::Swapped(other) => {
                self.kill(*other).await;
                self.wait_for_death(*other).await;
                lock(&self.members[*other].process).trouble = None;
                self.exchange_disks(number, *other)
            }
        };
        undone.expect("scratch files can be written");
        lock(&member.process).trouble = None;
    }

    /// Clears the fault of a member's disk.
    pub fn end_trouble(&self, number: usize) {
        lock(&self.members[number].process).trouble = None;
    }

    /// Empties the disk of a member, whose process must not run: the next process on it must join the cluster.
    pub fn wipe(&self, number: usize) {
        let directory = &self.members[number].directory;
        for gone in [directory, &copied(directory)] {
            if gone.exists() {
                disk::scrap(gone).expect("scratch files can be removed");
            }
        }
        callboard::env::create_directory(directory).expect("scratch files can be made");
        lock(&self.members[number].process).joins = true;
    }

    /// The members that a wiped disk joins, itself included, if these are not all of them.
    pub fn list_joined(&self, number: usize, members: &[usize]) {
        lock(&self.members[number].process).joined = members.to_vec();
    }

    /// The member whose data directory is on a disk; the process there must not run.
    pub fn owner(&self, number: usize) -> Option<u64> {
        let directory = &self.members[number].directory;
        disk::unnoticed(|| {
            if !DataDirectory::is_claimed(directory) {
                return None;
            }
            let opened = DataDirectory::open(directory).ok()?;
            opened.identity().ok()?.map(|identity| identity.member.0)
        })
    }

    /// Replaces the disk of a member by an empty one. Its process must not run.
    pub fn replace_disk(&self, number: usize) -> std::io::Result<()> {
        let directory = &self.members[number].directory;
        disk::carry(directory, &aside(directory))?;
        callboard::env::create_directory(directory).map_err(std::io::Error::other)
    }

    /// Copies the disk of a member, whose process must not do anything meanwhile. False if there is a copy already.
    pub fn copy_disk(&self, number: usize) -> bool {
        let directory = &self.members[number].directory;
        let copy = copied(directory);
        if copy.exists() {
            return false;
        }
        disk::copy(directory, &copy).expect("scratch files can be copied");
        true
    }

    /// Replaces a member's disk by its copy. Its process must not run.
    pub fn put_copy_in_place(&self, number: usize) -> std::io::Result<()> {
        let directory = &self.members[number].directory;
        disk::carry(directory, &aside(directory))?;
        disk::carry(&copied(directory), directory)
    }

    /// Swaps the disks of two members, whose processes must not run.
    pub fn exchange_disks(&self, one: usize, other: usize) -> std::io::Result<()> {
        let (one, other) = (&self.members[one].directory, &self.members[other].directory);
        disk::carry(one, &aside(one))?;
        disk::carry(other, one)?;
        disk::carry(&aside(one), other)
    }

    async fn wait_for_death(&self, number: usize) {
        while !self.is_running(number) && !self.is_idle(number) {
            madsim::time::sleep(DEATH).await;
        }
    }
}

/// Where a replaced disk is kept.
fn aside(directory: &Path) -> PathBuf {
    directory.with_extension("aside")
}

/// Where the copy of a disk is kept.
fn copied(directory: &Path) -> PathBuf {
    directory.with_extension("copy")
}
