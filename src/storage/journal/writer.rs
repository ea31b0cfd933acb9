//! Writes to a database's journal. Every batch carries a mark of what was synced before it was begun, and a sync returns only
//! once it is certain that the data reached the disk.
//!
//! The engine's own thread syncs journals too, before it writes tables. The system reports an error of such a sync once per open
//! file. The engine's next sync of the same file returns success if it begins before the engine knows that the first one failed.
//! So syncs here use a file handle of their own, on which every error is reported even if the engine's thread met it first, and
//! do not block writers meanwhile. After a failure, no sync is tried again.

use crate::env::{self, EnginesHeld, SyncedFile};
use crate::mutants::{self, Mutant};
use crate::storage::journal::batch::{MARK_KEY, Mark, batch_bytes, item_bytes};
use crate::storage::journal::{self, Found};
use fjall::{AbstractTree, Database, Keyspace, OwnedWriteBatch, PersistMode, UserKey, UserValue};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Positions begin with a random number of this many bits: no client can know the position of its bytes.
const POSITION_BITS: u32 = 62;

/// The write side of a database's journal.
pub(in crate::storage) struct Journal {
    database: Database,
    /// The keyspace of marks. They are only ever read from the journal.
    marks: Keyspace,
    directory: PathBuf,
    /// The position of the next batch. Locked while a batch is written.
    next: Mutex<u64>,
    /// The same, once the previous batch is written.
    written: AtomicU64,
    /// The position up to which everything is on disk.
    synced: AtomicU64,
    file: Mutex<Newest>,
    has_failed: AtomicBool,
    engine: EngineWork,
}

/// The newest journal known to syncs.
struct Newest {
    number: u64,
    file: SyncedFile,
}

impl Journal {
    /// For a database that was opened with these journals and has not been written to since. `held` keeps engines from working,
    /// and is none if this engine rests. Marks go to the first of the keyspaces.
    pub fn new(
        database: &Database,
        keyspaces: &[&Keyspace],
        memtable_bytes: u64,
        directory: &Path,
        found: &Found,
        held: Option<EnginesHeld>,
    ) -> Result<Self, fjall::Error> {
        let random = || env::random_u64() >> (u64::BITS - POSITION_BITS);
        let position = found.position.unwrap_or_else(random);
        let number = journal::newest(directory).map_err(std::io::Error::other)?;
        let missing = || std::io::Error::other("the engine has no journal");
        let number = number.ok_or_else(missing)?;
        let file = SyncedFile::open(&journal::path_of(directory, number))?.ok_or_else(missing)?;
        let this = Self {
            database: database.clone(),
            marks: keyspaces[0].clone(),
            directory: directory.to_owned(),
            next: Mutex::new(position),
            written: AtomicU64::new(position),
            // The engine has synced the journals that it found.
            synced: AtomicU64::new(position),
            file: Mutex::new(Newest { number, file }),
            has_failed: AtomicBool::new(false),
            engine: EngineWork::new(keyspaces, memtable_bytes),
        };
        if held.is_some() {
            drop(held);
            // An error in the engine's own work is reported at the next use of the database, here as elsewhere. It is not part of
            // opening, and work that the engine has already done is not undone.
            let _ = this.settle();
        }
        // The engine creates directories for keyspaces there and does not sync their parent.
        env::sync_directory(&directory.join("keyspaces")).map_err(std::io::Error::other)?;
        Ok(this)
    }

    pub fn batch(&self, capacity: usize) -> JournalBatch {
        let batch = OwnedWriteBatch::with_capacity(self.database.clone(), capacity + 1);
        JournalBatch {
            batch: batch.durability(Some(PersistMode::Buffer)),
            item_bytes: 0,
        }
    }

    /// Hands a batch to the operating system, and makes it visible to readers.
    pub fn commit(&self, batch: JournalBatch) -> Result<(), fjall::Error> {
        if batch.item_bytes == 0 {
            return Ok(());
        }
        let JournalBatch {
            mut batch,
            item_bytes,
        } = batch;
        let mut next = lock(&self.next);
        if self.has_failed.load(Ordering::Acquire) {
            return Err(fjall::Error::Poisoned);
        }
        let mark = Mark {
            position: *next,
            synced: self.synced.load(Ordering::Acquire),
        };
        batch.insert(&self.marks, MARK_KEY, mark.to_bytes());
        {
            let _held = env::hold_engines();
            batch.commit()
        }?;
        *next += batch_bytes(item_bytes + Mark::ITEM_BYTES);
        self.written.store(*next, Ordering::Release);
        self.settle()?;
        // One at a time: while the engine works on one memtable, it holds the lock that beginning the next one needs.
        for keyspace in self.engine.overdue() {
            begin_memtable(keyspace)?;
            self.settle()?;
        }
        Ok(())
    }

