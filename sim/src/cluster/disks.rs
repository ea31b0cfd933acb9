//! What is done to the disks of members whose processes do not run, or do not know of it, and how it is undone.

use super::{Cluster, Trouble, lock};
use crate::disk::{self, Lost};
use crate::random::RandomStream;
use callboard::storage::directory::DataDirectory;
use std::path::{Path, PathBuf};

impl Cluster {
    /// Does something to a member's disk, unless something was done to it already.
    pub fn trouble(&self, number: usize, trouble: Trouble) -> bool {
        let mut process = lock(&self.members[number].process);
        if process.trouble.is_some() {
            return false;
        }
        process.trouble = Some(trouble);
        true
    }

    /// What was done to it turns out to be something else.
    pub fn change_trouble(&self, number: usize, trouble: Trouble) {
        let mut process = lock(&self.members[number].process);
        process.has_rotted |= matches!(&trouble, Trouble::Rotten(flips) if !flips.is_empty());
        process.trouble = Some(trouble);
    }

    /// Whether bits have ever flipped on the disk of the member of this name.
    pub fn has_rotted(&self, name: &str) -> bool {
        let mut named = self.members.iter().filter(|member| member.name == name);
        named.any(|member| lock(&member.process).has_rotted)
    }

    /// Cuts the power of a machine whose process has ended: what it had not synced is gone.
    pub fn lose_power_of_dead(&self, number: usize, random: &mut RandomStream) {
        if !self.is_idle(number) {
            return;
        }
        let directory = &self.members[number].directory;
        let lost = disk::lose_power(directory, random).expect("scratch files can be written");
        self.note_lost(number, lost);
    }

    /// Tells what a loss of power took.
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

    /// Undoes what was done to a member's disk; its process has ended when this returns, if anything was noticed.
    pub async fn repair(&self, number: usize) {
        let member = &self.members[number];
        let Some(trouble) = lock(&member.process).trouble.clone() else {
            return;
        };
        if trouble != Trouble::Ailing || disk::has_met_error(&member.directory) {
            self.kill(number).await;
        }
        // One that has just ended is judged by what was wrong with its disk.
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

    /// Nothing is wrong with a member's disk any more.
    pub fn end_trouble(&self, number: usize) {
        lock(&self.members[number].process).trouble = None;
    }

    /// Empties a member's disk, whose process must not run: what is started on it is to join the cluster.
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

    /// Whose data directory is on a member's disk, whose process must not run.
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

    /// Puts a disk with nothing on it in the place of a member's, whose process must not run.
    pub fn replace_disk(&self, number: usize) -> std::io::Result<()> {
        let directory = &self.members[number].directory;
        disk::carry(directory, &aside(directory))?;
        callboard::env::create_directory(directory).map_err(std::io::Error::other)
    }

    /// Copies the disk of a member whose process must not do anything meanwhile. False if there is a copy already.
    pub fn copy_disk(&self, number: usize) -> bool {
        let directory = &self.members[number].directory;
        let copy = copied(directory);
        if copy.exists() {
            return false;
        }
        disk::copy(directory, &copy).expect("scratch files can be copied");
        true
    }

    /// Puts the copy of a member's disk in its place. Its process must not run.
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
}

/// Where a disk is kept that another one has taken the place of.
fn aside(directory: &Path) -> PathBuf {
    directory.with_extension("aside")
}

/// Where the copy of a disk is kept.
fn copied(directory: &Path) -> PathBuf {
    directory.with_extension("copy")
}
