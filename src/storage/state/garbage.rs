//! The garbage of the state database, and how its space is reclaimed.
//!
//! There are three kinds, each reclaimed in a different way:
//!
//! * Compacted revisions, in `history` and `replaced`. Keys only grow there, so whole tables are dropped.
//! * Deleted and overwritten records, in `current` and `leases`. A merge drops them when it brings them together with what has
//!   replaced them (`descent`). They take at most [`StateOptions::garbage_bytes_max`] plus half of the live bytes. The live bytes
//!   are counted (`state/usage`) and the stored bytes are known, so the difference is garbage.
//! * Tables and journals that the engine no longer uses. Tables are removed once they have no readers (`tables`), journals once
//!   all keyspaces have written their part of them to tables.
//!
//! All functions here block and belong on a thread where no request waits.
//!
//! [`StateOptions::garbage_bytes_max`]: crate::storage::state::StateOptions

use crate::env;
use crate::limits::{DESCENT_TIME_MAX, MERGED_LIVE_BYTES_MAX};
use crate::storage::descent::{self, DescentStep};
use crate::storage::state::error::StateError;
use crate::storage::state::filter;
use crate::storage::state::keys::Place;
use crate::storage::state::packed::last_main;
use crate::storage::state::{StateDatabase, StateKeyspace};
use crate::storage::tables;
use bytes::Bytes;
use fjall::{AbstractTree, Keyspace, Readable, SeqNo};
use std::sync::PoisonError;

/// Keyspaces whose records are overwritten and deleted.
const OVERWRITTEN: [StateKeyspace; 2] = [StateKeyspace::Current, StateKeyspace::Leases];

/// The progress of the merges of one keyspace.
#[derive(Clone, Copy, Debug, Default)]
struct Descent {
    /// The newest change that the merges under way must bring to the last level.
    up_to: Option<SeqNo>,
    /// The bytes that the last round left, and the compact revision at that time. Merges find no more garbage in what is left.
    settled: Option<(u64, i64)>,
}

/// The progress of all keyspaces, and of journals.
#[derive(Debug, Default)]
pub(super) struct Descents {
    of: [Descent; OVERWRITTEN.len()],
    /// The last call found a journal besides the one in use.
    has_sealed_journal: bool,
}

impl StateDatabase {
    /// Writes all memtables to tables and waits for it.
    pub fn flush(&self) -> Result<(), StateError> {
        for keyspace in &self.keyspaces {
            self.flush_keyspace(keyspace)?;
        }
        Ok(())
    }

    fn flush_keyspace(&self, keyspace: &Keyspace) -> Result<(), StateError> {
        self.journal
            .flush(keyspace)
            .map_err(StateError::engine("writing a table"))
    }

    /// Reclaims the space of compacted revisions and waits for it; do not call it on the apply thread. The time does not depend
    /// on how much there is to reclaim, since whole tables are dropped. Small keyspaces are rewritten. In large ones, a table
    /// that is only partly compacted stays until all of it is compacted. Every table that is written meanwhile holds up writes,
    /// and a longer merge would hold up the engine's worker.
    pub fn reclaim(&self) -> Result<(), StateError> {
        self.sync()?;
        for keyspace in [StateKeyspace::Replaced, StateKeyspace::History] {
            if self.is_little(keyspace) {
                self.rewrite_keyspace(keyspace)?;
            } else {
                self.drop_compacted_of(keyspace)?;
            }
        }
        self.remove_retired_tables()
    }

    /// Drops tables that hold only compacted revisions, if a compaction has been synced since the last call. Cheap. The engine
    /// would keep these tables for ever: their keys only grow, so it has nothing to merge.
    pub fn drop_compacted(&self) -> Result<(), StateError> {
        let (replaced, history) = self.floors.get();
        if self.dropped_floors.get() == (replaced, history) {
            return Ok(());
        }
        self.drop_compacted_of(StateKeyspace::Replaced)?;
        self.drop_compacted_of(StateKeyspace::History)?;
        self.dropped_floors.raise(replaced, history);
        Ok(())
    }

    fn drop_compacted_of(&self, keyspace: StateKeyspace) -> Result<(), StateError> {
        let (replaced, history) = self.floors.get();
        let floor = match keyspace {
            StateKeyspace::Replaced => replaced,
            StateKeyspace::History => filter::history_floor(history),
            _ => return Ok(()),
        };
        let Some(end) = self.end_of_compacted(keyspace, floor)? else {
            return Ok(());
        };
        tables::drop_before(self.keyspace(keyspace), &end).map_err(StateError::engine("dropping tables"))
    }

