//! Keeps the torn end of a journal in a separate file, from the moment when it is cut off until the start has been decided.
//!
//! Whether the end was torn or has rotted is certain only once the engine has been opened without it (`journal`). A process that
//! is killed before that must not leave a journal that looks complete: the next start restores the end and looks again.
//!
//! ```text
//! <database>/torn     number of the journal, where its end began, its length, bytes of the end and their CRC-32C,
//!                     as a line of text with a checksum of its own; then the end itself
//! ```

use crate::env::{self, DiskFile, FileError};
use crate::storage::journal::{self, JournalError};
use std::io::ErrorKind;
use std::path::Path;

const FILE: &str = "torn";

/// Saves the bytes that are about to be cut off the newest journal, durably. On a full disk they are not saved: the member must
/// be able to start there.
pub(super) fn keep(journal: &Path, offset: u64, bytes: &[u8], length: u64) -> Result<(), FileError> {
    let directory = journal.parent().unwrap_or(Path::new(""));
    let number = journal.file_stem().unwrap_or_default().to_string_lossy();
    let count = bytes.len();
    let sum = crc32c::crc32c(bytes);
    let line = format!("{number} {offset} {length} {count} {sum}");
    let mut content = format!("{line} {}\n", crc32c::crc32c(line.as_bytes())).into_bytes();
    content.extend_from_slice(bytes);
    match env::write_file(&directory.join(FILE), &content) {
        Err(error) if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => {
            tracing::warn!(%error, "the disk is full: the torn end of a journal is not kept until the start is decided");
            Ok(())
        }
        kept => kept,
    }
}

/// Removes the saved end after it was restored or is no longer needed. Durable on return.
pub(super) fn forget(directory: &Path) -> Result<(), FileError> {
    env::remove_file(&directory.join(FILE))?;
    env::sync_directory(directory)
}

/// Restores what an undecided start has cut off, durably.
pub(super) fn put_back(directory: &Path) -> Result<(), JournalError> {
    let path = directory.join(FILE);
    let Some(content) = env::read_file(&path)? else {
        return Ok(());
    };
    let Some(kept) = Kept::read(&content) else {
        return Err(JournalError::Rotten {
            path,
            offset: 0,
            what: "it is not the end of a journal that was kept there",
        });
    };
    let journal = journal::path_of(directory, kept.number);
    // A process that has written to the journal since, or begun a new one, had decided that the end was torn.
    if journal::newest(directory)? == Some(kept.number) {
        let mut file = DiskFile::open(&journal)?;
        if file.rest(kept.offset)?.is_empty() {
            tracing::info!(path = %journal.display(), "put back what a start had cut off that was not decided");
            file.write_rest(kept.offset, kept.bytes, kept.length)?;
        }
    }
    Ok(forget(directory)?)
}

struct Kept<'a> {
    number: u64,
    offset: u64,
    length: u64,
    bytes: &'a [u8],
}

impl<'a> Kept<'a> {
    fn read(content: &'a [u8]) -> Option<Self> {
        let end = content.iter().position(|byte| *byte == b'\n')?;
        let (line, bytes) = (std::str::from_utf8(&content[..end]).ok()?, &content[end + 1..]);
        let (line, line_sum) = line.rsplit_once(' ')?;
        let numbers: Result<Vec<u64>, _> = line.split(' ').map(str::parse).collect();
        let [number, offset, length, count, sum] = numbers.ok()?.try_into().ok()?;
        let is_sound = line_sum.parse() == Ok(crc32c::crc32c(line.as_bytes()))
            && count == bytes.len() as u64
            && sum == u64::from(crc32c::crc32c(bytes));
        is_sound.then_some(Self {
            number,
            offset,
            length,
            bytes,
        })
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // breaks files
mod tests {
    use super::*;
    use crate::proto::peer::Entry;
    use crate::storage::journal::{Engine, Found};
    use crate::storage::log::LogDatabase;

    fn entry(index: u64) -> Entry {
        Entry {
            index,
            term: 1,
            data: vec![7; 600].into(),
            ..Default::default()
        }
    }

    /// Creates a log whose journal ends torn, and returns the journal's content.
    fn torn(directory: &Path) -> Vec<u8> {
        let (log, _) = LogDatabase::open(directory, None).expect("a new log");
        for index in 1..4 {
            log.append(&[entry(index)], false, None).expect("written");
        }
        log.sync().expect("synced");
        drop(log);
        drop(LogDatabase::open(directory, None).expect("sound"));
        let mut bytes = std::fs::read(directory.join("0.jnl")).expect("readable");
        bytes.extend(&[1, 9, 0, 0, 0]);
        std::fs::write(directory.join("0.jnl"), &bytes).expect("written");
        bytes
    }

    #[test]
    fn what_was_cut_off_is_back_after_a_kill() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path();
        let before = torn(path);
        let journal = || std::fs::read(path.join("0.jnl")).expect("readable");
        // Killed after the cut, and again after the engine was opened.
        Found::look(path).expect("torn").cut().expect("cut");
        assert!(journal() != before);
        let found = Found::look(path).expect("torn");
        assert!(journal() == before && found.is_torn() && !path.join(FILE).exists());
        drop(LogDatabase::open_found(path, None, &found, Engine::Works).expect("torn"));
        let found = Found::look(path).expect("torn");
        assert!(journal() == before && found.is_torn());
        // A start that continues removes the saved end.
        let (log, _) = LogDatabase::open(path, None).expect("torn");
        assert!(!path.join(FILE).exists());
        drop(log);
        assert!(!Found::look(path).expect("sound").is_torn());
    }

    #[test]
    fn what_was_written_since_stays() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path();
        torn(path);
        let found = Found::look(path).expect("torn");
        let (log, _) = LogDatabase::open_found(path, None, &found, Engine::Works).expect("torn");
        assert!(path.join(FILE).exists());
        log.append(&[entry(4)], false, None).expect("written");
        log.sync().expect("synced");
        drop(log);
        let (_, recovered) = LogDatabase::open(path, None).expect("sound");
        assert_eq!(recovered.terms.len(), 4);
        assert!(!path.join(FILE).exists());
    }

    #[test]
    fn no_flipped_bit_is_put_back() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path();
        torn(path);
        Found::look(path).expect("torn").cut().expect("cut");
        let (kept, cut) = (std::fs::read(path.join(FILE)), std::fs::read(path.join("0.jnl")));
        let (kept, cut) = (kept.expect("readable"), cut.expect("readable"));
        for bit in 0..kept.len() * 8 {
            let mut rotten = kept.clone();
            rotten[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(path.join(FILE), &rotten).expect("written");
            assert!(put_back(path).is_err(), "bit {bit}");
            assert!(
                std::fs::read(path.join("0.jnl")).expect("readable") == cut,
                "bit {bit}"
            );
        }
    }
}
