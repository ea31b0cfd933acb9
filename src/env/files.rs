//! Directories and the few small files that Callboard keeps besides the storage engine's. Shared by both modules: the simulator
//! uses real scratch directories.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // this is the seam

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{BufReader, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// The chunk in which the end of a file is read: small, so that little of a hole's neighbourhood is read needlessly.
const REST_CHUNK_BYTES: usize = 16 * 1024;

/// Whether a thread that gives work to a storage engine's own thread waits until it is done.
pub const WAITS_FOR_ENGINES: bool = cfg!(madsim);

/// The delay before a waiting thread checks the progress of another thread again.
const DISK_WAIT: Duration = if WAITS_FOR_ENGINES {
    Duration::from_micros(50)
} else {
    Duration::from_millis(1)
};

/// A file operation that failed, with its path.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {path}: {source}", path = path.display())]
pub struct FileError {
    action: &'static str,
    path: PathBuf,
    source: std::io::Error,
}

impl FileError {
    pub(crate) fn new(action: &'static str, path: &Path, source: std::io::Error) -> Self {
        failed(action, path)(source)
    }

    /// The operating system's reason.
    pub fn kind(&self) -> ErrorKind {
        self.source.kind()
    }
}

pub(super) fn failed(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> FileError {
    let path = path.to_owned();
    move |source| FileError { action, path, source }
}

/// Creates a directory that only its owner may read, with its parents. An existing directory stays as it is.
pub fn create_directory(path: &Path) -> Result<(), FileError> {
    use std::os::unix::fs::DirBuilderExt;
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o700);
    let is_new = |directory: &&Path| !directory.as_os_str().is_empty() && !directory.exists();
    let made = path.ancestors().take_while(is_new).count();
    builder.create(path).map_err(failed("create directory", path))?;
    // The name of each new directory is in its parent.
    let mut parents = path.ancestors().skip(1);
    parents.by_ref().take(made.max(1)).try_for_each(sync_directory)
}

/// Free and total bytes of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskSpace {
    pub free_bytes: u64,
    pub total_bytes: u64,
}

/// The space on the disk of a directory; free is what an unprivileged user may take.
pub fn disk_space(path: &Path) -> Result<DiskSpace, FileError> {
    let name = CString::new(path.as_os_str().as_bytes());
    let name = name.map_err(|error| failed("find the disk of", path)(error.into()))?;
    let mut found = std::mem::MaybeUninit::<libc::statvfs64>::uninit();
    // SAFETY: the name is a C string, and the call fills the structure or reports that it did not.
    let found = unsafe {
        if libc::statvfs64(name.as_ptr(), found.as_mut_ptr()) != 0 {
            return Err(failed("find the disk of", path)(std::io::Error::last_os_error()));
        }
        found.assume_init()
    };
    Ok(DiskSpace {
        free_bytes: found.f_bavail.saturating_mul(found.f_frsize),
        total_bytes: found.f_blocks.saturating_mul(found.f_frsize),
    })
}

/// Removes a directory with its content; a missing directory is no error.
pub fn remove_directory(path: &Path) -> Result<(), FileError> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(failed("remove", path)(error)),
        _ => Ok(()),
    }
}

/// The length of a file; 0 if it does not exist.
pub fn file_length(path: &Path) -> Result<u64, FileError> {
    match std::fs::metadata(path) {
        Ok(metadata) => Ok(metadata.len()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(0),
        Err(error) => Err(failed("look at", path)(error)),
    }
}

/// Gives a file this length, with disk blocks for all of it. If they do not fit, the file keeps its length. A length of 0 removes
/// the file.
pub fn allocate_file(path: &Path, bytes: u64) -> Result<(), FileError> {
    use std::os::fd::AsRawFd;
    let before = file_length(path)?;
    if bytes == 0 {
        return remove_file(path);
    }
    let mut options = OpenOptions::new();
    let file = options.create(true).truncate(false).write(true).open(path);
    let file = file.map_err(failed("create", path))?;
    if bytes < before {
        return file.set_len(bytes).map_err(failed("shorten", path));
    }
    // SAFETY: the descriptor is open as long as the file is.
    let code = unsafe { libc::posix_fallocate64(file.as_raw_fd(), 0, bytes as i64) };
    if code == 0 {
        return Ok(());
    }
    file.set_len(before).map_err(failed("shorten", path))?;
    Err(failed("reserve room in", path)(
        std::io::Error::from_raw_os_error(code),
    ))
}

/// Removes a file; a missing file is no error. Until its directory is synced, a power loss may bring its name back.
pub fn remove_file(path: &Path) -> Result<(), FileError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(failed("remove", path)(error)),
        _ => Ok(()),
    }
}

