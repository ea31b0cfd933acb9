//! Watchers that are behind, and how they catch up: from the batches that are still in memory, else from the disk, in bounded
//! reads, one at a time. One read serves every watcher whose next revision it covers.
//!
//! Reads alternate between a sweep over all revisions, which serves all watchers on its way, and the watcher that misses least.
//! So neither a long history nor many short ones can starve the others.

use super::event::{self, Encoded, Event};
use super::hub::{Hub, State, Watcher};
use super::interests::of_interest;
use super::publish::{Batch, send};
use crate::limits::sizes;
use crate::mutants::{self, Mutant};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The number of changes that a first read asks for; later reads ask for about `WATCH_READ_BYTES`.
const FIRST_READ_CHANGES: usize = 64;

#[derive(Debug)]
pub(super) struct CatchUp {
    /// Next revision and number of each unsynced watcher.
    unsynced: BTreeSet<(i64, u32)>,
    parked: usize,
    recent: VecDeque<Batch>,
    recent_bytes: usize,
    reading: bool,
    /// The revision at which the sweep continues.
    sweep: i64,
    sweeping: bool,
    read_changes: usize,
    /// Streams with staged messages.
    touched: Vec<u32>,
}

impl Default for CatchUp {
    fn default() -> Self {
        Self {
            unsynced: BTreeSet::new(),
            parked: 0,
            recent: VecDeque::new(),
            recent_bytes: 0,
            reading: false,
            sweep: 0,
            sweeping: true,
            read_changes: FIRST_READ_CHANGES.min(sizes().watch_read_changes),
            touched: vec![],
        }
    }
}

impl CatchUp {
    pub fn add(&mut self, next_revision: i64, watcher: u32) {
        assert!(
            self.unsynced.insert((next_revision, watcher)),
            "a watcher is behind once"
        );
    }

    pub fn behind_count(&self) -> usize {
        self.unsynced.len() + self.parked
    }

    pub fn unpark(&mut self, next_revision: i64, watcher: u32) {
        self.parked -= 1;
        self.add(next_revision, watcher);
    }

    pub fn remove(&mut self, next_revision: i64, watcher: u32) {
        let known = self.unsynced.remove(&(next_revision, watcher));
        assert!(known, "an unsynced watcher is in the set");
    }

    pub fn remove_parked(&mut self) {
        self.parked -= 1;
    }

    /// Keeps a batch in memory while there may be a watcher that needs it.
    pub fn remember(&mut self, batch: Batch) {
        if self.unsynced.is_empty() && self.parked == 0 && !self.reading {
            return self.forget();
        }
        self.recent_bytes += bytes(&batch);
        self.recent.push_back(batch);
        while self.recent_bytes > sizes().watch_recent_bytes
            && let Some(oldest) = self.recent.pop_front()
        {
            self.recent_bytes -= bytes(&oldest);
        }
    }

    pub fn forget(&mut self) {
        self.recent.clear();
        self.recent_bytes = 0;
    }

    pub fn touched(&mut self, stream: u32) {
        self.touched.push(stream);
    }

    pub fn take_touched(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.touched)
    }
}

fn bytes(batch: &Batch) -> usize {
    batch.events.iter().map(|event| 128 + event.bytes()).sum()
}

/// Changes to be read from the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    pub from_revision: i64,
    pub changes_max: usize,
    /// Whether any watcher wants the records before the changes.
    pub previous: bool,
}

/// The result of a read.
#[derive(Debug)]
pub enum ReadOutcome {
    /// All changes from the requested revision up to and including `through`.
    Changes {
        read: Read,
        through: i64,
        events: Vec<Event>,
    },
    /// Everything before this revision is compacted.
    Compacted(i64),
}

impl Hub {
    /// Serves what it can from memory, and returns the read that the other watchers need. One read at a time.
    pub fn next_read(&mut self) -> Option<Read> {
        if !self.catch_up.unsynced.is_empty() {
            self.replay_recent();
        }
        let catch_up = &mut self.catch_up;
        if catch_up.reading {
            return None;
        }
        let (least_missing, _) = *catch_up.unsynced.last()?;
        catch_up.sweeping = !catch_up.sweeping;
        let from_revision = if catch_up.sweeping {
            let ahead = catch_up.unsynced.range((catch_up.sweep, 0)..).next();
            ahead.or(catch_up.unsynced.first())?.0
        } else {
            least_missing
        };
        catch_up.reading = true;
        Some(Read {
            from_revision,
            changes_max: catch_up.read_changes,
            previous: self.interests.previous_wanted(),
        })
    }

