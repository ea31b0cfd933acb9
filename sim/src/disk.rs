//! The disks of simulated machines: real files below the storage engine's own calls, which may lose what was not synced.
//!
//! What may fail: when a machine loses power, each of its files keeps a random beginning of what was written to it since
//! its last sync; the first write that is lost may be there in part. When a process is killed, nothing that was handed
//! to the operating system is lost, but what the process still held in its own buffers is, and nothing that runs while
//! its memory is cleared away reaches the disk. What cannot fail, yet: syncs, names of files and directories, bytes at
//! rest.
//!
//! It works by standing before libc's functions of these names in this program. Files outside watched directories, and
//! everything while nothing is watched, pass through.

use crate::random::Stream;
use libc::{c_char, c_int, c_void, off64_t, size_t, ssize_t};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Whether any directory is watched: the way for everybody else is short.
static WATCHING: AtomicBool = AtomicBool::new(false);
static DISKS: Mutex<Disks> = Mutex::new(Disks {
    roots: Vec::new(),
    frozen: Vec::new(),
    files: BTreeMap::new(),
});

/// Device and number of a file.
type Inode = (u64, u64);

struct Disks {
    /// Watched directories, with their devices.
    roots: Vec<(PathBuf, u64)>,
    /// Directories whose machine is off.
    frozen: Vec<PathBuf>,
    files: BTreeMap<Inode, Tracked>,
}

/// A file in a watched directory.
struct Tracked {
    path: PathBuf,
    /// For reading what is about to be overwritten.
    reader: File,
    unsynced: Vec<Write>,
}

/// A write since the last sync, and how to undo it.
struct Write {
    offset: u64,
    bytes: u64,
    overwritten: Vec<u8>,
    length_before: u64,
}

thread_local! {
    /// Whether this thread is at work here: what it calls meanwhile passes through.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Asks what is to be done with a call.
fn decide(question: impl FnOnce(&mut Disks) -> Way) -> Way {
    if !WATCHING.load(Ordering::Acquire) || INSIDE.get() {
        return Way::Through;
    }
    INSIDE.set(true);
    let way = question(&mut disks());
    INSIDE.set(false);
    way
}

fn disks() -> MutexGuard<'static, Disks> {
    DISKS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Watches the files in a directory from now on.
pub fn watch(root: &Path) -> std::io::Result<()> {
    let device = std::fs::metadata(root)?.dev();
    disks().roots.push((root.to_owned(), device));
    WATCHING.store(true, Ordering::Release);
    Ok(())
}

/// Forgets a directory.
pub fn unwatch(root: &Path) {
    let mut disks = disks();
    disks.roots.retain(|(watched, _)| watched != root);
    disks.frozen.retain(|frozen| !frozen.starts_with(root));
    disks.files.retain(|_, file| !file.path.starts_with(root));
    WATCHING.store(!disks.roots.is_empty(), Ordering::Release);
}

/// From now on nothing reaches the files of this directory, though nobody is told.
pub fn freeze(directory: &Path) {
    disks().frozen.push(directory.to_owned());
}

/// Writes reach the files again.
pub fn thaw(directory: &Path) {
    disks().frozen.retain(|frozen| frozen != directory);
}

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
        let Ok(file) = File::options().write(true).open(&tracked.path) else {
            continue; // removed meanwhile
        };
        let kept = if random.chance(50) {
            0
        } else {
            random.below(writes.len() as u64 + 1) as usize
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

fn undo(file: &File, write: &Write) -> std::io::Result<()> {
    file.write_all_at(&write.overwritten, write.offset)?;
    file.set_len(write.length_before)
}

/// What is to be done with a call.
enum Way {
    /// As if nobody stood here.
    Through,
    /// Nothing, and success.
    Swallow,
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
                },
            );
        }
        let length = status.st_size as u64;
        self.files.get_mut(&inode).map(|file| (file, length))
    }

    fn is_frozen(&self, path: &Path) -> bool {
        self.frozen.iter().any(|frozen| path.starts_with(frozen))
    }

    fn before_write(&mut self, descriptor: RawFd, offset: Option<u64>, bytes: u64) -> Way {
        let frozen = std::mem::take(&mut self.frozen);
        let mut way = Way::Through;
        if let Some((file, length)) = self.tracked(descriptor) {
            if frozen.iter().any(|directory| file.path.starts_with(directory)) {
                way = Way::Swallow;
            } else {
                let offset = offset.unwrap_or_else(|| position(descriptor, length));
                let old = length.saturating_sub(offset).min(bytes);
                let mut overwritten = vec![0; old as usize];
                if file.reader.read_exact_at(&mut overwritten, offset).is_ok() {
                    file.unsynced.push(Write {
                        offset,
                        bytes,
                        overwritten,
                        length_before: length,
                    });
                }
            }
        }
        self.frozen = frozen;
        way
    }

    /// A file that is made longer or shorter. What lay behind the new end counts as overwritten; that it may be torn is
    /// left out.
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
        for file in self.files.values_mut().filter(|file| file.path == from) {
            to.clone_into(&mut file.path);
        }
        Way::Through
    }

    fn before_unlink(&mut self, path: &Path) -> Way {
        if self.is_frozen(path) {
            return Way::Swallow;
        }
        self.files.retain(|_, file| file.path != path);
        Way::Through
    }

    fn before_sync(&mut self, descriptor: RawFd) -> Way {
        let frozen = std::mem::take(&mut self.frozen);
        let mut way = Way::Through;
        if let Some((file, _)) = self.tracked(descriptor) {
            if frozen.iter().any(|directory| file.path.starts_with(directory)) {
                way = Way::Swallow;
            } else {
                file.unsynced.clear();
            }
        }
        self.frozen = frozen;
        way
    }
}

