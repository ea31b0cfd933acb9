//! Where log lines end up: a file that grows at its end, and the journal of systemd (systemd's "Native Journal Protocol"). The same
//! in both worlds.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // this is the seam

use super::files::{FileError, failed};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A file that is written at its end, whoever else writes to it or has renamed it. What is written is not synced.
#[derive(Debug)]
pub struct AppendFile {
    path: PathBuf,
    file: File,
}

impl AppendFile {
    /// Opens a file, or makes it with these permissions (less what the process' mask takes).
    pub fn open(path: &Path, mode: u32) -> Result<Self, FileError> {
        let file = OpenOptions::new().create(true).append(true).mode(mode).open(path);
        Ok(Self {
            path: path.to_owned(),
            file: file.map_err(failed("open", path))?,
        })
    }

    /// In bytes.
    pub fn length(&self) -> Result<u64, FileError> {
        let metadata = self.file.metadata();
        Ok(metadata.map_err(failed("look at", &self.path))?.len())
    }

    /// Its permissions.
    pub fn mode(&self) -> Result<u32, FileError> {
        let metadata = self.file.metadata().map_err(failed("look at", &self.path))?;
        Ok(metadata.permissions().mode() & 0o777)
    }

    /// Gives it these permissions.
    pub fn set_mode(&self, mode: u32) -> Result<(), FileError> {
        let set = self.file.set_permissions(std::fs::Permissions::from_mode(mode));
        set.map_err(failed("change the permissions of", &self.path))
    }

    /// Brings what was written to the disk. Blocks.
    pub fn sync(&self) -> Result<(), FileError> {
        self.file.sync_all().map_err(failed("sync", &self.path))
    }
}

impl Write for AppendFile {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Where the journal listens.
const JOURNAL_SOCKET: &str = "/run/systemd/journal/socket";

/// The journal. Each record is a datagram.
#[derive(Debug)]
pub struct Journal(UnixDatagram);

impl Journal {
    /// Finds the journal of this machine.
    pub fn open() -> Result<Self, FileError> {
        Self::at(Path::new(JOURNAL_SOCKET))
    }

    fn at(path: &Path) -> Result<Self, FileError> {
        let connected = UnixDatagram::unbound().and_then(|socket| {
            socket.connect(path)?;
            Ok(Self(socket))
        });
        connected.map_err(failed("connect to", path))
    }

    /// Sends one record: names and values of its fields.
    pub fn send(&self, fields: &[(&str, &[u8])]) -> std::io::Result<()> {
        let mut record = Vec::new();
        for (name, value) in fields {
            // With its length, since a value may have several lines.
            record.extend_from_slice(name.as_bytes());
            record.push(b'\n');
            record.extend_from_slice(&(value.len() as u64).to_le_bytes());
            record.extend_from_slice(value);
            record.push(b'\n');
        }
        self.0.send(&record).map(drop)
    }
}

/// How far this machine's time zone is ahead of UTC at a moment, in seconds; 0 where nobody says.
pub fn local_time_ahead_seconds(since_1970: Duration) -> i64 {
    if cfg!(madsim) {
        return 0;
    }
    let seconds = since_1970.as_secs() as libc::time_t;
    let mut local = std::mem::MaybeUninit::<libc::tm>::uninit();
    // SAFETY: both pointers are to memory of ours, and the call fills the structure or says that it did not.
    unsafe {
        if libc::localtime_r(&raw const seconds, local.as_mut_ptr()).is_null() {
            return 0;
        }
        local.assume_init().tm_gmtoff
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_written_at_its_end_wherever_it_has_gone() {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let (path, moved) = (directory.path().join("log"), directory.path().join("moved"));
        std::fs::write(&path, "a").expect("a file");
        let mut file = AppendFile::open(&path, 0o600).expect("it is there");
        file.write_all(b"b").expect("room");
        std::fs::rename(&path, &moved).expect("it moves");
        file.write_all(b"c").expect("room");
        assert_eq!(std::fs::read(&moved).expect("it is there"), b"abc");
        assert_eq!(file.length().expect("it is open"), 3);
        let made = AppendFile::open(&path, 0o600).expect("it is made");
        assert_eq!(made.mode().expect("it is open"), 0o600);
        assert!(AppendFile::open(directory.path(), 0o600).is_err());
    }

    #[test]
    fn the_journal_gets_fields_with_their_lengths() {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let path = directory.path().join("socket");
        assert!(Journal::at(&path).is_err());
        let listener = UnixDatagram::bind(&path).expect("a socket");
        let journal = Journal::at(&path).expect("it listens");
        journal
            .send(&[("MESSAGE", b"a\nb"), ("PRIORITY", b"6")])
            .expect("room");
        let mut record = [0; 100];
        let length = listener.recv(&mut record).expect("a record");
        let expected = b"MESSAGE\n\x03\0\0\0\0\0\0\0a\nb\nPRIORITY\n\x01\0\0\0\0\0\0\x006\n";
        assert_eq!(&record[..length], expected);
    }
}
