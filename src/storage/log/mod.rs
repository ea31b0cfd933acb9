//! The replicated log of one member on disk: raft entries and the hard state, in a separate fjall database.
//!
//! Each append writes one record, keyed by the index of its first entry, so that a batch costs one insert. A record replaces
//! everything from its first index on: an append that rewrites a suffix removes the records that start in it, and the entries of
//! an older record beyond the start of a newer one do not count. Every record carries a checksum over its key and its bytes.
//! Writing and syncing are two steps ([`LogDatabase::append`], [`LogDatabase::sync`]), so that the caller can acknowledge after
//! the second only.
//!
//! Cutting takes two steps too. [`LogDatabase::cut`] sets the new beginning of the log; entries before it no longer count, but
//! are not removed yet. [`LogDatabase::drop_cut`] drops whole tables once all of their records lie before the cut.
//!
//! Not here: which entries are kept in memory, and when the log is cut (`consensus`).

mod error;
mod recovered;

pub use crate::storage::log::error::LogError;
pub use crate::storage::log::recovered::{Cut, Recovered};

use crate::env;
use crate::ids::{LogIndex, Term};
use crate::limits::OpenFiles;
use crate::metrics::LogMetrics;
use crate::proto::peer::{Entry, EntryBatch, HardState};
use crate::storage::journal::writer::{Journal, JournalBatch};
use crate::storage::journal::{Engine, Found};
use crate::storage::manifest;
use crate::storage::scrub::{self, TableFile};
use crate::storage::tables::{self, RetiredTables};
use bytes::Bytes;
use fjall::compaction::Leveled;
use fjall::{AbstractTree, Database, Keyspace, KeyspaceCreateOptions};
use prost::Message;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

const HARD_STATE_KEY: &[u8] = b"hard_state";
const CUT_KEY: &[u8] = b"cut";

/// Memory that log records may take before they are flushed to a table.
pub const MEMTABLE_BYTES: u64 = 2 * 1024 * 1024;
/// The size of a table. While a merge writes one, the engine keeps all blocks that it was made from in memory.
const TABLE_BYTES: u64 = 2 * 1024 * 1024;
/// The engine rotates journals beyond this; it allows no less than 64 MiB.
const JOURNAL_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Cache of log blocks. Lagging followers read forward once, so a cache helps them little.
const CACHE_BYTES: u64 = 1024 * 1024;

/// What lies before the cut, and tables that are no longer in use.
#[derive(Default)]
struct Behind {
    /// The key of the first record that counts; 0 if none does yet.
    keep_from: AtomicU64,
    /// The same, as far as it is on disk.
    synced: AtomicU64,
    /// The key before which tables have been dropped. Locked while they are dropped.
    dropped: Mutex<u64>,
    retired: [RetiredTables; 2],
    /// The last call found a journal besides the one in use.
    has_sealed_journal: AtomicBool,
}

/// The log's database. Cheap to clone.
#[derive(Clone)]
pub struct LogDatabase {
    database: Database,
    entries: Keyspace,
    meta: Keyspace,
    journal: Arc<Journal>,
    behind: Arc<Behind>,
    path: PathBuf,
    metrics: Option<Arc<LogMetrics>>,
}

