//! Raft's view of the log: a bounded tail in memory, whose entries can be read before they are on disk, and the log's database
//! for everything before it. The terms of all entries are kept as runs, since raft asks for terms far more often than for
//! payloads.
//!
//! A follower that is behind needs entries that are no longer in memory. Another thread reads them ([`LogFetches`]) and raft
//! asks again, so that raft's thread never waits for a disk. Entries that are not applied are always in memory.
//!
//! If the disk fails while raft reads, [`LogStore::take_failure`] returns the error. Raft sees "temporarily unavailable" where
//! it can handle that, and no entries otherwise. From then on raft's decisions are void ([`LogStore::has_failed`]), and the
//! actor stops the member.

use super::convert;
use super::log_fetches::{LogFetches, Stretch};
use crate::ids::{LogIndex, Term};
use crate::limits::sizes;
use crate::proto::peer;
use crate::state::View;
use crate::state::Views;
use crate::storage::log::{Cut, LogDatabase, LogError, Recovered};
use crate::storage::state::meta::SharedCluster;
use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use raft::{GetEntriesContext, RaftState, Storage, StorageError};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::sync::Arc;

/// raft's storage.
pub struct LogStore {
    database: LogDatabase,
    views: Views,
    cut: Cut,
    last: LogIndex,
    /// (first index, term) of each run of entries of one term, oldest first.
    terms: Vec<(LogIndex, Term)>,
    tail: VecDeque<Entry>,
    tail_bytes: u64,
    hard_state: HardState,
    conf_state: ConfState,
    fetches: RefCell<LogFetches>,
    failure: RefCell<Option<LogError>>,
    has_failed: Cell<bool>,
    /// The views of the snapshots that raft was given, one for each message that announces one. The sender of a snapshot takes
    /// its view from here.
    snapshots: RefCell<Vec<Arc<View>>>,
}

impl LogStore {
    pub fn new(database: LogDatabase, recovered: &Recovered, conf_state: ConfState, views: Views) -> Self {
        let mut terms: Vec<(LogIndex, Term)> = Vec::new();
        let mut last = recovered.cut.index;
        for term in &recovered.terms {
            last = last.next();
            if terms.last().is_none_or(|(_, newest)| newest != term) {
                terms.push((last, *term));
            }
        }
        let saved = recovered.hard_state;
        let hard_state = HardState {
            term: saved.term,
            vote: saved.vote,
            commit: saved.commit,
            ..HardState::default()
        };
        let mut store = Self {
            database,
            views,
            cut: recovered.cut,
            last,
            terms,
            tail: VecDeque::new(),
            tail_bytes: 0,
            hard_state,
            conf_state,
            fetches: RefCell::default(),
            failure: RefCell::new(None),
            has_failed: Cell::new(false),
            snapshots: RefCell::new(Vec::new()),
        };
        store.load_tail();
        store
    }

    /// Reads the entries that are not applied into memory, from where raft takes them.
    fn load_tail(&mut self) {
        let first = self.views.load().applied_index().max(self.cut.index).next();
        if first > self.last {
            return;
        }
        match self.read_disk(first, self.last.next(), u64::MAX) {
            Ok(entries) => {
                self.tail_bytes = entries.iter().map(|entry| entry.data.len() as u64).sum();
                self.tail = entries.into();
            }
            Err(error) => self.fail(error),
        }
    }

    fn read_disk(&self, low: LogIndex, high: LogIndex, bytes_max: u64) -> Result<Vec<Entry>, LogError> {
        read_entries(&self.database, low, high, bytes_max)
    }

    fn fail(&self, error: LogError) {
        self.has_failed.set(true);
        self.failure.borrow_mut().get_or_insert(error);
    }

    /// Takes the ranges to read from the log's disk, for [`Self::begin_fetched`].
    pub fn take_fetches(&self) -> Vec<Stretch> {
        self.fetches.borrow_mut().take_due()
    }

