//! Writing to a database's journal: every batch carries a mark of what was synced before it was begun, and a sync is not
//! over before it is certain that it reached the disk.
//!
//! The engine's own thread syncs journals too, before it makes tables. An error of such a sync is reported once for every
//! open file: the engine's next sync of the same file returns success, if it begins before the engine knows that the
//! first one has failed. So syncs here go through a file of their own, which has errors reported whoever meets them first,
//! and keep nobody from writing meanwhile. What has failed once is never tried again.

use crate::env::{self, EnginesHeld, SyncedFile};
use crate::mutants::{self, Mutant};
use crate::storage::journal::batch::{MARK_KEY, Mark, batch_bytes, item_bytes};
use crate::storage::journal::{self, Found};
use fjall::{AbstractTree, Database, Keyspace, OwnedWriteBatch, PersistMode, UserKey, UserValue};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Positions begin with a random number of so many bits: no client can know where its bytes will stand.
const POSITION_BITS: u32 = 62;

/// A database's journal, for those who write to it.
pub(in crate::storage) struct Journal {
    database: Database,
    /// Where marks go. They are read from the journal only.
    marks: Keyspace,
    directory: PathBuf,
    /// Where the next batch will stand. Held while a batch is written.
    next: Mutex<u64>,
    /// The same, once the batch before is written.
    written: AtomicU64,
    /// Up to where all is on the disk.
    synced: AtomicU64,
    file: Mutex<Newest>,
    has_failed: AtomicBool,
    engine: EngineWork,
}

/// The newest journal, as far as syncs know.
struct Newest {
    number: u64,
    file: SyncedFile,
}

impl Journal {
    /// For a database that was opened with these journals, and that nobody has written to since, with engines held; not held
    /// where this one rests. Marks go to the first of its keyspaces.
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
            // The engine has synced what it found.
            synced: AtomicU64::new(position),
            file: Mutex::new(Newest { number, file }),
            has_failed: AtomicBool::new(false),
            engine: EngineWork::new(keyspaces, memtable_bytes),
        };
        if held.is_some() {
            drop(held);
            // An error that the engine meets in its own work is told to whoever uses the database next, here as elsewhere: it is
            // no part of the opening, and what the engine has done until then is not undone.
            let _ = this.settle();
        }
        // The engine makes directories there for keyspaces, and leaves it at that.
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

    /// Hands a batch to the operating system, and makes it visible.
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
        // One at a time: the engine, at work on one, holds the lock that the next begins under.
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

    /// Syncs the newest journal, and those that have come after it.
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

    /// The next journal that is there. One is begun only when nothing more is written to the one before.
    fn behind(&self, number: u64) -> Result<Option<Newest>, fjall::Error> {
        let open = |number| {
            let file = SyncedFile::open(&journal::path_of(&self.directory, number))?;
            Ok::<_, fjall::Error>(file.map(|file| Newest { number, file }))
        };
        let mut next = open(number + 1)?;
        // They are removed oldest first, whichever are in tables: since the last look several may have been begun, and all but
        // the newest have gone. The one in use is there always, if not the one that was found a moment ago.
        while next.is_none() && !env::exists(&journal::path_of(&self.directory, number)) {
            let later = journal::oldest_behind(&self.directory, number).map_err(std::io::Error::other)?;
            next = match later {
                Some(later) => open(later)?,
                None => return Err(std::io::Error::other("the engine has no journal").into()),
            };
        }
        Ok(next)
    }

    /// Whether the engine can go on. One that has met an error of its disk never can.
    pub fn check(&self) -> Result<(), fjall::Error> {
        if self.has_failed.load(Ordering::Acquire) {
            return Err(fjall::Error::Poisoned);
        }
        // Batches are handed over as they are written: there is nothing to do but to look.
        self.database.persist(PersistMode::Buffer)
    }

    /// Has what a keyspace holds in memory written to a table, and waits for it.
    pub fn flush(&self, keyspace: &Keyspace) -> Result<(), fjall::Error> {
        begin_memtable(keyspace)?;
        while keyspace.tree.sealed_memtable_count() > 0 {
            // Whoever should write it may be gone.
            self.check()?;
            env::wait_for_disk();
        }
        self.settle()
    }

    /// In the simulator, waits until the engine's own thread has done what it was given: what it does meanwhile, and when,
    /// is the seed's to decide then.
    fn settle(&self) -> Result<(), fjall::Error> {
        while env::WAITS_FOR_ENGINES && self.engine.is_at_work(&self.database) {
            self.check()?;
            env::wait_for_disk();
        }
        Ok(())
    }
}

/// Begins another memtable, and leaves it to the engine to make a table of the one before.
fn begin_memtable(keyspace: &Keyspace) -> Result<(), fjall::Error> {
    let _held = env::hold_engines();
    keyspace.rotate_memtable().map(drop)
}

/// So many batches wait for the engine's own thread to begin another memtable.
const BATCHES_BEYOND_MAX: u64 = 50;

/// What the engine's own thread was given to do.
struct EngineWork {
    keyspaces: Vec<Keyspace>,
    memtable_bytes: u64,
    /// Those that had been begun when the database was opened.
    begun_before: u64,
    /// The merges, or tables with a merge each, that were due then.
    due: u64,
    /// Batches in a row after which some memtable was full.
    batches_beyond: AtomicU64,
    /// How large each memtable was when the engine had nothing to do. One that a start has filled is written to a table
    /// only once something is added to it.
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

    /// Keyspaces whose full memtables the engine should have begun anew and has not. After each batch, it is asked to. Its own
    /// thread, which takes the requests out of a queue of 1,000, asks itself for more: if it finds the queue full, it waits for
    /// ever. So whoever writes begins the memtable before there are many; behind four that are not in tables yet, the engine
    /// holds writes up on its own.
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

    /// Every memtable that was begun since had one written to a table, and a look at what there is to merge.
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

/// How many memtables have been begun.
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
    /// What they take in the journal.
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