fn status(descriptor: RawFd) -> Option<libc::stat64> {
    let mut status = std::mem::MaybeUninit::<libc::stat64>::uninit();
    // SAFETY: the kernel fills the structure or says that it did not.
    unsafe { (libc::fstat64(descriptor, status.as_mut_ptr()) == 0).then(|| status.assume_init()) }
}

/// Where the data behind `start` ends: journals are long holes from the start.
fn data_end(file: &File, start: u64) -> u64 {
    // SAFETY: the descriptor is open; the position of a file that is read by offset does not matter.
    unsafe {
        let data = libc::lseek64(file.as_raw_fd(), start as off64_t, libc::SEEK_DATA);
        if data < 0 {
            return start;
        }
        (libc::lseek64(file.as_raw_fd(), data, libc::SEEK_HOLE) as u64).max(start)
    }
}

/// Where the next write to a descriptor goes.
fn position(descriptor: RawFd, length: u64) -> u64 {
    // SAFETY: both calls take plain numbers.
    unsafe {
        if libc::fcntl(descriptor, libc::F_GETFL) & libc::O_APPEND != 0 {
            return length;
        }
        libc::lseek64(descriptor, 0, libc::SEEK_CUR).max(0) as u64
    }
}

/// libc's own function of a name, looked up once.
macro_rules! real {
    ($name:literal as $kind:ty) => {{
        static FOUND: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());
        let mut found = FOUND.load(Ordering::Acquire);
        if found.is_null() {
            let name: *const c_char = $name.as_ptr();
            // SAFETY: the name is a C string.
            found = unsafe { libc::dlsym(libc::RTLD_NEXT, name) };
            assert!(!found.is_null(), "libc has this function");
            FOUND.store(found, Ordering::Release);
        }
        // SAFETY: the type is that of libc's function of this name.
        unsafe { std::mem::transmute::<*mut c_void, $kind>(found) }
    }};
}

/// # Safety
/// That of libc's function of this name; the same holds for those below.
#[unsafe(no_mangle)]
unsafe extern "C" fn write(descriptor: c_int, bytes: *const c_void, count: size_t) -> ssize_t {
    if let Way::Swallow = decide(|disks| disks.before_write(descriptor, None, count as u64)) {
        return count as ssize_t;
    }
    let real = real!(c"write" as unsafe extern "C" fn(c_int, *const c_void, size_t) -> ssize_t);
    // SAFETY: the caller's arguments, as they are.
    unsafe { real(descriptor, bytes, count) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn pwrite64(
    descriptor: c_int,
    bytes: *const c_void,
    count: size_t,
    offset: off64_t,
) -> ssize_t {
    let question = |disks: &mut Disks| disks.before_write(descriptor, Some(offset as u64), count as u64);
    if let Way::Swallow = decide(question) {
        return count as ssize_t;
    }
    let real = real!(c"pwrite64" as unsafe extern "C" fn(c_int, *const c_void, size_t, off64_t) -> ssize_t);
    // SAFETY: the caller's arguments, as they are.
    unsafe { real(descriptor, bytes, count, offset) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn ftruncate64(descriptor: c_int, length: off64_t) -> c_int {
    if let Way::Swallow = decide(|disks| disks.before_truncate(descriptor, length as u64)) {
        return 0;
    }
    let real = real!(c"ftruncate64" as unsafe extern "C" fn(c_int, off64_t) -> c_int);
    // SAFETY: the caller's arguments, as they are.
    unsafe { real(descriptor, length) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn fsync(descriptor: c_int) -> c_int {
    if let Way::Swallow = decide(|disks| disks.before_sync(descriptor)) {
        return 0;
    }
    let real = real!(c"fsync" as unsafe extern "C" fn(c_int) -> c_int);
    // SAFETY: the caller's argument, as it is.
    unsafe { real(descriptor) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn fdatasync(descriptor: c_int) -> c_int {
    if let Way::Swallow = decide(|disks| disks.before_sync(descriptor)) {
        return 0;
    }
    let real = real!(c"fdatasync" as unsafe extern "C" fn(c_int) -> c_int);
    // SAFETY: the caller's argument, as it is.
    unsafe { real(descriptor) }
}

/// # Safety
/// `path` must be a C string.
unsafe fn path_of(path: *const c_char) -> PathBuf {
    // SAFETY: promised by the caller.
    let bytes = unsafe { CStr::from_ptr(path) }.to_bytes();
    PathBuf::from(std::ffi::OsStr::from_bytes(bytes))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rename(from: *const c_char, to: *const c_char) -> c_int {
    // SAFETY: the caller's strings.
    if let Way::Swallow = decide(|disks| unsafe { disks.before_rename(&path_of(from), &path_of(to)) }) {
        return 0;
    }
    let real = real!(c"rename" as unsafe extern "C" fn(*const c_char, *const c_char) -> c_int);
    // SAFETY: the caller's arguments, as they are.
    unsafe { real(from, to) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn unlink(path: *const c_char) -> c_int {
    // SAFETY: the caller's string.
    if let Way::Swallow = decide(|disks| unsafe { disks.before_unlink(&path_of(path)) }) {
        return 0;
    }
    let real = real!(c"unlink" as unsafe extern "C" fn(*const c_char) -> c_int);
    // SAFETY: the caller's argument, as it is.
    unsafe { real(path) }
}
