//! The state database: everything that a member has applied, in one fjall database.
//!
//! Keyspaces: `current` (user key -> its newest record), `history` (revision -> which keys changed, and their new records),
//! `replaced` (revision -> which keys changed, and where their previous records are found), `meta` (applied index, members,
//! alarms) and `leases` (leases, and the keys attached to each). One applied batch is one engine batch across all of them.
//! Batches are handed to the operating system, not synced: after a power loss the database is a prefix of what was applied, and
//! the log replays the rest. The log may be cut only behind what [`StateDatabase::sync`] has covered.
//!
//! Nothing here knows etcd's semantics; that is `state`, whose `mvcc` reads.

pub mod alarms;
pub mod error;
pub mod filter;
pub mod garbage;
pub mod history;
pub mod keys;
pub mod leases;
pub mod meta;
pub mod packed;
pub mod record;
pub mod replaced;
pub mod snapshot;
pub mod usage;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use bytes::Bytes;
use fjall::compaction::Leveled;
use fjall::config::{
    BlockSizePolicy, BloomConstructionPolicy, CompressionPolicy, FilterPolicy, FilterPolicyEntry,
};
use fjall::{AbstractTree, CompressionType, Database, Keyspace, KeyspaceCreateOptions, Readable};

use crate::env;
use crate::limits::{GARBAGE_BYTES_MAX, MERGE_BYTES_MAX, OpenFiles};
use crate::metrics::StoreMetrics;
use crate::storage::journal::writer::{Journal, JournalBatch};
use crate::storage::journal::{Engine, Found, JournalError};
use crate::storage::manifest;
use crate::storage::open_snapshots::{OpenSnapshots, StateSnapshot};
use crate::storage::scrub::{self, TableFile};
use crate::storage::state::error::StateError;
use crate::storage::state::filter::Floors;
use crate::storage::state::garbage::Descents;
use crate::storage::tables::RetiredTables;

/// The keyspaces, with their numbers in snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StateKeyspace {
    Current = 1,
    Replaced = 2,
    History = 3,
    Meta = 4,
    Leases = 5,
}

impl StateKeyspace {
    pub const ALL: [Self; 5] = [
        Self::Current,
        Self::Replaced,
        Self::History,
        Self::Meta,
        Self::Leases,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Replaced => "replaced",
            Self::History => "history",
            Self::Meta => "meta",
            Self::Leases => "leases",
        }
    }

    pub const fn number(self) -> u32 {
        self as u32
    }

    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|keyspace| keyspace.number() == number)
    }
}

/// The memory and background work that the engine may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateOptions {
    /// A keyspace's memtable is written to a table at this size.
    pub memtable_bytes: u64,
    /// Cache for blocks of tables.
    pub block_cache_bytes: u64,
    /// The size up to which journals may grow, and so how much a restart replays. The engine takes no less than 64 MiB.
    pub journal_bytes_max: u64,
    /// The size of a table. While a merge writes one, the engine keeps all blocks that it was made from in memory.
    pub table_bytes: u64,
    /// The number of tables in the first level at which they are merged.
    pub first_level_tables: u8,
    /// Up to this size of its tables, [`StateDatabase::reclaim`] and [`StateDatabase::rewrite`] rewrite a keyspace.
    pub merge_bytes_max: u64,
    /// The bytes that deleted and overwritten records may take in addition to a fraction of the live bytes.
    pub garbage_bytes_max: u64,
}

impl StateOptions {
    pub const fn production() -> Self {
        Self {
            memtable_bytes: 4 * 1024 * 1024,
            block_cache_bytes: 8 * 1024 * 1024,
            journal_bytes_max: 64 * 1024 * 1024,
            table_bytes: 8 * 1024 * 1024,
            first_level_tables: 4,
            merge_bytes_max: MERGE_BYTES_MAX,
            garbage_bytes_max: GARBAGE_BYTES_MAX,
        }
    }

    /// Nothing rotates, flushes or compacts unless [`StateDatabase::reclaim`] or [`StateDatabase::flush`] is called.
    pub const fn simulator() -> Self {
        Self {
            memtable_bytes: 1 << 40,
            journal_bytes_max: 1 << 40,
            garbage_bytes_max: 0,
            ..Self::production()
        }
    }
}

impl Default for StateOptions {
    fn default() -> Self {
        Self::production()
    }
}