    /// The key before which all changes of all records are at or below the floor.
    fn end_of_compacted(&self, keyspace: StateKeyspace, floor: i64) -> Result<Option<Bytes>, StateError> {
        let behind = Place {
            main: floor.saturating_add(1),
            sub: 0,
        };
        let behind = Bytes::copy_from_slice(&behind.to_bytes());
        if floor < 1 {
            return Ok(None);
        }
        let compacted = ..behind.clone();
        let mut records = self
            .snapshot()
            .range::<Bytes, _>(self.keyspace(keyspace), compacted);
        let last = records.next_back();
        let Some(last) = last else { return Ok(None) };
        let (key, value) = last.into_inner().map_err(StateError::engine("reading"))?;
        // This record may hold changes on both sides of the floor.
        let is_compacted = last_main(&value).is_some_and(|revision| revision <= floor);
        Ok(Some(if is_compacted { behind } else { key.into() }))
    }

    /// Rewrites small keyspaces, and drops deleted and overwritten records of large ones: what remains to be done where etcd
    /// defragments. False if the engine was merging some of the tables.
    pub fn rewrite(&self) -> Result<bool, StateError> {
        self.sync()?;
        let mut all = true;
        for keyspace in StateKeyspace::ALL {
            all &= self.rewrite_keyspace(keyspace)? || self.descend(keyspace)?;
        }
        self.remove_retired_tables()?;
        Ok(all)
    }

    /// Rewrites the tables of one keyspace and drops what its filter rejects; false if the keyspace is large, where only whole
    /// tables are dropped.
    fn rewrite_keyspace(&self, keyspace: StateKeyspace) -> Result<bool, StateError> {
        self.flush_keyspace(self.keyspace(keyspace))?;
        self.drop_compacted_of(keyspace)?;
        let is_little = self.is_little(keyspace);
        if is_little {
            let merged = self.keyspace(keyspace).major_compact();
            merged.map_err(StateError::engine("merging tables"))?;
        }
        Ok(is_little)
    }

    fn is_little(&self, keyspace: StateKeyspace) -> bool {
        self.keyspace(keyspace).disk_space() <= self.options.merge_bytes_max
    }

    /// Merges step by step until all tables are on the last level; false if that is not possible now.
    fn descend(&self, keyspace: StateKeyspace) -> Result<bool, StateError> {
        if !OVERWRITTEN.contains(&keyspace) {
            return Ok(true);
        }
        loop {
            match self.descend_step(keyspace)? {
                DescentStep::Merged => {}
                outcome => return Ok(outcome == DescentStep::Done),
            }
        }
    }

    fn descend_step(&self, keyspace: StateKeyspace) -> Result<DescentStep, StateError> {
        let oldest = self.snapshots.oldest(&self.database);
        let step = descent::step(self.keyspace(keyspace), self.options.table_bytes, oldest);
        let step = step.map_err(StateError::engine("merging tables"))?;
        // Retire them before the engine removes what was merged, which would hold up readers and writers.
        self.retire(keyspace)?;
        Ok(step)
    }

    /// Collects garbage for some tenths of a second at most. Call it about once a second with the number of live bytes; further
    /// calls continue the work.
    pub fn collect_garbage(&self, live_bytes: u64) -> Result<(), StateError> {
        self.remove_retired_tables()?;
        self.remove_sealed_journals()?;
        self.collect_compacted(live_bytes)?;
        for (place, keyspace) in OVERWRITTEN.into_iter().enumerate() {
            self.collect_garbage_of(place, keyspace, live_bytes)?;
        }
        Ok(())
    }

    /// Drops what compactions have left since the last call. Only a caller that waits for it gets that at once
    /// ([`Self::reclaim`]). Otherwise it would stay until the next checkpoint, which never comes on an idle member.
    fn collect_compacted(&self, live_bytes: u64) -> Result<(), StateError> {
        if self.applied_floors.get() == self.dropped_floors.get() {
            return Ok(());
        }
        self.sync()?;
        self.drop_compacted()?;
        let stored_bytes: u64 = [StateKeyspace::Replaced, StateKeyspace::History]
            .into_iter()
            .map(|keyspace| self.keyspace(keyspace).disk_space())
            .sum();
        if stored_bytes > live_bytes + self.options.garbage_bytes_max {
            self.reclaim()?;
        }
        Ok(())
    }