pub fn exists(path: &Path) -> bool {
    path.exists()
}

pub fn is_directory(path: &Path) -> bool {
    path.is_dir()
}

/// The names in a directory, sorted.
pub fn list_directory(path: &Path) -> Result<Vec<String>, FileError> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path).map_err(failed("list", path))? {
        let entry = entry.map_err(failed("list", path))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Renames a file and makes the new name durable.
pub fn rename(from: &Path, to: &Path) -> Result<(), FileError> {
    std::fs::rename(from, to).map_err(failed("rename", from))?;
    sync_directory(to.parent().unwrap_or(to))
}

/// The content of a file; none if it does not exist.
pub fn read_file(path: &Path) -> Result<Option<Vec<u8>>, FileError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", path)(error)),
    }
}

/// Replaces a file durably: after a crash it holds the old bytes or the new ones, never a part. Only its owner may read it, since
/// it may be a key.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    use std::os::unix::fs::OpenOptionsExt;
    let scratch = path.with_extension("new");
    let mut options = OpenOptions::new();
    options.create(true).truncate(true).write(true).mode(0o600);
    let mut file = options.open(&scratch).map_err(failed("create", &scratch))?;
    file.write_all(bytes).map_err(failed("write", &scratch))?;
    file.sync_all().map_err(failed("sync", &scratch))?;
    rename(&scratch, path)
}

/// A file as it is on disk, not in the operating system's cache. After a failed sync the two can differ: data that could not be
/// written stays readable until it leaves the cache, and no later sync writes it.
#[derive(Debug)]
pub struct DiskFile {
    path: PathBuf,
    reader: BufReader<File>,
}

impl DiskFile {
    /// Opens a file for reading from its beginning.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let file = OpenOptions::new().read(true).write(true).open(path);
        let file = file.map_err(failed("open", path))?;
        // Unwritten data cannot be dropped from the cache.
        file.sync_all().map_err(failed("sync", path))?;
        // SAFETY: plain numbers. If the advice is ignored, only the check for the remains of a failed sync is lost.
        let _ = unsafe { libc::posix_fadvise64(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
        Ok(Self {
            path: path.to_owned(),
            reader: BufReader::new(file),
        })
    }

    /// Opens a file in use for reading; none if it does not exist. Data on its way to the disk is read from memory, everything
    /// else from the disk.
    pub fn look_into(path: &Path) -> Result<Option<Self>, FileError> {
        let file = match File::open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(failed("open", path))?,
        };
        // SAFETY: plain numbers. If the advice is ignored, the cached data is checked instead.
        let _ = unsafe { libc::posix_fadvise64(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
        Ok(Some(Self {
            path: path.to_owned(),
            reader: BufReader::with_capacity(REST_CHUNK_BYTES, file),
        }))
    }

    /// Reads some bytes; 0 at the end of the file.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, FileError> {
        self.reader.read(buffer).map_err(failed("read", &self.path))
    }

    /// Continues reading at this offset.
    pub fn seek(&mut self, offset: u64) -> Result<(), FileError> {
        let sought = self.reader.seek(SeekFrom::Start(offset));
        sought.map(drop).map_err(failed("read", &self.path))
    }

    /// Fills the buffer; false at the end of the file.
    pub fn read_exact(&mut self, buffer: &mut [u8]) -> Result<bool, FileError> {
        match self.reader.read_exact(buffer) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(failed("read", &self.path)(error)),
            Ok(()) => Ok(true),
        }
    }