/// See the head of the file. Shared by the applier, the readers and the checkpointer.
pub struct StateDatabase {
    path: PathBuf,
    database: Database,
    keyspaces: [Keyspace; 5],
    retired: [RetiredTables; 5],
    journal: Journal,
    snapshots: Arc<OpenSnapshots>,
    descents: Mutex<Descents>,
    options: StateOptions,
    /// What may be dropped according to the compactions that have been applied.
    applied_floors: Floors,
    /// The same, as far as tables have been dropped.
    dropped_floors: Floors,
    /// The same, as far as it is on disk: the compaction filters use these.
    floors: Arc<Floors>,
    metrics: OnceLock<Arc<StoreMetrics>>,
}

impl std::fmt::Debug for StateDatabase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StateDatabase")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl StateDatabase {
    /// Inspects the files of the database in `path`, and changes nothing.
    pub fn look(path: &Path) -> Result<Found, StateError> {
        manifest::look(path).map_err(|source| StateError::journal(path, source))
    }

    /// Opens or creates the database in the directory `path`.
    pub fn open(path: &Path, options: &StateOptions) -> Result<Arc<Self>, StateError> {
        let found = Self::look(path)?;
        let opened = Self::open_found(path, options, &found, Engine::Works)?;
        let accepted = found.accept();
        accepted.map_err(|error| StateError::journal(path, JournalError::File(error)))?;
        Ok(opened)
    }

    /// Opens the database whose files were inspected before. The caller decides about a torn end ([`Found::cut`]).
    pub fn open_found(
        path: &Path,
        options: &StateOptions,
        found: &Found,
        engine: Engine,
    ) -> Result<Arc<Self>, StateError> {
        let failed = |source| StateError::Open {
            path: path.to_owned(),
            source,
        };
        let damaged = |source| StateError::journal(path, source);
        found.cut().map_err(|error| damaged(JournalError::File(error)))?;
        let floors = Arc::new(Floors::default());
        let filter_floors = Arc::clone(&floors);
        let builder = Database::builder(path)
            .worker_threads_unchecked(engine.threads())
            .max_cached_files(Some(OpenFiles::of(env::open_files_max()).tables))
            .cache_size(options.block_cache_bytes)
            .max_journaling_size(options.journal_bytes_max.max(64 * 1024 * 1024))
            .journal_compression(CompressionType::None)
            .with_compaction_filter_factories(Arc::new(move |name| filter::factory(name, &filter_floors)));
        let held = (engine == Engine::Works).then(env::hold_engines);
        let database = env::with_patient_threads(|| builder.open()).map_err(failed)?;
        let held = held; // not longer than the database: closing that waits for the engine
        let open = |keyspace: StateKeyspace| {
            database
                .keyspace(keyspace.name(), || keyspace_options(keyspace, options))
                .map_err(failed)
        };
        let keyspaces = [
            open(StateKeyspace::Current)?,
            open(StateKeyspace::Replaced)?,
            open(StateKeyspace::History)?,
            open(StateKeyspace::Meta)?,
            open(StateKeyspace::Leases)?,
        ];
        let tables = keyspaces
            .iter()
            .filter_map(|keyspace| keyspace.tree.get_highest_persisted_seqno());
        found.check_tables(tables.max().unwrap_or(0)).map_err(damaged)?;
        let [current, replaced, history, meta, leases] = &keyspaces;
        let all = [meta, current, replaced, history, leases];
        let journal =
            Journal::new(&database, &all, options.memtable_bytes, path, found, held).map_err(failed)?;
        let this = Self {
            path: path.to_owned(),
            database,
            journal,
            keyspaces,
            retired: Default::default(),
            snapshots: Arc::default(),
            descents: Mutex::default(),
            options: options.clone(),
            applied_floors: Floors::default(),
            dropped_floors: Floors::default(),
            floors,
            metrics: OnceLock::new(),
        };
        if let Some(stored) = this
            .snapshot()
            .get(this.keyspace(StateKeyspace::Meta), meta::APPLIED_KEY)
            .map_err(failed)?
        {
            let applied: meta::Applied = meta::decode(meta::APPLIED_KEY, &stored.into())?;
            this.note_compaction(&applied);
        }
        Ok(Arc::new(this))
    }

    /// Counts what this database does from now on; only the first call has an effect.
    pub fn set_metrics(&self, metrics: &Arc<StoreMetrics>) {
        let _ = self.metrics.set(Arc::clone(metrics));
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The state as of now, across all keyspaces. Cheap. Replaced data is kept as long as the snapshot is.
    pub fn snapshot(&self) -> StateSnapshot {
        self.snapshots.open(&self.database)
    }

    pub(crate) fn keyspace(&self, keyspace: StateKeyspace) -> &Keyspace {
        &self.keyspaces[keyspace as usize - 1]
    }

    /// The newest value of a key.
    pub fn get(&self, keyspace: StateKeyspace, key: &[u8]) -> Result<Option<Bytes>, StateError> {
        let value = self
            .keyspace(keyspace)
            .get(key)
            .map_err(StateError::engine("reading"))?;
        Ok(value.map(Bytes::from))
    }

    pub fn batch(&self, capacity: usize) -> StateBatch<'_> {
        StateBatch {
            state: self,
            batch: self.journal.batch(capacity),
        }
    }

    /// Tells the database what may be dropped once `applied` is on disk.
    pub fn note_compaction(&self, applied: &meta::Applied) {
        self.applied_floors
            .raise(applied.compact_revision, applied.history_floor);
    }

    /// Makes everything applied so far durable. May run on any thread; applies continue meanwhile.
    pub fn sync(&self) -> Result<(), StateError> {
        let (replaced, history) = self.applied_floors.get();
        self.journal.sync().map_err(StateError::engine("syncing"))?;
        self.floors.raise(replaced, history);
        Ok(())
    }

    /// Whether the database can continue. After a disk error it never can.
    pub fn check(&self) -> Result<(), StateError> {
        self.journal.check().map_err(StateError::engine("writing tables"))
    }

    /// Compacted records that were dropped since the database was opened.
    pub fn dropped_records(&self) -> u64 {
        self.floors.dropped_records()
    }

    /// The tables in use, for the scrub.
    pub fn tables(&self) -> Vec<TableFile> {
        let keyspaces = StateKeyspace::ALL.into_iter();
        keyspaces
            .flat_map(|keyspace| scrub::tables(keyspace.name(), self.keyspace(keyspace)))
            .collect()
    }

    /// The compact revision up to which records are dropped; for tests and metrics.
    pub fn floor(&self) -> i64 {
        self.floors.get().0
    }
}

