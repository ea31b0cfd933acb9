//! The disks of simulated machines: real files below the storage engine's own calls, which may lose unsynced writes, fail, rot,
//! or be moved to another machine.
//!
//! What may fail: when a machine loses power, each of its files keeps any of the pages that were written since its last sync, and
//! each directory any of the names that were created or removed since its own (`power`, `names`). Calls may fail, those of the
//! storage engine's own thread too, and power may fail at any of them, even where no simulated time passes (`ailments`). Bits and
//! sectors at rest may rot (`rot`). When a process is killed, data that was handed to the operating system is kept, but the
//! process' own buffers are lost, and code that runs while its memory is freed does not reach the disk.
//!
//! What cannot fail: synced data stays, unless it rots; a failed call does not reach the disk later.
//!
//! The simulator replaces libc's functions of these names in this program (`calls`). Files outside watched directories, and all
//! calls while no directory is watched, pass through.

#![allow(clippy::disallowed_methods)] // below the seam: these are the disks

mod ailments;
mod calls;
mod engine;
mod names;
mod power;
mod rot;
mod waits;

pub use ailments::{
    Ailment, carry, copy, failed_calls, fall_ill, fall_ill_and, first_failed, get_well, has_met_error,
    hide_error, scrap, syncs_since_error,
};
pub use engine::{engine_counts, seal_journals_after};
pub use power::{Lost, lose_power};
pub use rot::{Flip, difference, lose_sector, mend, rot, sums};
pub use waits::forbidden_wait;

use ailments::{Ailing, Call};
use libc::{c_int, off64_t};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Whether any directory is watched: a fast path for all other processes.
static WATCHING: AtomicBool = AtomicBool::new(false);
static DISKS: Mutex<Disks> = Mutex::new(Disks {
    roots: Vec::new(),
    frozen: Vec::new(),
    ailing: Vec::new(),
    short: Vec::new(),
    files: BTreeMap::new(),
    listings: BTreeMap::new(),
    engines: Vec::new(),
});

/// Device and number of a file.
type Inode = (u64, u64);

struct Disks {
    /// Watched directories, with their devices.
    roots: Vec<(PathBuf, u64)>,
    /// Directories whose machine is off.
    frozen: Vec<PathBuf>,
    ailing: Vec<Ailing>,
    /// Directories on a disk with little free space.
    short: Vec<PathBuf>,
    files: BTreeMap<Inode, Tracked>,
    /// The synced content of directories.
    listings: BTreeMap<Inode, names::Listing>,
    engines: Vec<engine::Engines>,
}

/// A file in a watched directory.
struct Tracked {
    path: PathBuf,
    /// For reading data before it is overwritten.
    reader: File,
    unsynced: Vec<Write>,
    /// The descriptor of the last write: the storage engine's.
    writes_through: Option<RawFd>,
    /// The number of sync errors so far.
    errors: u64,
    /// Syncs since a hidden error.
    syncs_since: u64,
    /// The engine's descriptor, if only the engine was told of the newest error.
    hidden_behind: Option<RawFd>,
    /// How many errors each descriptor was told of: each is told of every error once, whichever call met it.
    told: BTreeMap<RawFd, u64>,
}

impl Tracked {
    /// A handle for writing, whatever the file's present name.
    fn writer(&self) -> Option<File> {
        let link = format!("/proc/self/fd/{}", self.reader.as_raw_fd());
        File::options().write(true).open(link).ok()
    }

    /// Whether it has another name, kept in case the removed one comes back.
    fn is_kept(&self) -> bool {
        self.reader.metadata().is_ok_and(|metadata| metadata.nlink() > 1)
    }
}

/// A write since the last sync, and how to undo it.
struct Write {
    offset: u64,
    bytes: u64,
    overwritten: Vec<u8>,
    length_before: u64,
    /// A sync of it failed: no later one makes it durable.
    doomed: bool,
}

