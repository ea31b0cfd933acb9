//! The work of the storage engine's own threads on a disk: its counts, and smaller journals.
//!
//! The engine begins a new journal once 64 MB are written to the old one. It finds out by asking for its position in the file.
//! Here it gets a position that reaches that size much earlier.

use super::{Disks, is_engines_thread};
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};

/// The engine considers a journal full beyond this.
const JOURNAL_BYTES_MAX: u64 = 64_000_000;

/// The engines below a watched directory.
pub(super) struct Engines {
    pub root: PathBuf,
    journal_bytes: u64,
    counts: EngineCounts,
}

/// The counts of their work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineCounts {
    pub tables_written: u64,
    pub tables_removed: u64,
    pub journals_sealed: u64,
    pub journals_removed: u64,
}

/// Makes journals in a watched directory full after this many bytes.
pub fn seal_journals_after(root: &Path, bytes: Option<u64>) {
    super::disks().engines.push(Engines {
        root: root.to_owned(),
        journal_bytes: bytes.unwrap_or(JOURNAL_BYTES_MAX),
        counts: EngineCounts::default(),
    });
}

/// The counts of the engines below a directory so far.
pub fn engine_counts(root: &Path) -> EngineCounts {
    let disks = super::disks();
    let engines = disks.engines.iter().find(|engines| engines.root == root);
    engines.map_or(EngineCounts::default(), |engines| engines.counts)
}

impl Disks {
    fn engines(&mut self, path: &Path) -> Option<&mut Engines> {
        self.engines
            .iter_mut()
            .find(|engines| path.starts_with(&engines.root))
    }

    /// The position that the engine's own thread is told for a journal.
    pub(super) fn position_told(&mut self, descriptor: RawFd, place: u64) -> Option<u64> {
        if !is_engines_thread() {
            return None;
        }
        let (file, _) = self.tracked(descriptor)?;
        let path = file.path.clone();
        let engines = self.engines(&path).filter(|_| is_journal(&path))?;
        if place <= engines.journal_bytes {
            return Some(place);
        }
        engines.counts.journals_sealed += 1;
        Some(place.max(JOURNAL_BYTES_MAX + 1))
    }
}

pub(super) fn note_creation(disks: &mut Disks, path: &Path) {
    if let Some(engines) = disks.engines(path).filter(|_| is_engines_thread()) {
        engines.counts.tables_written += u64::from(is_table(path));
    }
}

pub(super) fn note_removal(disks: &mut Disks, path: &Path) {
    if let Some(engines) = disks.engines(path) {
        engines.counts.tables_removed += u64::from(is_table(path));
        engines.counts.journals_removed += u64::from(is_journal(path));
    }
}

fn is_table(path: &Path) -> bool {
    path.parent().is_some_and(|parent| parent.ends_with("tables"))
}

fn is_journal(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "jnl")
}