    /// Makes everything durable that was written before the call. Blocks.
    pub fn sync(&self) -> Result<(), fjall::Error> {
        let written = self.written.load(Ordering::Acquire);
        let synced = self.check().and_then(|()| {
            if mutants::active(Mutant::SyncedThroughEngine) {
                return self.database.persist(PersistMode::SyncData);
            }
            self.sync_files()
        });
        // The engine's thread may have failed meanwhile.
        let synced = synced.and_then(|()| self.check());
        if synced.is_err() {
            self.has_failed.store(true, Ordering::Release);
        }
        synced?;
        self.synced.fetch_max(written, Ordering::AcqRel);
        Ok(())
    }

    /// Syncs the newest journal, and those that were begun after it.
    fn sync_files(&self) -> Result<(), fjall::Error> {
        let mut newest = lock(&self.file);
        loop {
            newest.file.sync_data()?;
            match self.behind(newest.number)? {
                Some(next) => *newest = next,
                None => return Ok(()),
            }
        }
    }

    /// The next journal, if there is one. It is begun only when no more is written to the one before.
    fn behind(&self, number: u64) -> Result<Option<Newest>, fjall::Error> {
        let open = |number| {
            let file = SyncedFile::open(&journal::path_of(&self.directory, number))?;
            Ok::<_, fjall::Error>(file.map(|file| Newest { number, file }))
        };
        let mut next = open(number + 1)?;
        // Journals are removed oldest first, as they reach tables. Since the last look, several may have been begun, and all but
        // the newest removed. The one in use always exists, though it may no longer be the one that was found a moment ago.
        while next.is_none() && !env::exists(&journal::path_of(&self.directory, number)) {
            let later = journal::oldest_behind(&self.directory, number).map_err(std::io::Error::other)?;
            next = match later {
                Some(later) => open(later)?,
                None => return Err(std::io::Error::other("the engine has no journal").into()),
            };
        }
        Ok(next)
    }

    /// Whether the engine can continue. After a disk error it never can.
    pub fn check(&self) -> Result<(), fjall::Error> {
        if self.has_failed.load(Ordering::Acquire) {
            return Err(fjall::Error::Poisoned);
        }
        // Batches are handed over as they are written, so this call only reports an earlier error.
        self.database.persist(PersistMode::Buffer)
    }

    /// Makes the engine write a keyspace's memtables to tables, and waits for it.
    pub fn flush(&self, keyspace: &Keyspace) -> Result<(), fjall::Error> {
        begin_memtable(keyspace)?;
        while keyspace.tree.sealed_memtable_count() > 0 {
            // The engine's thread may have stopped on an error.
            self.check()?;
            env::wait_for_disk();
        }
        self.settle()
    }

    /// In the simulator, waits until the engine's own thread is idle. Otherwise the seed would not decide what that thread does
    /// meanwhile, and when.
    fn settle(&self) -> Result<(), fjall::Error> {
        while env::WAITS_FOR_ENGINES && self.engine.is_at_work(&self.database) {
            self.check()?;
            env::wait_for_disk();
        }
        Ok(())
    }
}

/// Begins a new memtable; the engine writes the previous one to a table.
fn begin_memtable(keyspace: &Keyspace) -> Result<(), fjall::Error> {
    let _held = env::hold_engines();
    keyspace.rotate_memtable().map(drop)
}

/// This many batches wait for the engine's own thread to begin a new memtable.
const BATCHES_BEYOND_MAX: u64 = 50;

/// The work that the engine's own thread was given.
struct EngineWork {
    keyspaces: Vec<Keyspace>,
    memtable_bytes: u64,
    /// The number of memtables that had been begun when the database was opened.
    begun_before: u64,
    /// The number of merges, or tables with a merge each, that were due then.
    due: u64,
    /// Consecutive batches after which some memtable was full.
    batches_beyond: AtomicU64,
    /// The size of each memtable when the engine was idle. A memtable that a start has filled is written to a table only once
    /// something is added to it.
    at_rest: Mutex<Vec<u64>>,
}

impl EngineWork {
    fn new(keyspaces: &[&Keyspace], memtable_bytes: u64) -> Self {
        let keyspaces: Vec<_> = keyspaces.iter().map(|keyspace| (*keyspace).clone()).collect();
        let is_due = |keyspace: &&Keyspace| {
            keyspace.tree.sealed_memtable_count() > 0 || keyspace.tree.l0_run_count() > 0
        };
        let due = keyspaces.iter().filter(is_due).count() as u64;
        let begun_before = begun(&keyspaces);
        let at_rest = Mutex::new(sizes(&keyspaces));
        Self {
            keyspaces,
            memtable_bytes,
            begun_before,
            due,
            batches_beyond: AtomicU64::new(0),
            at_rest,
        }
    }

