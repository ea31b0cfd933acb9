//! Moves deletions and overwrites down to the last level of tables, where the engine drops what they hide.
//!
//! A deletion frees no space before a merge brings it together with the record that it deletes. The engine chooses merges by size
//! alone. A deletion takes a few dozen bytes, so the deletions of gigabytes fit into the first levels and stay there for ever,
//! with the gigabytes below. Each step here is one merge, chosen as the engine would choose it if only the last level might hold
//! tables. Other merges, flushes, reads and writes continue meanwhile; the engine's worker merges other tables.
//!
//! Not here: when such a merge is worth its cost (`state/garbage`).

use crate::limits::MERGED_LIVE_BYTES_MAX;
use fjall::compaction::Leveled;
use fjall::{AbstractTree, Keyspace, SeqNo};
use lsm_tree::compaction::PullDown;
use std::sync::Arc;

/// The largest table that a step may write. The engine merges no more than fifty times the size of a table at once. Where few
/// deletions are spread over more than that, only larger tables make progress.
const TABLE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The outcome of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DescentStep {
    /// There may be more to merge.
    Merged,
    /// All tables are on the last level.
    Done,
    /// The engine's worker is merging these tables, or too many would have to be merged at once.
    Blocked,
}

/// The bytes of tables above the last level.
pub fn bytes_above(keyspace: &Keyspace) -> u64 {
    let version = keyspace.tree.current_version();
    let above = version.level_count() - 1;
    let mut bytes = 0;
    for level in version.iter_levels().take(above) {
        bytes += level.size();
    }
    bytes
}

/// Performs one merge, of the deepest tables that can move down. Drops records that are invisible to every reader at `oldest` or
/// later.
pub fn step(keyspace: &Keyspace, table_bytes: u64, oldest: SeqNo) -> Result<DescentStep, fjall::Error> {
    let mut table_bytes = table_bytes;
    while bytes_above(keyspace) > 0 {
        let before = keyspace.tree.current_version().id();
        // With a threshold of 0, every non-empty level counts as too large.
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

/// Merges the deepest non-empty level above the last with the one below it; false if they are too large or already being merged.
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
    // The engine merges a table only with others that start before its first key and end after its last one. So a table that
    // holds the last deletion of the key space could never move. This merge takes some seconds at most; meanwhile the engine can
    // take 80 MB of new changes into its first level.
    if sizes[upper] + sizes[upper + 1] > MERGED_LIVE_BYTES_MAX {
        return Ok(false);
    }
    let strategy = PullDown(upper as u8, upper as u8 + 1);
    keyspace.tree.compact(Arc::new(strategy), oldest)?;
    Ok(keyspace.tree.current_version().id() != version.id())
}
