//! Whole tables of a keyspace, where keys only grow and old ones stop to count: dropping them without a look at what they
//! hold, and removing their files where nobody waits for it.
//!
//! The engine removes a table's file when its last list of tables that names it goes, and drops these lists under the
//! lock that every read and write of the keyspace takes. To free a table of 8 MiB takes a file system some milliseconds,
//! and a merge retires ten of them. [`RetiredTables`] holds these lists a little longer than the engine does. What it does
//! not catch, because it came and went between looks, the engine removes itself, as it would otherwise.
//!
//! The engine looks which lists are still read only where a memtable is rotated. On a member at rest none is, so a look
//! here has it look too.
//!
//! Not here: what may go (`log`, `state`).

use fjall::{AbstractTree, Keyspace, SeqNo};
use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Drops the tables that hold nothing but keys before `end`. May bring older values of such keys to light again, where they
/// lie in a table that stays: they must not count. Blocks until the engine has ended the merges that are under way.
pub fn drop_before(keyspace: &Keyspace, end: &[u8]) -> Result<(), fjall::Error> {
    let version = keyspace.tree.current_version();
    // The engine would write a new list of tables all the same, and hold everybody up meanwhile.
    if !version
        .iter_tables()
        .any(|table| **table.metadata.key_range.max() < *end)
    {
        return Ok(());
    }
    Ok(keyspace.tree.drop_range::<&[u8], _>(..end)?)
}

/// A list of tables: its number, what its tables take, and itself, of a type that the engine does not name.
struct List {
    number: u64,
    table_bytes: BTreeMap<u64, u64>,
    held: Box<dyn Any + Send + Sync>,
}

/// The tables that the engine is done with, or may be soon.
#[derive(Default)]
pub struct RetiredTables {
    lists: Mutex<VecDeque<List>>,
    bytes: AtomicU64,
}

impl RetiredTables {
    /// Holds the tables that are in use now, and removes those that the engine is done with: that nobody sees who reads at
    /// `oldest` or later. Blocks; call it once in a second or so, where nobody waits.
    pub fn look(&self, keyspace: &Keyspace, oldest: SeqNo) -> Result<(), fjall::Error> {
        let newest = keyspace.tree.current_version();
        let mut lists = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
        if lists.back().is_none_or(|list| list.number < newest.id()) {
            let tables = newest.iter_tables();
            lists.push_back(List {
                number: newest.id(),
                table_bytes: tables
                    .map(|table| (table.id(), table.metadata.file_size))
                    .collect(),
                held: Box::new(newest.clone()),
            });
        }
        if keyspace.tree.version_free_list_len() > 0 {
            let mut versions = keyspace.tree.get_version_history_lock();
            versions.maintenance(keyspace.path(), oldest)?;
        }
        // After the newest: if more come meanwhile, the oldest looks older than it is, and goes a look later.
        let oldest = newest
            .id()
            .saturating_sub(keyspace.tree.version_free_list_len() as u64);
        // A table that the second does not name any more is in none of the engine's either.
        while lists.get(1).is_some_and(|list| list.number <= oldest) {
            drop(lists.pop_front().map(|list| list.held));
        }
        let all: BTreeMap<u64, u64> = lists.iter().flat_map(|list| list.table_bytes.clone()).collect();
        let in_use = lists.back().map(|list| list.table_bytes.values().sum::<u64>());
        let held = all.values().sum::<u64>();
        self.bytes.store(held - in_use.unwrap_or(0), Ordering::Relaxed);
        Ok(())
    }

    /// What the tables take that are not in use any more and still there, as of the last look.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}