    /// A range has been read. Returns the requests that raft may repeat until [`Self::end_fetched`].
    pub fn begin_fetched(
        &self,
        stretch: Stretch,
        entries: Result<Vec<Entry>, LogError>,
    ) -> Vec<GetEntriesContext> {
        let Some(questions) = self.fetches.borrow_mut().take_questions(stretch) else {
            return Vec::new();
        };
        match entries {
            Ok(entries) => self.fetches.borrow_mut().hold(stretch.low, entries),
            // The range was cut meanwhile. Raft learns that when it asks.
            Err(_) if stretch.low <= self.cut.index => {}
            Err(error) => {
                self.fail(error);
                return Vec::new();
            }
        }
        questions
    }

    pub fn end_fetched(&self) {
        self.fetches.borrow_mut().forget();
    }

    /// Adds entries that the log's database will get next. Returns true if they replace entries of the log.
    pub fn append(&mut self, entries: &[Entry]) -> bool {
        let Some(first) = entries.first() else {
            return false;
        };
        assert!(
            first.index > self.cut.index.0,
            "an append may not reach behind the cut"
        );
        assert!(first.index <= self.last.0 + 1, "an append may not leave a gap");
        let replaces = first.index <= self.last.0;
        if replaces {
            self.fetches.borrow_mut().clear();
            while self.tail.back().is_some_and(|entry| entry.index >= first.index) {
                self.tail_bytes -= self.tail.pop_back().map_or(0, |entry| entry.data.len() as u64);
            }
            while self.terms.last().is_some_and(|(start, _)| start.0 >= first.index) {
                self.terms.pop();
            }
        }
        for entry in entries {
            if self.terms.last().is_none_or(|(_, newest)| newest.0 != entry.term) {
                self.terms.push((LogIndex(entry.index), Term(entry.term)));
            }
            self.tail_bytes += entry.data.len() as u64;
            self.tail.push_back(entry.clone());
            self.last = LogIndex(entry.index);
        }
        replaces
    }

    /// Removes entries up to `applied` from memory (they are on disk and applied) until the tail fits its bound.
    pub fn shrink_tail(&mut self, applied: LogIndex) {
        while self.tail_bytes > sizes().log_tail_bytes_max
            && self.tail.front().is_some_and(|entry| entry.index <= applied.0)
        {
            self.tail_bytes -= self.tail.pop_front().map_or(0, |entry| entry.data.len() as u64);
        }
    }

    /// Forgets the entries up to `index`. The caller cuts the database.
    pub fn cut(&mut self, index: LogIndex) -> Option<Cut> {
        if index <= self.cut.index || index > self.last {
            return None;
        }
        let term = self.term_of(index)?;
        self.cut = Cut { index, term };
        while self.tail.front().is_some_and(|entry| entry.index <= index.0) {
            self.tail_bytes -= self.tail.pop_front().map_or(0, |entry| entry.data.len() as u64);
        }
        let runs_behind = self.terms.partition_point(|(start, _)| *start <= index);
        if runs_behind > 0 {
            self.terms.drain(..runs_behind - 1);
            self.terms[0].0 = index.next();
        }
        if self.last == index {
            self.terms.clear();
        }
        Some(self.cut)
    }

    /// Starts again after a snapshot.
    pub fn reset(&mut self, cut: Cut, conf_state: ConfState) {
        self.cut = cut;
        self.last = cut.index;
        self.terms.clear();
        self.tail.clear();
        self.tail_bytes = 0;
        self.conf_state = conf_state;
        self.fetches.borrow_mut().clear();
    }

    pub fn set_hard_state(&mut self, hard_state: HardState) {
        self.hard_state = hard_state;
    }

    pub fn hard_state(&self) -> peer::HardState {
        peer::HardState {
            term: self.hard_state.term,
            vote: self.hard_state.vote,
            commit: self.hard_state.commit,
        }
    }

    /// The members according to the applied state.
    pub fn cluster(&self) -> SharedCluster {
        SharedCluster::clone(&self.views.load().cluster)
    }

    pub fn last(&self) -> LogIndex {
        self.last
    }

    pub fn cut_index(&self) -> LogIndex {
        self.cut.index
    }

    /// Takes the disk error, which raft was not told.
    pub fn take_failure(&self) -> Option<LogError> {
        self.failure.borrow_mut().take()
    }