thread_local! {
    /// Whether this thread runs the simulator's own disk code, whose calls pass through.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Decides about a call.
fn decide(question: impl FnOnce(&mut Disks) -> Way) -> Way {
    if !WATCHING.load(Ordering::Acquire) || INSIDE.get() {
        return Way::Through;
    }
    INSIDE.set(true);
    let way = question(&mut disks());
    INSIDE.set(false);
    way
}

/// Reads files without the simulated disks: nothing fails, and nothing counts as a call of the machine.
pub fn unnoticed<T>(look: impl FnOnce() -> T) -> T {
    let before = INSIDE.replace(true);
    let found = look();
    INSIDE.set(before);
    found
}

fn disks() -> MutexGuard<'static, Disks> {
    DISKS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether this thread is a storage engine's own, not a rehearsal's.
fn is_engines_thread() -> bool {
    madsim::time::TimeHandle::try_current().is_none()
}

/// Raises the limit of open files to the maximum: the files of all simulated disks are open, most of them twice.
pub fn raise_open_files_max() {
    let mut limits = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: both calls get our own limits; if they fail, the limit stays as it was.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limits) == 0 {
            limits.rlim_cur = limits.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limits);
        }
    }
}

/// Watches the files in a directory from now on.
pub fn watch(root: &Path) -> std::io::Result<()> {
    let device = std::fs::metadata(root)?.dev();
    disks().roots.push((root.to_owned(), device));
    WATCHING.store(true, Ordering::Release);
    Ok(())
}

/// Stops watching a directory.
pub fn unwatch(root: &Path) {
    let mut disks = disks();
    disks.roots.retain(|(watched, _)| watched != root);
    disks.frozen.retain(|frozen| !frozen.starts_with(root));
    disks.ailing.retain(|ailing| !ailing.directory.starts_with(root));
    disks.short.retain(|short| !short.starts_with(root));
    disks.files.retain(|_, file| !file.path.starts_with(root));
    disks.engines.retain(|engines| engines.root != root);
    names::forget(&mut disks, root);
    WATCHING.store(!disks.roots.is_empty(), Ordering::Release);
}

/// Reports little free space on the disk of a directory from now on; writes still succeed.
pub fn run_short(directory: &Path) {
    disks().short.push(directory.to_owned());
}

/// Restores the free space of all disks.
pub fn relieve_all() {
    disks().short.clear();
}

/// Whether there is little free space on the disk of a directory; None if it is not watched.
fn is_short(directory: &Path) -> Option<bool> {
    if !WATCHING.load(Ordering::Acquire) {
        return None;
    }
    let disks = disks();
    let watched = disks.roots.iter().any(|(root, _)| directory.starts_with(root));
    watched.then(|| disks.short.iter().any(|short| directory.starts_with(short)))
}

/// From now on no write reaches the files of this directory, and no error is reported.
pub fn freeze(directory: &Path) {
    disks().frozen.push(directory.to_owned());
}

/// Writes reach the files again.
pub fn thaw(directory: &Path) {
    disks().frozen.retain(|frozen| frozen != directory);
}

/// The decision about a call.
enum Way {
    /// Passes through to libc.
    Through,
    /// Does nothing, and returns success.
    Swallow,
    /// Writes only this many bytes.
    Part(usize),
    /// Does nothing, and returns this error.
    Fail(c_int),
}

impl Disks {
    fn tracked(&mut self, descriptor: RawFd) -> Option<(&mut Tracked, u64)> {
        let status = status(descriptor)?;
        let inode = (status.st_dev, status.st_ino);
        if !self.roots.iter().any(|(_, device)| *device == inode.0) {
            return None;
        }
        if !self.files.contains_key(&inode) {
            let link = PathBuf::from(format!("/proc/self/fd/{descriptor}"));
            let path = std::fs::read_link(&link).ok()?;
            if status.st_mode & libc::S_IFMT != libc::S_IFREG
                || !self.roots.iter().any(|(root, _)| path.starts_with(root))
            {
                return None;
            }
            let reader = File::open(&link).ok()?;
            let unsynced = Vec::new();
            self.files.insert(
                inode,
                Tracked {
                    path,
                    reader,
                    unsynced,
                    writes_through: None,
                    errors: 0,
                    hidden_behind: None,
                    syncs_since: 0,
                    told: BTreeMap::new(),
                },
            );
        }
        let length = status.st_size as u64;
        self.files.get_mut(&inode).map(|file| (file, length))
    }

