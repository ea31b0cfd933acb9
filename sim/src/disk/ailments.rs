//! Disks that do not do what they are asked: errors that calls return while a disk is ill, or once its machine has no power
//! any more.
//!
//! The calls of the rehearsal's own thread fail, or those of the storage engine's threads, never both: the former wait
//! while the latter work, so each keeps an order that the seed decides.

use super::names;
use super::{Disks, INSIDE, data_end, data_start, disks};
use libc::c_int;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// What a disk can suffer from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ailment {
    /// Syncs fail. What was written since the last good one may be lost at the next loss of power, whatever later syncs
    /// say.
    Syncs,
    Writes,
    Reads,
    /// There is no space left.
    Full,
    /// One sync fails that the storage engine's own thread makes; later ones on the same file succeed. What was written
    /// before may be lost all the same.
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

/// What a file is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Sync,
    Write,
    Read,
    /// A name is removed.
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

/// Files that a member goes on without where the disk is full: it stops for no error of these.
const SPARED: [&str; 2] = ["reserve", "contacts"];

/// A disk that is ill.
#[derive(Debug)]
pub(super) struct Ailing {
    pub directory: PathBuf,
    ailment: Ailment,
    /// Calls that still succeed.
    good_calls: u64,
    failed: u64,
    first_failed: PathBuf,
    /// What is done as soon as a call has failed.
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
    /// Whether a call on this file fails, and how.
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

/// The disk under a directory falls ill, after some calls more.
pub fn fall_ill(directory: &Path, ailment: Ailment, good_calls: u64) {
    fall_ill_and(directory, ailment, good_calls, None);
}

/// The same; what is given is done with the first call that fails, at once, wherever that is.
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

/// The storage engine's own thread is told of an error in a sync of one of these journals, and of nothing else: what was
/// not synced is lost, and the engine's next sync returns success, as it does until the engine has noted that it cannot go
/// on. False if all was synced.
pub fn hide_error(database: &Path) -> bool {
    let mut disks = disks();
    let files = disks.files.values_mut();
    let mut found = false;
    for file in files.filter(|file| file.path.parent() == Some(database)) {
        // What earlier errors were followed by is no matter.
        (file.hides_error, file.syncs_since) = (false, 0);
        if file.unsynced.is_empty() {
            continue;
        }
        let Some(descriptor) = file.writes_through else {
            continue;
        };
        // Whoever opens a file is not told of what others know. The engine notes its errors before it lets go of a journal
        // that nobody else has open yet.
        if file.told.keys().all(|opened| *opened == descriptor) {
            continue;
        }
        file.errors += 1;
        file.hides_error = true;
        file.told.insert(descriptor, file.errors);
        for write in &mut file.unsynced {
            write.doomed = true;
        }
        found = true;
    }
    found
}

/// How many syncs of a database's files were asked for since one has failed.
pub fn syncs_since_error(database: &Path) -> u64 {
    let disks = disks();
    let files = disks.files.values();
    files
        .filter(|file| file.path.parent() == Some(database))
        .map(|file| file.syncs_since)
        .sum()
}

/// How many calls have failed so far.
pub fn failed_calls(directory: &Path) -> u64 {
    let disks = disks();
    let ill = disks.ailing.iter().filter(|ailing| ailing.directory == directory);
    ill.map(|ailing| ailing.failed).sum()
}

/// Whether anything on it has met an error, told of or not.
pub fn has_met_error(directory: &Path) -> bool {
    let hidden = |file: &super::Tracked| file.errors > 0 && file.path.starts_with(directory);
    failed_calls(directory) > 0 || disks().files.values().any(hidden)
}

/// The first file that a call to has failed for; none where that is not known.
pub fn first_failed(directory: &Path) -> Option<PathBuf> {
    let disks = disks();
    let mut ill = disks.ailing.iter();
    let ailing = ill.find(|ailing| ailing.directory == directory && ailing.failed > 0)?;
    Some(ailing.first_failed.clone())
}

/// It is well again.
pub fn get_well(directory: &Path) {
    disks().ailing.retain(|ailing| ailing.directory != directory);
}

/// Moves a disk's directory, as by carrying the disk elsewhere: nothing on it changes.
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

/// Copies a disk's directory as it is, with what was written and not synced.
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

/// Removes a directory that nobody uses any more.
pub fn scrap(directory: &Path) -> std::io::Result<()> {
    INSIDE.set(true);
    let removed = names::scrap(&mut disks(), directory);
    INSIDE.set(false);
    removed
}