fn keyspace_options(keyspace: StateKeyspace, options: &StateOptions) -> KeyspaceCreateOptions {
    let bits_per_key = |bits| FilterPolicyEntry::Bloom(BloomConstructionPolicy::BitsPerKey(bits));
    let shared = KeyspaceCreateOptions::default()
        .max_memtable_size(options.memtable_bytes)
        .data_block_compression_policy(CompressionPolicy::all(CompressionType::None))
        .data_block_size_policy(BlockSizePolicy::all(4 * 1024))
        .compaction_strategy(Arc::new(
            Leveled::default()
                .with_l0_threshold(options.first_level_tables)
                .with_table_target_size(options.table_bytes),
        ));
    match keyspace {
        StateKeyspace::Current | StateKeyspace::Leases => {
            shared.filter_policy(FilterPolicy::all(bits_per_key(10.0)))
        }
        // Read by seeks and scans only, for which filters are no help.
        _ => shared.filter_policy(FilterPolicy::disabled()),
    }
}

/// Changes that become visible together.
pub struct StateBatch<'a> {
    state: &'a StateDatabase,
    batch: JournalBatch,
}

impl StateBatch<'_> {
    pub fn insert(&mut self, keyspace: StateKeyspace, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.batch
            .insert(self.state.keyspace(keyspace), key.into(), value.into());
    }

    pub fn remove(&mut self, keyspace: StateKeyspace, key: impl Into<Bytes>) {
        self.batch.remove(self.state.keyspace(keyspace), key.into());
    }

    pub fn commit(self) -> Result<(), StateError> {
        let begin = self.state.metrics.get().map(|metrics| (metrics, env::now()));
        self.state
            .journal
            .commit(self.batch)
            .map_err(StateError::engine("writing applied changes"))?;
        if let Some((metrics, begin)) = begin {
            metrics.commit_seconds.observe((env::now() - begin).as_secs_f64());
        }
        Ok(())
    }
}
