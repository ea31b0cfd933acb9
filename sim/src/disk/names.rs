//! Names in directories: neither a new name nor the removal of a name is on disk before the directory has been synced.
//!
//! A sync of a directory records its content, and keeps another name for each of its files elsewhere, so that a file that is
//! removed or replaced afterwards, by whatever call, can come back. A power loss keeps or undoes each change since. A file that
//! was removed under one name and created under another is never lost under both.

use super::{Disks, Inode, status};
use crate::random::RandomStream;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::Result;
use std::os::fd::RawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The directory in a watched directory where files keep another name.
const KEPT: &str = ".kept";

/// The content of a directory on disk.
pub(super) struct Listing {
    root: PathBuf,
    names: BTreeMap<OsString, Named>,
    /// Keeps its inode number from being reused for another directory.
    directory: File,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Named {
    inode: Inode,
    is_directory: bool,
}

fn kept(root: &Path, inode: Inode) -> PathBuf {
    root.join(KEPT).join(inode.1.to_string())
}

fn read(directory: &Path) -> Result<BTreeMap<OsString, Named>> {
    let mut names = BTreeMap::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        let named = Named {
            inode: (metadata.dev(), metadata.ino()),
            is_directory: metadata.is_dir(),
        };
        names.insert(entry.file_name(), named);
    }
    Ok(names)
}

/// Records the content of a directory that is synced; does nothing for a file.
pub(super) fn synced(disks: &mut Disks, descriptor: RawFd) {
    let Some(status) = status(descriptor) else { return };
    if status.st_mode & libc::S_IFMT != libc::S_IFDIR {
        return;
    }
    let link = PathBuf::from(format!("/proc/self/fd/{descriptor}"));
    let Ok(path) = std::fs::read_link(&link) else {
        return;
    };
    let root = disks.roots.iter().find(|(root, _)| path.starts_with(root));
    let Some(root) = root.map(|(root, _)| root.clone()) else {
        return;
    };
    if disks.is_frozen(&path) || path == root {
        return;
    }
    note(disks, &root, &path, (status.st_dev, status.st_ino)).expect("scratch files can be read");
}

fn note(disks: &mut Disks, root: &Path, path: &Path, inode: Inode) -> Result<()> {
    let names = read(path)?;
    std::fs::create_dir_all(root.join(KEPT))?;
    let before = disks.listings.get(&inode);
    for (name, named) in &names {
        let is_known = before.is_some_and(|before| before.names.get(name) == Some(named));
        if named.is_directory || is_known {
            continue;
        }
        match std::fs::hard_link(path.join(name), kept(root, named.inode)) {
            // Another file with this number was removed, or this one is kept already.
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            other => other?,
        }
    }
    let gone: Vec<_> = before
        .into_iter()
        .flat_map(|before| before.names.values())
        .filter(|named| !names.values().any(|other| other == *named))
        .copied()
        .collect();
    forget_gone(disks, root, gone);
    let listing = Listing {
        root: root.to_owned(),
        names,
        directory: File::open(path)?,
    };
    disks.listings.insert(inode, listing);
    Ok(())
}

/// Removes a disk's directory, and forgets its kept names.
pub(super) fn scrap(disks: &mut Disks, directory: &Path) -> Result<()> {
    let metadata = std::fs::metadata(directory)?;
    std::fs::remove_dir_all(directory)?;
    let named = Named {
        inode: (metadata.dev(), metadata.ino()),
        is_directory: true,
    };
    if let Some(listing) = disks.listings.get(&named.inode) {
        let root = listing.root.clone();
        forget_gone(disks, &root, vec![named]);
    }
    disks.files.retain(|_, file| !file.path.starts_with(directory));
    forget_nameless(disks);
    Ok(())
}

fn forget_nameless(disks: &mut Disks) {
    disks.files.retain(|_, file| !has_gone(&file.reader));
}

/// Forgets what no power loss brings back any more: removed files without another name, and directories that were removed from
/// one that was synced since, with all their kept names. Each holds a descriptor, and a process has a limited number of these.
fn forget_gone(disks: &mut Disks, root: &Path, gone: Vec<Named>) {
    let mut files = Vec::new();
    let mut left = gone;
    while let Some(named) = left.pop() {
        if !named.is_directory {
            // A file that was moved to another directory keeps its name there.
            let _ = std::fs::remove_file(kept(root, named.inode));
            files.push(named.inode);
            continue;
        }
        // A directory that was moved elsewhere stays.
        let listing = disks.listings.get(&named.inode);
        if listing.is_some_and(|listing| has_gone(&listing.directory))
            && let Some(listing) = disks.listings.remove(&named.inode)
        {
            left.extend(listing.names.into_values());
        }
    }
    for inode in files {
        if disks.files.get(&inode).is_some_and(|file| has_gone(&file.reader)) {
            disks.files.remove(&inode);
        }
    }
}

/// Whether this file has no name left.
fn has_gone(file: &File) -> bool {
    file.metadata().is_ok_and(|metadata| metadata.nlink() == 0)
}

