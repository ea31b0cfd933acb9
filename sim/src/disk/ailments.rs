//! Disk errors: calls that fail while a disk is ill, or once its machine has lost power.
//!
//! Either the calls of the rehearsal's own thread fail, or those of the storage engine's threads, never both. The former waits
//! while the latter work, so each keeps an order that the seed decides.

use super::names;
use super::{Disks, INSIDE, data_end, data_start, disks};
use libc::c_int;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The kinds of disk errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ailment {
    /// Syncs fail. Data written since the last successful one may be lost at the next power loss, whatever later syncs return.
    Syncs,
    Writes,
    Reads,
    /// There is no space left.
    Full,
    /// One sync of the storage engine's own thread fails; later ones on the same file succeed. Data written before may still be
    /// lost.
    EngineSync,
    /// Writes of the storage engine's own thread fail.
    EngineWrites,
    /// The machine loses power, or the process is killed, in the middle of its work: nothing reaches the disk from then on.
    Crash,
}

impl Ailment {
    const fn is_engines(self) -> bool {
        matches!(self, Self::EngineSync | Self::EngineWrites)
    }
}

/// The kind of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Sync,
    Write,
    Read,
    /// Removes a name.
    Name,
}

impl Call {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Sync => "a sync",
            Self::Write => "a write",
            Self::Read => "a read",
            Self::Name => "a removal",
        }
    }
}

/// Files that a member does not need on a full disk: it does not stop on their errors.
const SPARED: [&str; 2] = ["reserve", "contacts"];

/// A disk with errors.
#[derive(Debug)]
pub(super) struct Ailing {
    pub directory: PathBuf,
    ailment: Ailment,
    /// The number of calls that still succeed.
    good_calls: u64,
    failed: u64,
    first_failed: PathBuf,
    /// Called as soon as a call has failed.
    at_first: Option<fn(&Path)>,
}

/// A call that fails.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failure {
    pub error: c_int,
    pub is_first: bool,
    pub is_crash: bool,
}

impl Ailing {
    fn error(&self, call: Call) -> Option<c_int> {
        match (self.ailment, call) {
            (Ailment::Syncs, Call::Sync) | (Ailment::Writes, Call::Write) | (Ailment::Reads, Call::Read) => {
                Some(libc::EIO)
            }
            (Ailment::EngineSync, Call::Sync) if self.failed == 0 => Some(libc::EIO),
            (Ailment::EngineWrites, Call::Write) => Some(libc::EIO),
            (Ailment::Crash, Call::Sync | Call::Write | Call::Name) => Some(libc::EIO),
            (Ailment::Full, Call::Write) => Some(libc::ENOSPC),
            _ => None,
        }
    }
}

