//! Handles whole tables of keyspaces whose keys only grow and whose old keys become obsolete: drops tables without reading them,
//! and removes their files on a thread where no request waits.
//!
//! The engine removes a table's file when it drops the last list of tables that names it, and it drops these lists under the lock
//! that every read and write of the keyspace takes. To free a table of 8 MiB takes a file system some milliseconds, and one merge
//! retires ten of them. [`RetiredTables`] holds these lists a little longer than the engine does. A table that came and went
//! between calls is still removed by the engine.
//!
//! The engine checks which lists are still read only when a memtable is rotated. On an idle member none is rotated, so a call
//! here triggers that check.
//!
//! Not here: which tables may be dropped (`log`, `state`).

use fjall::{AbstractTree, Keyspace, SeqNo};
use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Drops the tables that hold only keys before `end`. Older values of such keys may become visible again if they are in a table
/// that stays, so the caller must ignore them. Blocks until the engine has finished the merges that are under way.
pub fn drop_before(keyspace: &Keyspace, end: &[u8]) -> Result<(), fjall::Error> {
    let version = keyspace.tree.current_version();
    // Without such a table, the engine would still write a new list of tables and block reads and writes meanwhile.
    if !version
        .iter_tables()
        .any(|table| **table.metadata.key_range.max() < *end)
    {
        return Ok(());
    }
    Ok(keyspace.tree.drop_range::<&[u8], _>(..end)?)
}

/// A list of tables: its number, the size of each table, and the list itself, whose type the engine does not name.
struct List {
    number: u64,
    table_bytes: BTreeMap<u64, u64>,
    held: Box<dyn Any + Send + Sync>,
}

/// Tables that the engine no longer uses, or may soon stop using.
#[derive(Default)]
pub struct RetiredTables {
    lists: Mutex<VecDeque<List>>,
    bytes: AtomicU64,
}

impl RetiredTables {
    /// Holds the tables that are in use now, and removes those that no reader at `oldest` or later sees. Blocks; call it about
    /// once a second, on a thread where no request waits.
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
        // Read after the newest: if more lists arrive meanwhile, the oldest looks older than it is, and is dropped by the next
        // call.
        let oldest = newest
            .id()
            .saturating_sub(keyspace.tree.version_free_list_len() as u64);
        // A table that the second list does not name is not in any of the engine's lists either.
        while lists.get(1).is_some_and(|list| list.number <= oldest) {
            drop(lists.pop_front().map(|list| list.held));
        }
        let all: BTreeMap<u64, u64> = lists.iter().flat_map(|list| list.table_bytes.clone()).collect();
        let in_use = lists.back().map(|list| list.table_bytes.values().sum::<u64>());
        let held = all.values().sum::<u64>();
        self.bytes.store(held - in_use.unwrap_or(0), Ordering::Relaxed);
        Ok(())
    }

    /// The bytes of tables that are out of use but not removed yet, as of the last call of [`Self::look`].
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}