    /// Everything from `offset` on, without the zeros at the end. Holes are skipped.
    pub fn rest(&mut self, offset: u64) -> Result<Vec<u8>, FileError> {
        let length = self.length()?;
        let unreadable = |error| failed("read", &self.path)(error);
        let file = self.reader.get_mut();
        let mut rest = Vec::new();
        let mut at = offset;
        while at < length {
            // SAFETY: plain numbers.
            let data = unsafe { libc::lseek64(file.as_raw_fd(), at as i64, libc::SEEK_DATA) };
            let Ok(data) = u64::try_from(data) else { break };
            rest.resize((data - offset) as usize, 0);
            file.seek(SeekFrom::Start(data)).map_err(unreadable)?;
            let mut chunk = vec![0; REST_CHUNK_BYTES.min((length - data) as usize)];
            file.read_exact(&mut chunk).map_err(unreadable)?;
            rest.append(&mut chunk);
            at = offset + rest.len() as u64;
        }
        let end = rest
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |last| last + 1);
        rest.truncate(end);
        Ok(rest)
    }

    /// The length of the file, in bytes.
    pub fn length(&self) -> Result<u64, FileError> {
        let metadata = self.reader.get_ref().metadata();
        Ok(metadata.map_err(failed("read", &self.path))?.len())
    }

    /// Writes the bytes that follow `offset`, and zeros from there to `length`, durably.
    pub fn write_rest(&mut self, offset: u64, bytes: &[u8], length: u64) -> Result<(), FileError> {
        use std::os::unix::fs::FileExt;
        let file = self.reader.get_mut();
        let written = file
            .write_all_at(bytes, offset)
            .and_then(|()| file.set_len(length))
            .and_then(|()| file.sync_all());
        written.map_err(failed("write", &self.path))
    }

    /// Truncates the file, durably.
    pub fn truncate(&mut self, length: u64) -> Result<(), FileError> {
        let file = self.reader.get_mut();
        let cut = file.set_len(length).and_then(|()| file.sync_all());
        cut.map_err(failed("truncate", &self.path))
    }
}

/// A file that other code writes, for syncing. It reports every writeback error since it was opened, even if another descriptor
/// has reported it too.
#[derive(Debug)]
pub struct SyncedFile {
    file: File,
}

impl SyncedFile {
    /// None if there is no such file.
    pub fn open(path: &Path) -> Result<Option<Self>, std::io::Error> {
        match OpenOptions::new().write(true).open(path) {
            Ok(file) => Ok(Some(Self { file })),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes the data written so far durable. Blocks.
    pub fn sync_data(&self) -> Result<(), std::io::Error> {
        self.file.sync_data()
    }
}

/// Blocks this thread for a moment, while another one works on the disk.
pub fn wait_for_disk() {
    std::thread::sleep(DISK_WAIT);
}

/// How many threads hold the storage engines' own threads back.
static ENGINES_HELD: AtomicUsize = AtomicUsize::new(0);

/// In the simulator, the storage engines' own threads do nothing while this value exists. So a caller can give an engine all of
/// its work, and count it, before any of it is done. Elsewhere it has no effect.
#[derive(Debug)]
pub struct EnginesHeld(());

pub fn hold_engines() -> EnginesHeld {
    if WAITS_FOR_ENGINES {
        ENGINES_HELD.fetch_add(1, Ordering::AcqRel);
    }
    EnginesHeld(())
}

impl Drop for EnginesHeld {
    fn drop(&mut self) {
        if WAITS_FOR_ENGINES {
            ENGINES_HELD.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

pub fn are_engines_held() -> bool {
    ENGINES_HELD.load(Ordering::Acquire) > 0
}

/// Makes the names in a directory durable.
pub fn sync_directory(path: &Path) -> Result<(), FileError> {
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    let directory = File::open(path).map_err(failed("open", path))?;
    directory.sync_all().map_err(failed("sync", path))
}

/// Held while the process uses the directory.
#[derive(Debug)]
pub struct DirectoryLock {
    _file: File,
}

/// Locks a directory against other processes. An error of kind `WouldBlock` means that another process uses it.
pub fn lock_directory(path: &Path) -> Result<DirectoryLock, FileError> {
    let lock = path.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&lock)
        .map_err(failed("open", &lock))?;
    match file.try_lock() {
        Ok(()) => Ok(DirectoryLock { _file: file }),
        Err(std::fs::TryLockError::WouldBlock) => {
            Err(failed("lock", &lock)(std::io::Error::from(ErrorKind::WouldBlock)))
        }
        Err(std::fs::TryLockError::Error(error)) => Err(failed("lock", &lock)(error)),
    }
}
