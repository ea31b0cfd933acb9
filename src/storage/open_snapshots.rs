//! Which snapshots of a database are open. What the oldest of them may read must be kept.
//!
//! The engine tracks this too, but looks at it only when a memtable is rotated. On an idle member, lists of tables that have no
//! reader any more stay for hours, with the files that they name. Code that merges or retires tables at other moments therefore
//! needs its own record.

use fjall::{Database, SeqNo, Snapshot};
use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The sequence numbers of open snapshots, each with the number of snapshots.
#[derive(Debug, Default)]
pub struct OpenSnapshots {
    numbers: Mutex<BTreeMap<SeqNo, usize>>,
}

impl OpenSnapshots {
    /// Opens a snapshot of the database as of now.
    pub fn open(self: &Arc<Self>, database: &Database) -> StateSnapshot {
        // Opened and recorded under one lock: otherwise a concurrent call of `oldest` would miss this snapshot.
        let mut numbers = self.numbers();
        let snapshot = database.snapshot();
        *numbers.entry(snapshot.seqno()).or_default() += 1;
        drop(numbers);
        StateSnapshot {
            snapshot,
            open: Arc::clone(self),
        }
    }

    /// The oldest sequence number that an open or future snapshot may read at.
    pub fn oldest(&self, database: &Database) -> SeqNo {
        let numbers = self.numbers();
        let oldest = numbers.first_key_value().map(|(number, _)| *number);
        oldest.unwrap_or_else(|| database.visible_seqno())
    }

    fn numbers(&self) -> MutexGuard<'_, BTreeMap<SeqNo, usize>> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An open snapshot.
pub struct StateSnapshot {
    snapshot: Snapshot,
    open: Arc<OpenSnapshots>,
}

impl Deref for StateSnapshot {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        &self.snapshot
    }
}

impl Clone for StateSnapshot {
    fn clone(&self) -> Self {
        // This snapshot is open, so its number is in the map.
        *self.open.numbers().entry(self.snapshot.seqno()).or_default() += 1;
        Self {
            snapshot: self.snapshot.clone(),
            open: Arc::clone(&self.open),
        }
    }
}

impl Drop for StateSnapshot {
    fn drop(&mut self) {
        let mut numbers = self.open.numbers();
        let number = self.snapshot.seqno();
        if let Some(count) = numbers.get_mut(&number) {
            *count -= 1;
            if *count == 0 {
                numbers.remove(&number);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fjall::KeyspaceCreateOptions;

    #[test]
    fn the_oldest_open_snapshot_decides() {
        let scratch = tempfile::tempdir().expect("a directory");
        let database = Database::builder(scratch.path()).open().expect("a database");
        let keyspace = database
            .keyspace("k", KeyspaceCreateOptions::default)
            .expect("a keyspace");
        let open = Arc::<OpenSnapshots>::default();
        let write = || keyspace.insert("key", "value").expect("written");
        write();
        let first = open.open(&database);
        let number = first.seqno();
        write();
        let second = open.open(&database);
        assert!(second.seqno() > number);
        assert_eq!(open.oldest(&database), number);
        let copy = first.clone();
        drop(first);
        assert_eq!(open.oldest(&database), number, "a copy is open");
        drop(copy);
        assert_eq!(open.oldest(&database), second.seqno());
        drop(second);
        write();
        assert_eq!(open.oldest(&database), database.visible_seqno());
    }
}