/// Records that everything in a directory, and below it, is on disk.
pub(super) fn synced_below(disks: &mut Disks, directory: &Path) -> Result<()> {
    let root = disks.roots.iter().find(|(root, _)| directory.starts_with(root));
    let Some(root) = root.map(|(root, _)| root.clone()) else {
        return Ok(());
    };
    let metadata = std::fs::metadata(directory)?;
    note(disks, &root, directory, (metadata.dev(), metadata.ino()))?;
    for (name, named) in read(directory)? {
        if named.is_directory {
            synced_below(disks, &directory.join(name))?;
        }
    }
    Ok(())
}

/// Forgets the directories below a root.
pub(super) fn forget(disks: &mut Disks, root: &Path) {
    disks.listings.retain(|_, listing| listing.root != root);
}

/// Undoes unsynced changes of names in a directory and below it; returns the number of names.
pub(super) fn lose(disks: &mut Disks, directory: &Path, random: &mut RandomStream) -> Result<u64> {
    let root = disks.roots.iter().find(|(root, _)| directory.starts_with(root));
    let Some(root) = root.map(|(root, _)| root.clone()) else {
        return Ok(0);
    };
    let metadata = std::fs::metadata(directory)?;
    // Names that the engine removes at its own time must not affect the fate of the others.
    let random = random.next();
    let inode = (metadata.dev(), metadata.ino());
    let lost = Loss { root, random }.of(disks, directory, Path::new(""), inode)?;
    forget_nameless(disks);
    Ok(lost)
}

/// A power loss.
struct Loss {
    root: PathBuf,
    random: u64,
}

impl Loss {
    /// The random numbers for this path.
    fn random(&self, path: &Path) -> RandomStream {
        RandomStream::of(self.random, &path.to_string_lossy())
    }

    /// Takes names from a directory; `path` is relative to the machine's directory.
    fn of(&self, disks: &mut Disks, directory: &Path, path: &Path, inode: Inode) -> Result<u64> {
        let there = read(directory)?;
        let listing = disks.listings.get(&inode);
        let synced = listing.map_or_else(BTreeMap::new, |listing| listing.names.clone());
        // Of the changes, all reached the disk, none, or some.
        let share = *self.random(path).pick(&[0, 50, 100, 100]);
        let is_kept = |name: &OsString| self.random(&path.join(name)).chance(share);
        let mut lost = 0;
        let mut result = there.clone();
        for (name, named) in &there {
            if synced.get(name) == Some(named) || is_kept(name) {
                continue;
            }
            let place = directory.join(name);
            lost += u64::from(!is_engines(path, name));
            if named.is_directory {
                std::fs::remove_dir_all(&place)?;
                forget_gone(disks, &self.root, vec![*named]);
            } else {
                std::fs::remove_file(&place)?;
            }
            result.remove(name);
        }
        for (name, named) in &synced {
            let was_moved = there.values().any(|other| other == named);
            let is_lost = if was_moved {
                !result.values().any(|other| other == named)
            } else {
                !is_kept(name) || replaced(&there, &result, name)
            };
            if is_lost && !result.contains_key(name) {
                self.bring_back(disks, &directory.join(name), *named)?;
                lost += u64::from(!is_engines(path, name));
                result.insert(name.clone(), *named);
            }
        }
        for name in result.keys() {
            let below = directory.join(name);
            let metadata = std::fs::metadata(&below)?;
            if metadata.is_dir() {
                let inode = (metadata.dev(), metadata.ino());
                lost += self.of(disks, &below, &path.join(name), inode)?;
            }
        }
        let metadata = std::fs::metadata(directory)?;
        note(disks, &self.root, directory, (metadata.dev(), metadata.ino()))?;
        Ok(lost)
    }

    /// Gives a removed file its name again.
    fn bring_back(&self, disks: &mut Disks, place: &Path, named: Named) -> Result<()> {
        if !named.is_directory {
            return std::fs::hard_link(kept(&self.root, named.inode), place);
        }
        std::fs::create_dir(place)?;
        let metadata = std::fs::metadata(place)?;
        // It comes back with its former content, under a new inode number.
        if let Some(listing) = disks.listings.remove(&named.inode) {
            disks.listings.insert((metadata.dev(), metadata.ino()), listing);
        }
        Ok(())
    }
}

/// Whether this is a table, a list of tables, or a temporary file for one: the engine decides when unused ones are removed.
fn is_engines(directory: &Path, name: &OsString) -> bool {
    let name = name.to_string_lossy();
    let is_list = name
        .strip_prefix('v')
        .is_some_and(|number| number.parse::<u64>().is_ok());
    is_list || name.starts_with(".tmp") || directory.ends_with("tables")
}

/// Whether another file had the name and has lost it: then the previous file has it again.
fn replaced(there: &BTreeMap<OsString, Named>, result: &BTreeMap<OsString, Named>, name: &OsString) -> bool {
    there.contains_key(name) && !result.contains_key(name)
}
