//! Brings what has been deleted or overwritten to where the engine drops it: the last level of tables.
//!
//! A deletion frees nothing before a merge brings it together with what it deletes, and the engine merges by size alone: a
//! deletion takes some dozens of bytes, so that those of gigabytes fit into the first levels and stay there for ever, with
//! the gigabytes below. Each step here is one merge as the engine would choose it if no level might hold anything but the
//! last. Other merges, flushes, reads and writes go on meanwhile; the engine's worker merges other tables.
//!
//! Not here: when that is worth its work (`state/garbage`).

use crate::limits::MERGED_LIVE_BYTES_MAX;
use fjall::compaction::Leveled;
use fjall::{AbstractTree, Keyspace, SeqNo};
use lsm_tree::compaction::PullDown;
use std::sync::Arc;

/// The largest table that a step may write. The engine merges no more than fifty times the size of a table at once: where
/// few deletions are spread over more than that, larger tables are the way on.
const TABLE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// What became of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DescentStep {
    /// There may be more to merge.
    Merged,
    /// All tables are on the last level.
    Done,
    /// The tables are being merged by the engine's worker, or too many would have to be merged at once.
    Blocked,
}

/// How many bytes of tables lie above the last level.
pub fn bytes_above(keyspace: &Keyspace) -> u64 {
    let version = keyspace.tree.current_version();
    let above = version.level_count() - 1;
    let mut bytes = 0;
    for level in version.iter_levels().take(above) {
        bytes += level.size();
    }
    bytes
}

/// One merge, of the deepest tables that can go deeper. Drops what nobody sees who reads at `oldest` or later.
pub fn step(keyspace: &Keyspace, table_bytes: u64, oldest: SeqNo) -> Result<DescentStep, fjall::Error> {
    let mut table_bytes = table_bytes;
    while bytes_above(keyspace) > 0 {
        let before = keyspace.tree.current_version().id();
        // A threshold of 0 makes every level too large that holds anything.
        let strategy = Leveled::default()
            .with_l0_threshold(0)
            .with_table_target_size(table_bytes);
        keyspace.tree.compact(Arc::new(strategy), oldest)?;
        if keyspace.tree.current_version().id() != before {
            return Ok(DescentStep::Merged);
        }
        if merge_levels(keyspace, oldest)? {
            return Ok(DescentStep::Merged);
        }
        if table_bytes >= TABLE_BYTES_MAX {
            return Ok(DescentStep::Blocked);
        }
        table_bytes *= 2;
    }
    Ok(DescentStep::Done)
}

/// Merges the deepest level above the last with the one below it; false if they take too much, or are being merged.
fn merge_levels(keyspace: &Keyspace, oldest: SeqNo) -> Result<bool, fjall::Error> {
    let version = keyspace.tree.current_version();
    let mut sizes = Vec::new();
    for level in version.iter_levels() {
        sizes.push(level.size());
    }
    let last = sizes.len() - 1;
    let Some(upper) = (1..last).rev().find(|level| sizes[*level] > 0) else {
        return Ok(false);
    };
    // The engine merges a table only with others that reach from before its first key to behind its last one: a table with
    // the last deletion of all keys could go nowhere. This takes some seconds at most, in which the engine can take 80 MB
    // of new changes into its first level.
    if sizes[upper] + sizes[upper + 1] > MERGED_LIVE_BYTES_MAX {
        return Ok(false);
    }
    let strategy = PullDown(upper as u8, upper as u8 + 1);
    keyspace.tree.compact(Arc::new(strategy), oldest)?;
    Ok(keyspace.tree.current_version().id() != version.id())
}
