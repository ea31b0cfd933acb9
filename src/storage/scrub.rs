//! Checks the files of the storage engine while they are in use: does the disk still hold what was written?
//!
//! * **Tables** never change. The sum over the whole file is compared with the one that the engine computed while writing and
//!   keeps in its list of tables. If they differ, the blocks' own sums tell where.
//! * **Journals** grow. Every batch is read and its sum checked, as before the engine opens them (see `journal`).
//!
//! Both are read from the disk: not from the engine's cache, and not from the operating system's cache if the system follows that
//! advice. Not covered: data that has not reached the disk yet; the engine's lists of tables and Callboard's own small files,
//! which are checked at every start; and records that were wrong before they were written. Those carry their own sums, which are
//! checked whenever they are read, by clients or for HashKV.

use crate::env::{DiskFile, FileError};
use crate::storage::journal::ScanStep;
use fjall::{AbstractTree, Keyspace};
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::{Xxh3Default, xxh3_128};

/// The first bytes of every block.
const BLOCK_MAGIC: &[u8; 4] = b"LSM\x03";
/// Magic, kind, sum of the data, its stored length, its length, sum of all that.
const BLOCK_HEADER_BYTES: usize = 4 + 1 + 16 + 4 + 4 + 4;
/// The longest block holds one value of the largest size.
const BLOCK_BYTES_MAX: usize = 1 << 30;

/// A table as the engine lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableFile {
    pub keyspace: &'static str,
    pub path: PathBuf,
    sum: u128,
}

/// The tables of a keyspace. They may be removed at any time.
pub fn tables(name: &'static str, keyspace: &Keyspace) -> Vec<TableFile> {
    let version = keyspace.tree.current_version();
    let tables = version.iter_tables().map(|table| TableFile {
        keyspace: name,
        path: table.path.as_path().to_owned(),
        sum: table.checksum().into_u128(),
    });
    tables.collect()
}

/// A table that is read in pieces.
pub struct TableScan {
    file: DiskFile,
    table: TableFile,
    sum: Xxh3Default,
    buffer: Vec<u8>,
}

impl TableScan {
    /// None if the table has been removed.
    pub fn open(table: TableFile) -> Result<Option<Self>, FileError> {
        let file = DiskFile::look_into(&table.path)?;
        Ok(file.map(|file| Self {
            file,
            table,
            sum: Xxh3Default::new(),
            buffer: Vec::new(),
        }))
    }

    /// Reads the next `bytes_max` bytes.
    pub fn advance(&mut self, bytes_max: u64) -> Result<ScanStep, FileError> {
        self.buffer.resize(bytes_max as usize, 0);
        let mut filled = 0;
        while filled < self.buffer.len() {
            let read = self.file.read(&mut self.buffer[filled..])?;
            if read == 0 {
                break;
            }
            filled += read;
        }
        self.sum.update(&self.buffer[..filled]);
        if filled == self.buffer.len() {
            return Ok(ScanStep::More(filled as u64));
        }
        if self.sum.digest128() == self.table.sum {
            return Ok(ScanStep::Done);
        }
        Ok(ScanStep::Unsound {
            offset: first_unsound_block(&self.table.path)?,
            what: "a table is not what was written",
        })
    }
}

/// The offset of the first block whose sum does not match, or of the first bytes that are not a block.
fn first_unsound_block(path: &Path) -> Result<u64, FileError> {
    let Some(mut file) = DiskFile::look_into(path)? else {
        return Ok(0);
    };
    let mut offset = 0;
    let mut header = [0; BLOCK_HEADER_BYTES];
    while file.read_exact(&mut header)? {
        let (stated, sum) = header.split_at(BLOCK_HEADER_BYTES - 4);
        let number = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"));
        let length = number(21) as usize;
        let is_header = header.starts_with(BLOCK_MAGIC) && (xxh3_128(stated) as u32).to_le_bytes() == *sum;
        if !is_header || length > BLOCK_BYTES_MAX {
            break;
        }
        let mut data = vec![0; length];
        if !file.read_exact(&mut data)? || xxh3_128(&data).to_le_bytes() != header[5..21] {
            break;
        }
        offset += (BLOCK_HEADER_BYTES + length) as u64;
    }
    Ok(offset)
}

#[cfg(test)]
#[path = "scrub_tests.rs"]
mod tests;