    /// Takes the result of a read.
    pub fn read_done(&mut self, outcome: ReadOutcome) {
        self.catch_up.reading = false;
        match outcome {
            ReadOutcome::Changes {
                read,
                through,
                events,
            } => {
                assert!(
                    through >= read.from_revision,
                    "a view is published before the hub hears of it"
                );
                self.catch_up.sweep = through + 1;
                self.adapt(&events);
                let batch = Batch {
                    after: read.from_revision - 1,
                    revision: through,
                    events,
                    previous: read.previous,
                };
                self.distribute(&batch);
            }
            ReadOutcome::Compacted(compact_revision) => {
                let gone = self.catch_up.unsynced.range(..(compact_revision, 0));
                let gone: Vec<u32> = gone.map(|(_, watcher)| *watcher).collect();
                for watcher in gone {
                    self.cancel_compacted(watcher, compact_revision);
                }
            }
        }
    }

    /// Asks for more next time if the changes were small, for less if they were large.
    fn adapt(&mut self, events: &[Event]) {
        let bytes: usize = events.iter().map(Event::bytes).sum();
        if let Some(each) = bytes.checked_div(events.len()) {
            let fitting = sizes().watch_read_bytes / each.max(1);
            self.catch_up.read_changes = fitting.clamp(1, sizes().watch_read_changes);
        }
    }

    fn replay_recent(&mut self) {
        let recent = std::mem::take(&mut self.catch_up.recent);
        for batch in &recent {
            self.distribute(batch);
        }
        self.catch_up.recent = recent;
    }

    /// Sends a batch to the unsynced watchers whose next revision it covers.
    fn distribute(&mut self, batch: &Batch) {
        let inside = (batch.after + 1, 0)..=(batch.revision, u32::MAX);
        let inside: Vec<(i64, u32)> = self.catch_up.unsynced.range(inside).copied().collect();
        if inside.is_empty() {
            return;
        }
        // As in etcd, but never behind what a later response will say.
        let header_revision = batch.revision.max(self.revision);
        let matches = self.interests.matches(&batch.events);
        let mut shared: BTreeMap<(u32, i64), Vec<Encoded>> = BTreeMap::new();
        for (next_revision, watcher) in inside {
            let found = &mut self.watchers[watcher as usize];
            let interest = self.interests.get(found.interest);
            if interest.wants.previous && !batch.previous {
                continue;
            }
            let matched = of_interest(&matches, found.interest);
            let encoded = shared
                .entry((found.interest, next_revision))
                .or_insert_with(|| event::encode(&batch.events, matched, interest.wants, next_revision));
            let stream = &mut self.streams[found.stream as usize];
            if !encoded.is_empty() {
                if stream.is_full(self.options.outbox_bytes) {
                    self.park(watcher);
                    continue;
                }
                let fragment_bytes = self.options.fragment_bytes;
                if send(stream, found, encoded, Some(header_revision), fragment_bytes) {
                    self.catch_up.touched.push(found.stream);
                }
            }
            self.catch_up.unsynced.remove(&(next_revision, watcher));
            found.next_revision = batch.revision + 1;
            if found.next_revision > self.revision || mutants::active(Mutant::WatchSkipsOnSync) {
                found.state = State::Synced;
            } else {
                self.catch_up.unsynced.insert((found.next_revision, watcher));
            }
        }
    }

    /// Makes an unsynced watcher wait until its stream has room.
    pub(super) fn park(&mut self, watcher: u32) {
        let Watcher {
            next_revision,
            stream,
            state,
            ..
        } = &mut self.watchers[watcher as usize];
        assert_eq!(*state, State::Unsynced);
        *state = State::Parked;
        self.catch_up.remove(*next_revision, watcher);
        self.catch_up.parked += 1;
        self.streams[*stream as usize].parked.push(watcher);
    }
}
