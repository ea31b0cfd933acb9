//! Errors of the log's disk.

use crate::env::FileError;
use crate::storage::journal::JournalError;
use crate::storage::log::LogDatabase;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    #[error("the log in {path} cannot be read or written: {source}. Check the disk; do not start this member on an older copy of it", path = path.display())]
    Engine { path: PathBuf, source: fjall::Error },
    #[error("the log's journal: {0}. Check the disk; do not start this member on an older copy of it")]
    File(#[from] FileError),
    #[error("the log in {path} is corrupt: {what}. Remove this member from the cluster, clear its data directory and add it again", path = path.display())]
    Corrupt { path: PathBuf, what: String },
}

impl LogError {
    pub(super) fn of_journal(path: &Path, error: JournalError) -> Self {
        match error {
            JournalError::File(error) => Self::File(error),
            rotten => Self::Corrupt {
                path: path.to_owned(),
                what: rotten.to_string(),
            },
        }
    }

    /// For records that decode but are invalid for raft.
    pub fn unreadable(log: &LogDatabase, reason: &dyn std::fmt::Display) -> Self {
        log.corrupt(reason.to_string())
    }
}