    fn is_frozen(&self, path: &Path) -> bool {
        self.frozen.iter().any(|frozen| path.starts_with(frozen))
    }

    /// The file of a call, if it is watched and neither frozen nor failing.
    fn standing(&mut self, descriptor: RawFd, call: Call) -> Result<(&mut Tracked, u64), Way> {
        let path = self.tracked(descriptor).map(|(file, _)| file.path.clone());
        let path = path.ok_or(Way::Through)?;
        waits::note(call.name());
        if self.is_frozen(&path) {
            return Err(Way::Swallow);
        }
        let failure = self.failure(&path, call);
        if call == Call::Sync
            && let Some((file, _)) = self.tracked(descriptor)
        {
            // The engine's own thread has met the error, and does nothing more.
            if file.hidden_behind == Some(descriptor) && is_engines_thread() {
                return Err(Way::Fail(libc::EIO));
            }
            file.syncs_since += u64::from(file.hidden_behind.is_some());
            if failure.is_some_and(|failure| !failure.is_crash) {
                file.errors += 1;
                for write in &mut file.unsynced {
                    write.doomed = true;
                }
            }
            let errors = file.errors;
            let told = file.told.insert(descriptor, errors).unwrap_or(0);
            if told < errors && failure.is_none() {
                return Err(Way::Fail(libc::EIO));
            }
        }
        let failure = failure.map(|failure| (failure.error, failure.is_first));
        match failure {
            Some((libc::ENOSPC, true)) => Err(Way::Part(0)),
            Some((error, _)) => Err(Way::Fail(error)),
            None => self.tracked(descriptor).ok_or(Way::Through),
        }
    }

    fn before_write(&mut self, descriptor: RawFd, offset: Option<u64>, bytes: u64) -> Way {
        let (file, length, bytes, way) = match self.standing(descriptor, Call::Write) {
            Ok((file, length)) => (file, length, bytes, Way::Through),
            // The disk becomes full in the middle of a write.
            Err(Way::Part(_)) if bytes > 1 => match self.tracked(descriptor) {
                Some((file, length)) => (file, length, bytes / 2, Way::Part(bytes as usize / 2)),
                None => return Way::Through,
            },
            Err(Way::Part(_)) => return Way::Fail(libc::ENOSPC),
            Err(way) => return way,
        };
        let offset = offset.unwrap_or_else(|| position(descriptor, length));
        let old = length.saturating_sub(offset).min(bytes);
        let mut overwritten = vec![0; old as usize];
        if file.reader.read_exact_at(&mut overwritten, offset).is_ok() {
            file.writes_through = Some(descriptor);
            file.unsynced.push(Write {
                offset,
                bytes,
                overwritten,
                length_before: length,
                doomed: false,
            });
        }
        way
    }

    /// A file is extended or truncated. Data behind the new end counts as overwritten; that it may be torn is not simulated.
    fn before_truncate(&mut self, descriptor: RawFd, length: u64) -> Way {
        let old = status(descriptor).map_or(0, |status| status.st_size as u64);
        let start = length.min(old);
        let way = self.before_write(descriptor, Some(start), 0);
        if let (Way::Through, Some((file, _))) = (&way, self.tracked(descriptor)) {
            let mut tail = vec![0; (data_end(&file.reader, start) - start) as usize];
            if file.reader.read_exact_at(&mut tail, start).is_ok()
                && let Some(write) = file.unsynced.last_mut()
            {
                write.overwritten = tail;
            }
        }
        way
    }

    fn before_rename(&mut self, from: &Path, to: &Path) -> Way {
        if self.is_frozen(from) {
            return Way::Swallow;
        }
        if let Some(failure) = self.failure(from, Call::Write) {
            return Way::Fail(failure.error);
        }
        for file in self.files.values_mut().filter(|file| file.path == from) {
            to.clone_into(&mut file.path);
        }
        Way::Through
    }

    fn before_unlink(&mut self, path: &Path) -> Way {
        if self.is_frozen(path) {
            return Way::Swallow;
        }
        if let Some(failure) = self.failure(path, Call::Name) {
            return Way::Fail(failure.error);
        }
        engine::note_removal(self, path);
        self.files.retain(|_, file| file.path != path || file.is_kept());
        Way::Through
    }

