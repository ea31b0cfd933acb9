//! Whole tables of a keyspace, where keys only grow and old ones stop to count: dropping them without a look at what they
//! hold, and removing their files where nobody waits for it.
//!
//! The engine removes a table's file when its last list of tables that names it goes, and lets these lists go under the
//! lock that every read and write of the keyspace takes. To free a table of 8 MiB takes a file system some milliseconds,
//! and a merge retires ten of them. [`RetiredTables`] holds these lists a little longer than the engine does. What it does
//! not catch, because it came and went between two looks, the engine removes itself, as it would otherwise.
//!
//! Not here: what may go (`log`, `state`).

use fjall::{AbstractTree, Keyspace};
use std::any::Any;
use std::collections::VecDeque;
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

/// A keyspace's lists of tables, oldest first, each with its number; of a type that the engine does not name.
type Lists = VecDeque<(u64, Box<dyn Any + Send + Sync>)>;

/// The tables that the engine is done with, or may be soon.
#[derive(Default)]
pub struct RetiredTables {
    lists: Mutex<Lists>,
}

impl RetiredTables {
    /// Holds the tables that are in use now, and removes those that the engine has let go of. Blocks; call it once in a
    /// second or so, where nobody waits.
    pub fn look(&self, keyspace: &Keyspace) {
        let newest = keyspace.tree.current_version();
        // After the newest: if more come meanwhile, the oldest looks older than it is, and goes a look later.
        let oldest = newest
            .id()
            .saturating_sub(keyspace.tree.version_free_list_len() as u64);
        let mut lists = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
        if lists.back().is_none_or(|(number, _)| *number < newest.id()) {
            lists.push_back((newest.id(), Box::new(newest)));
        }
        // A table that the second does not name any more is in none of the engine's either.
        while lists.get(1).is_some_and(|(number, _)| *number <= oldest) {
            lists.pop_front();
        }
    }
}
