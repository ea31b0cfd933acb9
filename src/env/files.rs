//! Directories and the few small files that Callboard keeps beside the storage engine. The same in both worlds: the
//! simulator runs on real scratch directories.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // this is the seam

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

/// A file operation that failed, with the path it was about.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {path}: {source}", path = path.display())]
pub struct FileError {
    action: &'static str,
    path: PathBuf,
    source: std::io::Error,
}

impl FileError {
    /// The operating system's reason.
    pub fn kind(&self) -> ErrorKind {
        self.source.kind()
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> FileError {
    let path = path.to_owned();
    move |source| FileError { action, path, source }
}

/// Makes a directory that only its owner may read, with its parents. One that exists stays as it is.
pub fn create_directory(path: &Path) -> Result<(), FileError> {
    use std::os::unix::fs::DirBuilderExt;
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder.create(path).map_err(failed("create directory", path))?;
    sync_directory(path.parent().unwrap_or(path))
}

/// Removes a directory with all it holds; one that does not exist is no error.
pub fn remove_directory(path: &Path) -> Result<(), FileError> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(failed("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Whether there is something under this name.
pub fn exists(path: &Path) -> bool {
    path.exists()
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

/// Renames, and makes the new name durable.
pub fn rename(from: &Path, to: &Path) -> Result<(), FileError> {
    std::fs::rename(from, to).map_err(failed("rename", from))?;
    sync_directory(to.parent().unwrap_or(to))
}

/// The whole file, or nothing where there is none.
pub fn read_file(path: &Path) -> Result<Option<Vec<u8>>, FileError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", path)(error)),
    }
}

/// Replaces a file durably: after a crash it holds the old bytes or the new ones, never a part.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let scratch = path.with_extension("new");
    let mut file = File::create(&scratch).map_err(failed("create", &scratch))?;
    file.write_all(bytes).map_err(failed("write", &scratch))?;
    file.sync_all().map_err(failed("sync", &scratch))?;
    rename(&scratch, path)
}

fn sync_directory(path: &Path) -> Result<(), FileError> {
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    let directory = File::open(path).map_err(failed("open", path))?;
    directory.sync_all().map_err(failed("sync", path))
}

/// Held as long as the process uses the directory.
#[derive(Debug)]
pub struct DirectoryLock {
    _file: File,
}

/// Locks a directory against other processes. An error of kind `WouldBlock` means that one uses it already.
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