    /// A file that may be created.
    fn before_create(&mut self, path: &Path) -> Way {
        if path.exists() {
            return Way::Through;
        }
        if self.is_frozen(path) {
            return Way::Fail(libc::EIO);
        }
        if let Some(failure) = self.failure(path, Call::Write) {
            return Way::Fail(failure.error);
        }
        engine::note_creation(self, path);
        Way::Through
    }

    /// A file was opened: its descriptor is told of errors from now on, and of one that no descriptor was told of yet.
    fn after_open(&mut self, descriptor: RawFd) -> Way {
        if let Some((file, _)) = self.tracked(descriptor) {
            file.hidden_behind = file.hidden_behind.filter(|hidden| *hidden != descriptor);
            let is_known = file.told.values().any(|told| *told == file.errors);
            let told = if is_known {
                file.errors
            } else {
                file.errors.saturating_sub(1)
            };
            file.told.insert(descriptor, told);
        }
        Way::Through
    }

    fn before_read(&mut self, descriptor: RawFd) -> Way {
        if self.ailing.is_empty() && !waits::is_forbidden() {
            return Way::Through;
        }
        match self.standing(descriptor, Call::Read) {
            Err(Way::Fail(error)) => Way::Fail(error),
            _ => Way::Through,
        }
    }

    fn before_sync(&mut self, descriptor: RawFd) -> Way {
        match self.standing(descriptor, Call::Sync) {
            Ok((file, _)) => {
                keep_doomed(&mut file.unsynced);
                Way::Through
            }
            // The engine's own thread may outlive its process a little. After a sync it renames the file, by calls that are not
            // intercepted here. If the sync returned success, an empty file would get the name.
            Err(Way::Swallow) => Way::Fail(libc::EIO),
            Err(Way::Through) => {
                names::synced(self, descriptor);
                Way::Through
            }
            Err(way) => way,
        }
    }
}

/// After a successful sync, the writes remain that an earlier sync failed to write, unless they were truncated since: then their
/// replacement is on the disk.
fn keep_doomed(unsynced: &mut Vec<Write>) {
    let cut = unsynced
        .iter()
        .rposition(|write| write.bytes == 0 && !write.doomed)
        .map(|number| (number, unsynced[number].offset));
    let mut number = 0;
    unsynced.retain(|write| {
        let is_cut_off = cut.is_some_and(|(last, offset)| number < last && write.offset >= offset);
        number += 1;
        write.doomed && !is_cut_off
    });
}

fn status(descriptor: RawFd) -> Option<libc::stat64> {
    let mut status = std::mem::MaybeUninit::<libc::stat64>::uninit();
    // SAFETY: the kernel fills the structure or reports that it did not.
    unsafe { (libc::fstat64(descriptor, status.as_mut_ptr()) == 0).then(|| status.assume_init()) }
}

/// The end of the data behind `start`: new journals are mostly holes.
fn data_end(file: &File, start: u64) -> u64 {
    // SAFETY: the descriptor is open; the file is read by offset, so its position does not matter.
    unsafe {
        let data = libc::lseek64(file.as_raw_fd(), start as off64_t, libc::SEEK_DATA);
        if data < 0 {
            return start;
        }
        (libc::lseek64(file.as_raw_fd(), data, libc::SEEK_HOLE) as u64).max(start)
    }
}

/// The start of the first data from `start` on.
fn data_start(file: &File, start: u64) -> Option<u64> {
    // SAFETY: the descriptor is open; the file is read by offset, so its position does not matter.
    let data = unsafe { libc::lseek64(file.as_raw_fd(), start as off64_t, libc::SEEK_DATA) };
    u64::try_from(data).ok()
}

/// The offset of the next write to a descriptor.
fn position(descriptor: RawFd, length: u64) -> u64 {
    // SAFETY: both calls take plain numbers.
    unsafe {
        if libc::fcntl(descriptor, libc::F_GETFL) & libc::O_APPEND != 0 {
            return length;
        }
        libc::lseek64(descriptor, 0, libc::SEEK_CUR).max(0) as u64
    }
}
