//! What the state database holds and nobody needs any more, and how its space comes back.
//!
//! Three kinds, each with a way of its own:
//!
//! * Compacted revisions, in `history` and `replaced`. Keys only grow there, so whole tables are dropped.
//! * Deleted and overwritten records, in `current` and `leases`. They go where a merge brings them together with what has
//!   replaced them (`descent`). Bounded: they take no more than [`StateOptions::garbage_bytes_max`] and half of what is
//!   live. What is live is counted (`state/usage`), what is stored is known, so what is more than that is garbage.
//! * Tables and journals that the engine is done with. They go once nobody reads them (`tables`), and once all
//!   keyspaces have written their part of a journal to tables.
//!
//! All of it blocks and belongs to a thread where nobody waits.
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

/// How far the merges of one keyspace have come.
#[derive(Clone, Copy, Debug, Default)]
struct Descent {
    /// The newest change that it brings down, while it is under way.
    up_to: Option<SeqNo>,
    /// What was left of it last time, and behind which compaction: what is left then is no garbage that merges can find.
    settled: Option<(u64, i64)>,
}

/// The same of all keyspaces, and journals.
#[derive(Debug, Default)]
pub(super) struct Descents {
    of: [Descent; OVERWRITTEN.len()],
    /// A journal beside the one in use was there at the last look.
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

    /// Gives the space of compacted revisions back, and waits for it: call it off the apply thread. Takes no longer
    /// however much there is to give back, since whole tables go at once. Where little is stored, the rest is rewritten;
    /// elsewhere it goes with the table that it is in, when that is compacted too. Every table that is written meanwhile
    /// holds up writes, and a longer merge would hold up the engine's worker.
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

    /// Drops tables that hold nothing but compacted revisions, if there are more of these since the last time. Cheap: the
    /// engine would keep them for ever, since their keys only grow and it has nothing to merge.
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
        // It may hold changes on both sides of the floor.
        let is_compacted = last_main(&value).is_some_and(|revision| revision <= floor);
        Ok(Some(if is_compacted { behind } else { key.into() }))
    }

    /// Rewrites what is little enough, and drops what has been deleted or overwritten of the rest: what is left to do
    /// where etcd defragments. False if some of it was merged by the engine at the time.
    pub fn rewrite(&self) -> Result<bool, StateError> {
        self.sync()?;
        let mut all = true;
        for keyspace in StateKeyspace::ALL {
            all &= self.rewrite_keyspace(keyspace)? || self.descend(keyspace)?;
        }
        self.remove_retired_tables()?;
        Ok(all)
    }

    /// Rewrites the tables of one keyspace, without what its filter drops; false if they are many: then whole tables go
    /// at most.
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

    /// Merges one step after the other until all is done; false if that cannot be now.
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
        // Now, before the engine removes what was merged: it would hold readers and writers up.
        self.retire(keyspace)?;
        Ok(step)
    }

    /// Takes care of what nobody needs, for some tenths of a second at most. Call it about once in a second, with what is
    /// live; what is left to do is done at the next calls.
    pub fn collect_garbage(&self, live_bytes: u64) -> Result<(), StateError> {
        self.remove_retired_tables()?;
        self.remove_sealed_journals()?;
        self.collect_compacted(live_bytes)?;
        for (place, keyspace) in OVERWRITTEN.into_iter().enumerate() {
            self.collect_garbage_of(place, keyspace, live_bytes)?;
        }
        Ok(())
    }

    /// Drops what compactions have left since the last time. Only those that wait for it have it done at once
    /// ([`Self::reclaim`]); others would leave it until the next checkpoint, which on a member at rest never comes.
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
        // A deletion that a reader does not see yet would come to the last level beside what it deletes, and both would
        // stay there.
        if descent.up_to > Some(self.snapshots.oldest(&self.database)) {
            return Ok(());
        }
        let end = env::now() + DESCENT_TIME_MAX;
        while env::now() < end && self.has_room_to_merge(live_bytes) {
            match self.descend_step(keyspace)? {
                DescentStep::Merged => {}
                DescentStep::Blocked => break,
                DescentStep::Done => {
                    // What came to the last level without a merge has kept its deletions.
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

    /// A merge writes what is live of the tables before it removes any.
    fn has_room_to_merge(&self, live_bytes: u64) -> bool {
        let needed = live_bytes.min(MERGED_LIVE_BYTES_MAX) + self.options.table_bytes;
        env::disk_space(&self.path).is_ok_and(|disk| disk.free_bytes >= needed)
    }

    /// A journal goes once all keyspaces have written their part of it to tables, and one that is seldom written to keeps
    /// journals of others on the disk.
    fn remove_sealed_journals(&self) -> Result<(), StateError> {
        let mut descents = self.descents.lock().unwrap_or_else(PoisonError::into_inner);
        let has_sealed_journal = self.database.journal_count() > 1;
        // The engine's worker may be about to do it.
        if has_sealed_journal && descents.has_sealed_journal {
            self.flush()?;
        }
        descents.has_sealed_journal = has_sealed_journal;
        Ok(())
    }

    /// Removes the tables that are not in use any more. Blocks: call it now and then where nobody waits.
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

    /// What the state takes on the disk: tables, those that are not in use any more and still there, and changes that have
    /// not reached a table yet. Journals are not counted, as etcd's are not.
    pub fn disk_bytes(&self) -> u64 {
        let tables: u64 = self.keyspaces.iter().map(Keyspace::disk_space).sum();
        tables + self.retired_bytes() + self.database.write_buffer_size()
    }

    /// What tables take that are not in use any more, as of the last look. Where nothing is written, it is the published
    /// view that reads them still.
    pub fn retired_bytes(&self) -> u64 {
        self.retired.iter().map(tables::RetiredTables::bytes).sum()
    }
}

#[cfg(test)]
#[path = "garbage_tests.rs"]
mod tests;