impl std::fmt::Debug for LogDatabase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogDatabase")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl LogDatabase {
    /// Inspects the files of the log in `path`, and changes nothing.
    pub fn look(path: &Path) -> Result<Found, LogError> {
        manifest::look(path).map_err(|error| LogError::of_journal(path, error))
    }

    /// Opens the log in `path`, or creates an empty one, and checks all of its records.
    pub fn open(path: &Path, memtable_bytes: Option<u64>) -> Result<(Self, Recovered), LogError> {
        let found = Self::look(path)?;
        let opened = Self::open_found(path, memtable_bytes, &found, Engine::Works)?;
        found.accept()?;
        Ok(opened)
    }

    /// Opens the log whose files were inspected before. The caller decides about a torn end ([`Found::cut`]).
    pub fn open_found(
        path: &Path,
        memtable_bytes: Option<u64>,
        found: &Found,
        engine: Engine,
    ) -> Result<(Self, Recovered), LogError> {
        let failed = |source| LogError::Engine {
            path: path.to_owned(),
            source,
        };
        found.cut()?;
        let builder = Database::builder(path)
            .worker_threads_unchecked(engine.threads())
            .max_cached_files(Some(OpenFiles::of(env::open_files_max()).tables))
            .cache_size(CACHE_BYTES)
            .max_journaling_size(JOURNAL_BYTES_MAX)
            .journal_compression(fjall::CompressionType::None);
        let held = (engine == Engine::Works).then(env::hold_engines);
        let database = env::with_patient_threads(|| builder.open()).map_err(failed)?;
        let held = held; // not longer than the database: closing that waits for the engine
        let options = move || {
            KeyspaceCreateOptions::default()
                .max_memtable_size(memtable_bytes.unwrap_or(MEMTABLE_BYTES))
                .compaction_strategy(Arc::new(Leveled::default().with_table_target_size(TABLE_BYTES)))
                .data_block_compression_policy(fjall::config::CompressionPolicy::all(
                    fjall::CompressionType::None,
                ))
        };
        let entries = database.keyspace("entries", options).map_err(failed)?;
        let meta = database.keyspace("meta", options).map_err(failed)?;
        let tables = [&entries, &meta].map(|keyspace| keyspace.tree.get_highest_persisted_seqno());
        found
            .check_tables(tables.into_iter().flatten().max().unwrap_or(0))
            .map_err(|error| LogError::of_journal(path, error))?;
        let memtable_bytes = memtable_bytes.unwrap_or(MEMTABLE_BYTES);
        let journal =
            Journal::new(&database, &[&meta, &entries], memtable_bytes, path, found, held).map_err(failed)?;
        let log = Self {
            database,
            entries,
            meta,
            journal: Arc::new(journal),
            behind: Arc::default(),
            path: path.to_owned(),
            metrics: None,
        };
        let recovered = log.recover()?;
        Ok((log, recovered))
    }

    /// Counts the operations of this log and of its later clones.
    pub fn set_metrics(&mut self, metrics: Arc<LogMetrics>) {
        self.metrics = Some(metrics);
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The tables in use, for the scrub.
    pub fn tables(&self) -> Vec<TableFile> {
        let mut tables = scrub::tables("log entries", &self.entries);
        tables.extend(scrub::tables("log meta", &self.meta));
        tables
    }

    fn recover(&self) -> Result<Recovered, LogError> {
        let cut = self.begins_behind()?;
        let hard_state = match self.read_meta(HARD_STATE_KEY)? {
            None => HardState::default(),
            Some(bytes) => {
                HardState::decode(bytes).map_err(|error| self.corrupt(format!("the hard state: {error}")))?
            }
        };
        let mut terms: Vec<Term> = Vec::new();
        // Records before this one wait to be dropped. Their entries beyond the cut may have been replaced by records that are
        // gone or that end at the cut.
        let first = self.start_of(cut.index.next())?;
        for guard in self.entries.range(first.0.to_be_bytes()..) {
            let (key, value) = guard.into_inner().map_err(|source| self.engine(source))?;
            let batch = self.decode(&key, value.into())?;
            for entry in batch.entries {
                if entry.index <= cut.index.0 {
                    continue;
                }
                let place = (entry.index - cut.index.0 - 1) as usize;
                if place > terms.len() {
                    let missing = cut.index.0 + 1 + terms.len() as u64;
                    return Err(
                        self.corrupt(format!("entry {missing} is missing before entry {}", entry.index))
                    );
                }
                terms.truncate(place);
                terms.push(Term(entry.term));
            }
        }
        Ok(Recovered {
            cut,
            hard_state,
            terms,
        })
    }

    /// The last entry that was cut off.
    pub fn begins_behind(&self) -> Result<Cut, LogError> {
        let Some(bytes) = self.read_meta(CUT_KEY)? else {
            return Ok(Cut::default());
        };
        let entry = Entry::decode(bytes).map_err(|error| self.corrupt(format!("the cut: {error}")))?;
        Ok(Cut {
            index: LogIndex(entry.index),
            term: Term(entry.term),
        })
    }

    /// Writes entries, and the hard state if it changed. The caller knows whether the entries replace a suffix of the log: to
    /// look for one costs more than the write. Not durable before [`Self::sync`] returns.
    pub fn append(
        &self,
        entries: &[Entry],
        replaces_suffix: bool,
        hard_state: Option<&HardState>,
    ) -> Result<(), LogError> {
        let begin = self.metrics.as_ref().map(|metrics| (metrics, env::now()));
        let mut bytes = 0;
        let mut batch = self.journal.batch(entries.len().min(1) + 1);
        if let Some(first) = entries.first() {
            let key = first.index.to_be_bytes();
            if replaces_suffix {
                for guard in self.entries.range(key..) {
                    let key = guard.key().map_err(|source| self.engine(source))?;
                    batch.remove(&self.entries, key);
                }
            }
            let record = EntryBatch {
                entries: entries.to_vec(),
            };
            let sealed = seal(&key, &record);
            bytes += sealed.len();
            batch.insert(&self.entries, key, sealed);
        }
        if let Some(hard_state) = hard_state {
            let sealed = seal(HARD_STATE_KEY, hard_state);
            bytes += sealed.len();
            batch.insert(&self.meta, HARD_STATE_KEY, sealed);
        }
        self.journal.commit(batch).map_err(|source| self.engine(source))?;
        if let Some((metrics, begin)) = begin {
            metrics.written_bytes.add(bytes as i64);
            metrics.write_seconds.observe((env::now() - begin).as_secs_f64());
        }
        Ok(())
    }

    /// Makes everything written so far durable. Blocks.
    pub fn sync(&self) -> Result<(), LogError> {
        let keep_from = self.behind.keep_from.load(Ordering::Acquire);
        let begin = self.metrics.as_ref().map(|metrics| (metrics, env::now()));
        self.journal.sync().map_err(|source| self.engine(source))?;
        self.behind.synced.store(keep_from, Ordering::Release);
        if let Some((metrics, begin)) = begin {
            metrics.sync_seconds.observe((env::now() - begin).as_secs_f64());
        }
        Ok(())
    }

    /// Whether the log can continue. After a disk error it never can.
    pub fn check(&self) -> Result<(), LogError> {
        self.journal.check().map_err(|source| self.engine(source))
    }

    /// Entries from `low` up to, not including, `high`: at most `bytes_max` bytes, but at least one entry.
    pub fn read(&self, low: LogIndex, high: LogIndex, bytes_max: u64) -> Result<Vec<Entry>, LogError> {
        let mut found: Vec<Entry> = Vec::new();
        let mut bytes = 0;
        let start = self.start_of(low)?;
        for guard in self.entries.range(start.0.to_be_bytes()..high.0.to_be_bytes()) {
            let (key, value) = guard.into_inner().map_err(|source| self.engine(source))?;
            for entry in self.decode(&key, value.into())?.entries {
                while found.last().is_some_and(|last| last.index >= entry.index) {
                    found.pop();
                }
                if entry.index < low.0 || entry.index >= high.0 {
                    continue;
                }
                bytes += entry.data.len() as u64;
                found.push(entry);
            }
            if bytes > bytes_max {
                break;
            }
        }
        let mut kept_bytes = 0;
        let kept = found
            .iter()
            .take_while(|entry| {
                kept_bytes += entry.data.len() as u64;
                kept_bytes <= bytes_max
            })
            .count();
        found.truncate(kept.max(1));
        match found.first() {
            Some(first) if first.index == low.0 => Ok(found),
            _ => Err(self.corrupt(format!("entry {low} is missing"))),
        }
    }

    /// Moves the beginning of the log behind `cut`.
    pub fn cut(&self, cut: Cut) -> Result<(), LogError> {
        let keep_from = self.record_start(cut.index.next())?;
        let mut batch = self.journal.batch(1);
        self.write_cut(&mut batch, cut);
        self.journal.commit(batch).map_err(|source| self.engine(source))?;
        // Older records that become visible again do not count as long as this one exists.
        if let Some(LogIndex(keep_from)) = keep_from {
            self.behind.keep_from.store(keep_from, Ordering::Release);
        }
        Ok(())
    }

    /// Drops the tables whose records all lie before a synced cut, and removes what the engine no longer needs. Blocks; call it
    /// now and then, on a thread where no request waits.
    pub fn drop_cut(&self) -> Result<(), LogError> {
        let mut dropped = self.behind.dropped.lock().unwrap_or_else(PoisonError::into_inner);
        let keep_from = self.behind.synced.load(Ordering::Acquire);
        if keep_from > *dropped {
            tables::drop_before(&self.entries, &keep_from.to_be_bytes())
                .map_err(|source| self.engine(source))?;
            *dropped = keep_from;
        }
        for (retired, keyspace) in self.behind.retired.iter().zip([&self.entries, &self.meta]) {
            // A reader holds the tables that it reads.
            let oldest = self.database.visible_seqno();
            let looked = retired.look(keyspace, oldest);
            looked.map_err(|source| self.engine(source))?;
        }
        self.remove_sealed_journals()
    }

    /// Discards everything and begins the log behind `cut`, after a snapshot from a peer. Durable on return.
    pub fn reset(&self, cut: Cut, hard_state: &HardState) -> Result<(), LogError> {
        // No table is dropped before there is a record behind this cut: an older record might become visible and count.
        let dropped = self.behind.dropped.lock().unwrap_or_else(PoisonError::into_inner);
        self.behind.keep_from.store(0, Ordering::Release);
        self.behind.synced.store(0, Ordering::Release);
        drop(dropped);
        let mut batch = self.journal.batch(2);
        for guard in self.entries.iter() {
            let key = guard.key().map_err(|source| self.engine(source))?;
            batch.remove(&self.entries, key);
        }
        self.write_cut(&mut batch, cut);
        batch.insert(&self.meta, HARD_STATE_KEY, seal(HARD_STATE_KEY, hard_state));
        self.journal.commit(batch).map_err(|source| self.engine(source))?;
        self.sync()
    }

    /// A journal is removed once both keyspaces have written their part of it to tables. Under many writes, the engine's worker
    /// does this.
    fn remove_sealed_journals(&self) -> Result<(), LogError> {
        let has_sealed_journal = self.database.journal_count() > 1;
        let had_one = &self.behind.has_sealed_journal;
        if had_one.swap(has_sealed_journal, Ordering::AcqRel) && has_sealed_journal {
            self.flush()?;
        }
        Ok(())
    }

    /// Writes the memtables to tables, and waits for it.
    pub fn flush(&self) -> Result<(), LogError> {
        for keyspace in [&self.entries, &self.meta] {
            self.journal
                .flush(keyspace)
                .map_err(|source| self.engine(source))?;
        }
        Ok(())
    }

    /// Writes the memtables to tables and merges these.
    pub fn rewrite(&self) -> Result<(), LogError> {
        self.flush()?;
        for keyspace in [&self.entries, &self.meta] {
            keyspace.major_compact().map_err(|source| self.engine(source))?;
        }
        Ok(())
    }

    /// Damages the record that begins with this entry.
    #[cfg(test)]
    pub(crate) fn spoil(&self, index: LogIndex) {
        let key = index.0.to_be_bytes();
        let mut batch = self.journal.batch(1);
        batch.insert(&self.entries, key, b"no record");
        self.journal.commit(batch).expect("written");
    }

    /// Bytes on disk.
    pub fn disk_bytes(&self) -> u64 {
        self.database.disk_space().unwrap_or(0)
    }

    fn write_cut(&self, batch: &mut JournalBatch, cut: Cut) {
        let entry = Entry {
            index: cut.index.0,
            term: cut.term.0,
            ..Entry::default()
        };
        batch.insert(&self.meta, CUT_KEY, seal(CUT_KEY, &entry));
    }

    /// The first index of the record that holds `index`, or `index` if there is none.
    fn start_of(&self, index: LogIndex) -> Result<LogIndex, LogError> {
        Ok(self.record_start(index)?.unwrap_or(index))
    }

    /// The first index of the last record that begins no later than `index`.
    fn record_start(&self, index: LogIndex) -> Result<Option<LogIndex>, LogError> {
        let record = self.entries.range(..=index.0.to_be_bytes()).next_back();
        let Some(record) = record else { return Ok(None) };
        let key = record.key().map_err(|source| self.engine(source))?;
        self.index_of(&key).map(Some)
    }

    fn index_of(&self, key: &[u8]) -> Result<LogIndex, LogError> {
        let key = key
            .try_into()
            .map_err(|_| self.corrupt("a key that is no index".into()))?;
        Ok(LogIndex(u64::from_be_bytes(key)))
    }

    fn read_meta(&self, key: &[u8]) -> Result<Option<Bytes>, LogError> {
        let value = self.meta.get(key).map_err(|source| self.engine(source))?;
        value
            .map(|value| unseal(key, value.into()).map_err(|what| self.corrupt(what)))
            .transpose()
    }

    fn decode(&self, key: &[u8], value: Bytes) -> Result<EntryBatch, LogError> {
        decode_record(key, value).map_err(|what| self.corrupt(what))
    }

    fn engine(&self, source: fjall::Error) -> LogError {
        LogError::Engine {
            path: self.path.clone(),
            source,
        }
    }

    fn corrupt(&self, what: String) -> LogError {
        LogError::Corrupt {
            path: self.path.clone(),
            what,
        }
    }
}

/// Decodes one record, or says what is wrong with it. Public for the fuzzer, which writes records of its own.
#[doc(hidden)]
pub fn decode_record(key: &[u8], value: Bytes) -> Result<EntryBatch, String> {
    let bytes = unseal(key, value)?;
    EntryBatch::decode(bytes).map_err(|error| format!("a record does not decode: {error}"))
}

fn unseal(key: &[u8], value: Bytes) -> Result<Bytes, String> {
    let Some((sum, rest)) = value.split_at_checked(4) else {
        return Err("a record is too short".into());
    };
    if crc32c::crc32c_append(crc32c::crc32c(key), rest).to_le_bytes() != sum {
        return Err("a record's checksum is wrong".into());
    }
    Ok(value.slice(4..))
}

/// A record's bytes, preceded by a checksum over key and bytes.
fn seal(key: &[u8], message: &impl Message) -> Vec<u8> {
    let mut value = Vec::with_capacity(4 + message.encoded_len());
    value.extend_from_slice(&[0; 4]);
    message.encode_raw(&mut value);
    let sum = crc32c::crc32c_append(crc32c::crc32c(key), &value[4..]);
    value[..4].copy_from_slice(&sum.to_le_bytes());
    value
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