    /// The keyspaces whose memtables are full and that the engine should have rotated and has not. The engine is asked to rotate
    /// after each batch. Its own thread takes these requests from a queue of 1,000 and adds more itself: if it finds the queue
    /// full, it deadlocks. So the writer rotates the memtable before there are many requests. Behind four memtables that are not
    /// in tables yet, the engine itself holds up writes.
    fn overdue(&self) -> Vec<&Keyspace> {
        let is_full = |keyspace: &&Keyspace| keyspace.tree.active_memtable().size() > self.memtable_bytes;
        let full: Vec<_> = self.keyspaces.iter().filter(is_full).collect();
        if full.is_empty() {
            self.batches_beyond.store(0, Ordering::Relaxed);
        } else if self.batches_beyond.fetch_add(1, Ordering::Relaxed) >= BATCHES_BEYOND_MAX {
            self.batches_beyond.store(0, Ordering::Relaxed);
            return full;
        }
        Vec::new()
    }

    /// Whether the engine has work left. For every memtable that was begun since the opening, it writes one to a table and checks
    /// which merges are due.
    fn is_at_work(&self, database: &Database) -> bool {
        let mut at_rest = lock(&self.at_rest);
        let sizes = sizes(&self.keyspaces);
        let mut changes = sizes.iter().zip(at_rest.iter());
        let is_at_work = changes.any(|(size, before)| *size > self.memtable_bytes && size != before)
            || self
                .keyspaces
                .iter()
                .any(|keyspace| keyspace.tree.sealed_memtable_count() > 0)
            || (database.compactions_completed() as u64)
                < begun(&self.keyspaces) - self.begun_before + self.due;
        if !is_at_work {
            *at_rest = sizes;
        }
        is_at_work
    }
}

fn sizes(keyspaces: &[Keyspace]) -> Vec<u64> {
    let sizes = keyspaces
        .iter()
        .map(|keyspace| keyspace.tree.active_memtable().size());
    sizes.collect()
}

/// The number of memtables that have been begun.
fn begun(keyspaces: &[Keyspace]) -> u64 {
    let numbers = keyspaces
        .iter()
        .map(|keyspace| keyspace.tree.active_memtable().id());
    numbers.sum()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Changes that become visible together.
pub(in crate::storage) struct JournalBatch {
    batch: OwnedWriteBatch,
    /// The bytes of the items in the journal.
    item_bytes: u64,
}

impl JournalBatch {
    pub fn insert(&mut self, keyspace: &Keyspace, key: impl Into<UserKey>, value: impl Into<UserValue>) {
        let (key, value) = (key.into(), value.into());
        self.item_bytes += item_bytes(key.len(), value.len());
        self.batch.insert(keyspace, key, value);
    }

    pub fn remove(&mut self, keyspace: &Keyspace, key: impl Into<UserKey>) {
        let key = key.into();
        self.item_bytes += item_bytes(key.len(), 0);
        self.batch.remove(keyspace, key);
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // does what the engine does with journals
mod tests {
    use super::*;
    use fjall::KeyspaceCreateOptions;

    #[test]
    fn the_journal_in_use_is_synced_however_many_have_come_and_gone() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path();
        let database = Database::builder(path).open().expect("a new database");
        let keyspace = database
            .keyspace("some", KeyspaceCreateOptions::default)
            .expect("a keyspace");
        let found = Found::look(path).expect("sound");
        let journal = Journal::new(&database, &[&keyspace], 1 << 20, path, &found, None).expect("a journal");
        let begin = |number| std::fs::write(journal::path_of(path, number), "").expect("written");
        let remove = |number| std::fs::remove_file(journal::path_of(path, number)).expect("removed");
        let in_use = || {
            journal.sync().expect("synced");
            lock(&journal.file).number
        };
        assert_eq!(in_use(), 0);
        begin(1);
        assert_eq!(in_use(), 1, "the next one");
        remove(0);
        assert_eq!(in_use(), 1, "an older one has gone");
        remove(1);
        begin(4);
        begin(5);
        assert_eq!(in_use(), 5, "several have come, and the first of them have gone");
        assert_eq!(in_use(), 5);
    }

    #[test]
    fn a_full_memtable_is_replaced_by_whoever_writes_if_the_engine_does_not_come_to_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path();
        let database = Database::builder(path)
            .worker_threads_unchecked(0)
            .open()
            .expect("a new database");
        let memtable_bytes = 1 << 10;
        let options = || KeyspaceCreateOptions::default().max_memtable_size(memtable_bytes);
        let keyspace = database.keyspace("some", options).expect("a keyspace");
        let found = Found::look(path).expect("sound");
        let journal =
            Journal::new(&database, &[&keyspace], memtable_bytes, path, &found, None).expect("a journal");
        let write = || {
            let mut batch = journal.batch(1);
            batch.insert(&keyspace, b"key".as_slice(), vec![0; 2 << 10]);
            journal.commit(batch).expect("written");
        };
        for _ in 0..BATCHES_BEYOND_MAX {
            write();
        }
        assert_eq!(keyspace.tree.sealed_memtable_count(), 0);
        write();
        assert_eq!(keyspace.tree.sealed_memtable_count(), 1);
    }
}