    fn collect_garbage_of(
        &self,
        place: usize,
        keyspace: StateKeyspace,
        live_bytes: u64,
    ) -> Result<(), StateError> {
        let mut descents = self.descents.lock().unwrap_or_else(PoisonError::into_inner);
        let descent = &mut descents.of[place];
        let stored_bytes = self.keyspace(keyspace).disk_space();
        if descent.up_to.is_none() {
            let allowed_bytes = self.options.garbage_bytes_max;
            let floor = self.floor();
            let is_settled = descent.settled.is_some_and(|(settled_bytes, settled_floor)| {
                floor == settled_floor && stored_bytes <= settled_bytes + allowed_bytes
            });
            if is_settled || stored_bytes <= live_bytes + live_bytes / 2 + allowed_bytes {
                return Ok(());
            }
            // The newest deletions are in memory.
            self.flush_keyspace(self.keyspace(keyspace))?;
            *descent = Descent {
                up_to: self.keyspace(keyspace).tree.get_highest_persisted_seqno(),
                settled: None,
            };
        }
        // A deletion that is newer than what a reader sees would reach the last level together with the record that it deletes,
        // and both would stay there.
        if descent.up_to > Some(self.snapshots.oldest(&self.database)) {
            return Ok(());
        }
        let end = env::now() + DESCENT_TIME_MAX;
        while env::now() < end && self.has_room_to_merge(live_bytes) {
            match self.descend_step(keyspace)? {
                DescentStep::Merged => {}
                DescentStep::Blocked => break,
                DescentStep::Done => {
                    // Tables that reached the last level without a merge have kept their deletions.
                    self.rewrite_keyspace(keyspace)?;
                    let left_bytes = self.keyspace(keyspace).disk_space();
                    *descent = Descent {
                        up_to: None,
                        settled: Some((left_bytes, self.floor())),
                    };
                    tracing::info!(
                        keyspace = keyspace.name(),
                        stored_bytes,
                        left_bytes,
                        live_bytes,
                        "dropped deleted and overwritten records"
                    );
                    break;
                }
            }
        }
        Ok(())
    }

    /// Whether the disk has room for a merge: it writes the live records of the tables before it removes any table.
    fn has_room_to_merge(&self, live_bytes: u64) -> bool {
        let needed = live_bytes.min(MERGED_LIVE_BYTES_MAX) + self.options.table_bytes;
        env::disk_space(&self.path).is_ok_and(|disk| disk.free_bytes >= needed)
    }

    /// A journal is removed once all keyspaces have written their part of it to tables. A keyspace that is seldom written to
    /// keeps journals of others on the disk.
    fn remove_sealed_journals(&self) -> Result<(), StateError> {
        let mut descents = self.descents.lock().unwrap_or_else(PoisonError::into_inner);
        let has_sealed_journal = self.database.journal_count() > 1;
        // Waits for a second call: the engine's worker may be about to do it.
        if has_sealed_journal && descents.has_sealed_journal {
            self.flush()?;
        }
        descents.has_sealed_journal = has_sealed_journal;
        Ok(())
    }

    /// Removes the tables that are no longer in use. Blocks: call it now and then, on a thread where no request waits.
    pub fn remove_retired_tables(&self) -> Result<(), StateError> {
        StateKeyspace::ALL
            .into_iter()
            .try_for_each(|keyspace| self.retire(keyspace))
    }

    fn retire(&self, keyspace: StateKeyspace) -> Result<(), StateError> {
        let oldest = self.snapshots.oldest(&self.database);
        let retired = &self.retired[keyspace as usize - 1];
        retired
            .look(self.keyspace(keyspace), oldest)
            .map_err(StateError::engine("removing tables"))
    }

    /// The disk bytes of the state: tables, those that are out of use but not removed yet, and changes that have not reached a
    /// table yet. Journals are not counted, as etcd's are not.
    pub fn disk_bytes(&self) -> u64 {
        let tables: u64 = self.keyspaces.iter().map(Keyspace::disk_space).sum();
        tables + self.retired_bytes() + self.database.write_buffer_size()
    }

    /// The bytes of tables that are out of use, as of the last call. On an idle member, the published view still reads them.
    pub fn retired_bytes(&self) -> u64 {
        self.retired.iter().map(tables::RetiredTables::bytes).sum()
    }
}

#[cfg(test)]
#[path = "garbage_tests.rs"]
mod tests;