    /// Whether the disk has failed. Raft's decisions after that are based on missing entries.
    pub fn has_failed(&self) -> bool {
        self.has_failed.get()
    }

    /// Takes the view of the snapshot that raft announced at `index`.
    pub fn take_snapshot_view(&self, index: LogIndex) -> Option<Arc<View>> {
        let mut snapshots = self.snapshots.borrow_mut();
        let place = snapshots.iter().position(|view| view.applied_index() == index)?;
        // One of them: two followers may be sent the same snapshot.
        Some(snapshots.remove(place))
    }

    fn term_of(&self, index: LogIndex) -> Option<Term> {
        if index == self.cut.index {
            return Some(self.cut.term);
        }
        if index < self.cut.index || index > self.last {
            return None;
        }
        let run = self.terms.partition_point(|(start, _)| *start <= index);
        self.terms.get(run.checked_sub(1)?).map(|(_, term)| *term)
    }

    fn read_tail(&self, low: u64, high: u64, bytes_max: u64) -> Vec<Entry> {
        let Some(first) = self.tail.front().map(|entry| entry.index) else {
            return Vec::new();
        };
        let mut bytes = 0;
        let slice = self.tail.range((low - first) as usize..(high - first) as usize);
        let mut found = Vec::new();
        for entry in slice {
            bytes += entry.data.len() as u64;
            if bytes > bytes_max && !found.is_empty() {
                break;
            }
            found.push(entry.clone());
        }
        found
    }
}

/// Reads entries from the log's disk, in raft's form. Blocks.
pub fn read_entries(
    database: &LogDatabase,
    low: LogIndex,
    high: LogIndex,
    bytes_max: u64,
) -> Result<Vec<Entry>, LogError> {
    let entries = database.read(low, high, bytes_max)?.into_iter();
    entries
        .map(convert::entry_from_wire)
        .collect::<Result<_, _>>()
        .map_err(|error| LogError::unreadable(database, &error))
}

impl Storage for LogStore {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState {
            hard_state: self.hard_state.clone(),
            conf_state: self.conf_state.clone(),
        })
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low <= self.cut.index.0 {
            return Err(raft::Error::Store(StorageError::Compacted));
        }
        if high > self.last.0 + 1 {
            return Err(raft::Error::Store(StorageError::Unavailable));
        }
        let bytes_max = max_size.into().unwrap_or(u64::MAX);
        let tail_first = self.tail.front().map_or(self.last.0 + 1, |entry| entry.index);
        if low >= tail_first {
            return Ok(self.read_tail(low, high, bytes_max));
        }
        let (low, high) = (LogIndex(low), LogIndex(high.min(tail_first)));
        if let Some(held) = self.fetches.borrow().held(low, high) {
            return Ok(held);
        }
        if context.can_async() {
            self.fetches.borrow_mut().want(low, high, bytes_max, context);
            return Err(raft::Error::Store(StorageError::LogTemporarilyUnavailable));
        }
        // Raft asks synchronously only for entries that are not applied, which are in memory. So this should not happen.
        self.read_disk(low, high, bytes_max).or_else(|error| {
            self.fail(error);
            // With an error, raft would panic when it starts an election and when it hands out committed entries.
            Ok(Vec::new())
        })
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        match self.term_of(LogIndex(index)) {
            Some(term) => Ok(term.0),
            None if index < self.cut.index.0 => Err(raft::Error::Store(StorageError::Compacted)),
            None => Err(raft::Error::Store(StorageError::Unavailable)),
        }
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.cut.index.0 + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last.0)
    }

    fn snapshot(&self, request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        let view = self.views.load();
        let (index, term) = (view.applied_index(), view.applied_term());
        if index.0 < request_index || index < self.cut.index {
            return Err(raft::Error::Store(StorageError::SnapshotTemporarilyUnavailable));
        }
        let metadata = peer::SnapshotMetadata {
            conf_state: Some(view.cluster.conf_state.clone()),
            index: index.0,
            term: term.0,
            ..peer::SnapshotMetadata::default()
        };
        self.snapshots.borrow_mut().push(view);
        Ok(convert::snapshot_from_wire(&metadata))
    }
}
