//! How the storage engine is run: on a member's disk, and in the simulator.

use crate::env;
use crate::limits::{CATCH_UP_BYTES, SMALL_DISK_BYTES, STAGGER_PERCENT_MAX, lowered};
use crate::state::machine::MachineOptions;
use crate::storage::log;
use crate::storage::state::StateOptions;
use std::path::Path;

/// How the engine is run.
#[derive(Clone, Debug, Default)]
pub struct EngineOptions {
    pub state: StateOptions,
    pub machine: MachineOptions,
    /// None for the log's own default.
    pub log_memtable_bytes: Option<u64>,
    /// Entries kept for followers that are behind; None for the limit's own default.
    pub catch_up_entries: Option<u64>,
    /// The same in bytes.
    pub catch_up_bytes: Option<u64>,
    /// By how much sooner than configured the state is synced, 0 to 100.
    pub checkpoint_sooner_percent: u64,
}

impl EngineOptions {
    /// For a member on a real disk. Members apply the same entries: with equal bounds all of them would write tables and
    /// sync their state at the same moment, and no quorum could go on meanwhile. So each draws how far below its bounds it
    /// stays.
    pub fn production() -> Self {
        let sooner = env::random_below(STAGGER_PERCENT_MAX + 1);
        let state = StateOptions::production();
        Self {
            state: StateOptions {
                memtable_bytes: lowered(state.memtable_bytes, sooner),
                ..state
            },
            log_memtable_bytes: Some(lowered(log::MEMTABLE_BYTES, sooner)),
            checkpoint_sooner_percent: sooner,
            ..Self::default()
        }
    }

    /// The same on the disks where these directories are, or will be. On a small one the engine's tables, and what it keeps beside
    /// what is live, must be small too: a merge needs room for what it writes.
    #[must_use]
    pub fn on_disks_of<'a>(self, mut directories: impl Iterator<Item = &'a Path>) -> Self {
        let is_on_small_disk = |directory: &Path| {
            let disk = directory.ancestors().find_map(|path| env::disk_space(path).ok());
            disk.is_some_and(|disk| disk.total_bytes < SMALL_DISK_BYTES)
        };
        if !directories.any(is_on_small_disk) {
            return self;
        }
        let log_memtable_bytes = self.log_memtable_bytes.unwrap_or(log::MEMTABLE_BYTES);
        Self {
            state: StateOptions {
                memtable_bytes: self.state.memtable_bytes / 4,
                table_bytes: self.state.table_bytes / 4,
                merge_bytes_max: self.state.merge_bytes_max / 4,
                garbage_bytes_max: self.state.garbage_bytes_max / 4,
                ..self.state
            },
            log_memtable_bytes: Some(log_memtable_bytes / 2),
            catch_up_bytes: Some(CATCH_UP_BYTES / 4),
            checkpoint_sooner_percent: 75,
            ..self
        }
    }
}
