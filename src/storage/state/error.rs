//! Errors of the state database, with instructions for the operator.

use crate::storage::journal::JournalError;
use std::path::{Path, PathBuf};

/// A failure of the state database. A retry cannot repair any of them: the member stops.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    #[error(
        "cannot open the state database {}: {source}; check that no other process uses it, that the disk is healthy \
         and its directory writable; if it is damaged, remove the member, wipe its data directory and add it again",
        path.display()
    )]
    Open { path: PathBuf, source: fjall::Error },
    #[error(
        "cannot open the state database {}: {source}; check the disk; if it is damaged, remove the member, wipe its data \
         directory and add it again",
        path.display()
    )]
    Journal { path: PathBuf, source: JournalError },
    #[error(
        "the state database failed while {doing}: {source}; check the disk's health and free space, then restart the \
         member"
    )]
    Engine {
        doing: &'static str,
        source: fjall::Error,
    },
    #[error(
        "the state database is damaged: {what} in keyspace {keyspace}, key {key}; the member stopped rather than give a \
         wrong answer: check the disk and the memory, remove the member, wipe its data directory and add it again"
    )]
    Corrupt {
        keyspace: &'static str,
        key: String,
        what: &'static str,
    },
    #[error("the directory {} already holds a state database; wipe it before importing a snapshot", path.display())]
    ImportNotEmpty { path: PathBuf },
    #[error(
        "a snapshot carries a record of the unknown keyspace {0}; the sender runs a newer version: upgrade this member"
    )]
    UnknownKeyspace(u32),
    #[error("the snapshot is incomplete: it holds no record of what was applied; have it sent again")]
    ImportIncomplete,
}

impl StateError {
    /// A damaged record. Keys are printed as Rust escapes, so that logs stay readable and unambiguous.
    pub fn corrupt(keyspace: &'static str, key: &[u8], what: &'static str) -> Self {
        let shown = &key[..key.len().min(256)];
        Self::Corrupt {
            keyspace,
            key: shown.escape_ascii().to_string(),
            what,
        }
    }

    pub(super) fn journal(path: &Path, source: JournalError) -> Self {
        Self::Journal {
            path: path.to_owned(),
            source,
        }
    }

    pub(crate) fn engine(doing: &'static str) -> impl FnOnce(fjall::Error) -> Self {
        move |source| Self::Engine { doing, source }
    }
}