impl Disks {
    /// Whether and how a call on this file fails.
    pub(super) fn failure(&mut self, path: &Path, call: Call) -> Option<Failure> {
        if self.ailing.is_empty() {
            return None;
        }
        let by_engine = super::is_engines_thread();
        let mut ill = self
            .ailing
            .iter_mut()
            .filter(|ailing| path.starts_with(&ailing.directory) && ailing.ailment.is_engines() == by_engine);
        let (ailing, error) = ill.find_map(|ailing| ailing.error(call).map(|error| (ailing, error)))?;
        if ailing.good_calls > 0 {
            ailing.good_calls -= 1;
            return None;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_spared =
            ailing.ailment == Ailment::Full && SPARED.iter().any(|spared| name.starts_with(spared));
        ailing.failed += u64::from(!is_spared);
        let is_first = ailing.failed == 1 && !is_spared;
        if is_first {
            path.clone_into(&mut ailing.first_failed);
        }
        if is_first && let Some(at_first) = ailing.at_first {
            at_first(&ailing.directory);
        }
        Some(Failure {
            error,
            is_first,
            is_crash: ailing.ailment == Ailment::Crash,
        })
    }
}

/// Makes the disk under a directory fail after this many calls.
pub fn fall_ill(directory: &Path, ailment: Ailment, good_calls: u64) {
    fall_ill_and(directory, ailment, good_calls, None);
}

/// The same; `at_first` is called immediately with the first failing call, wherever that is.
pub fn fall_ill_and(directory: &Path, ailment: Ailment, good_calls: u64, at_first: Option<fn(&Path)>) {
    disks().ailing.push(Ailing {
        directory: directory.to_owned(),
        ailment,
        good_calls,
        failed: 0,
        first_failed: PathBuf::new(),
        at_first,
    });
}

/// Tells only the storage engine's own thread of a sync error in one of these journals: unsynced data is lost, and the engine's
/// next sync returns success, as it does until the engine has recorded that it cannot continue. False if everything was synced.
pub fn hide_error(database: &Path) -> bool {
    let mut disks = disks();
    let files = disks.files.values_mut();
    let mut found = false;
    for file in files.filter(|file| file.path.parent() == Some(database)) {
        // Syncs after earlier errors do not count.
        (file.hidden_behind, file.syncs_since) = (None, 0);
        if file.unsynced.is_empty() {
            continue;
        }
        let Some(descriptor) = file.writes_through else {
            continue;
        };
        // A descriptor that is opened later is not told of errors that others know. The engine records its errors before it
        // releases a journal that only it has open.
        if file.told.keys().all(|opened| *opened == descriptor) {
            continue;
        }
        file.errors += 1;
        file.hidden_behind = Some(descriptor);
        file.told.insert(descriptor, file.errors);
        for write in &mut file.unsynced {
            write.doomed = true;
        }
        found = true;
    }
    found
}

/// The number of syncs of a database's files since a sync has failed.
pub fn syncs_since_error(database: &Path) -> u64 {
    let disks = disks();
    let files = disks.files.values();
    files
        .filter(|file| file.path.parent() == Some(database))
        .map(|file| file.syncs_since)
        .sum()
}

/// The number of failed calls so far.
pub fn failed_calls(directory: &Path) -> u64 {
    let disks = disks();
    let ill = disks.ailing.iter().filter(|ailing| ailing.directory == directory);
    ill.map(|ailing| ailing.failed).sum()
}

/// Whether there was an error in the directory, reported or hidden.
pub fn has_met_error(directory: &Path) -> bool {
    let hidden = |file: &super::Tracked| file.errors > 0 && file.path.starts_with(directory);
    failed_calls(directory) > 0 || disks().files.values().any(hidden)
}

/// The first file for which a call has failed; none if unknown.
pub fn first_failed(directory: &Path) -> Option<PathBuf> {
    let disks = disks();
    let mut ill = disks.ailing.iter();
    let ailing = ill.find(|ailing| ailing.directory == directory && ailing.failed > 0)?;
    Some(ailing.first_failed.clone())
}

/// Ends the errors of a disk.
pub fn get_well(directory: &Path) {
    disks().ailing.retain(|ailing| ailing.directory != directory);
}

/// Moves a disk's directory, as when the disk is moved to another machine: its content does not change.
pub fn carry(from: &Path, to: &Path) -> std::io::Result<()> {
    INSIDE.set(true);
    let mut disks = disks();
    let moved = std::fs::rename(from, to);
    if moved.is_ok() {
        for file in disks.files.values_mut() {
            if let Ok(rest) = file.path.strip_prefix(from) {
                file.path = to.join(rest);
            }
        }
    }
    drop(disks);
    INSIDE.set(false);
    moved
}

/// Copies a disk's directory as it is, including unsynced writes.
pub fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    INSIDE.set(true);
    let copied = copy_directory(from, to).and_then(|()| names::synced_below(&mut disks(), to));
    INSIDE.set(false);
    copied
}

fn copy_directory(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_directory(&entry.path(), &target)?;
            continue;
        }
        // Journals are mostly holes.
        let source = std::fs::File::open(entry.path())?;
        let length = source.metadata()?.len();
        let target = std::fs::File::create(target)?;
        let mut start = 0;
        while let Some(data) = data_start(&source, start) {
            let end = data_end(&source, data);
            let mut bytes = vec![0; (end - data) as usize];
            source.read_exact_at(&mut bytes, data)?;
            target.write_all_at(&bytes, data)?;
            start = end;
        }
        target.set_len(length)?;
    }
    Ok(())
}

/// Removes a directory that is no longer in use.
pub fn scrap(directory: &Path) -> std::io::Result<()> {
    INSIDE.set(true);
    let removed = names::scrap(&mut disks(), directory);
    INSIDE.set(false);
    removed
}
