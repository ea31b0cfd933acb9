//! The interests of watchers. Watchers that want the same share one interest, so a change is matched and encoded once for all of
//! them.

use super::event::Event;
use super::keys::WatchedKeys;
use super::range_index::RangeIndex;
use crate::state::mvcc::changes::ChangeKind;
use hashbrown::HashTable;
use slab::Slab;
use smallvec::{SmallVec, smallvec};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

/// Which changes of its keys a watcher wants, and in which form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wants {
    pub puts: bool,
    pub deletes: bool,
    /// The record before the change as well.
    pub previous: bool,
}

impl Wants {
    pub fn kind(self, kind: ChangeKind) -> bool {
        match kind {
            ChangeKind::Put => self.puts,
            ChangeKind::Delete => self.deletes,
        }
    }
}

/// One interest, and the watchers that have it.
#[derive(Debug)]
pub struct Interest {
    pub keys: WatchedKeys,
    pub wants: Wants,
    /// In order of arrival and removal. This is the order of deliveries; clients do not rely on it.
    pub watchers: SmallVec<[u32; 4]>,
}

/// All interests: in single keys by the key's hash, in ranges by an index.
#[derive(Debug, Default)]
pub struct Interests {
    all: Slab<Interest>,
    /// Single keys by the hash of the key, ranges by the hash of their start.
    by_start: HashTable<u32>,
    ranges: RangeIndex,
    /// The number of interests that want the records before the changes.
    previous: usize,
    /// Without a random seed, so that a replay takes the same path.
    hasher: BuildHasherDefault<DefaultHasher>,
}

/// A match of a change with an interest: the interest's number, then the change's place.
pub type Match = (u32, u32);

impl Interests {
    /// Adds a watcher. Returns its interest and its place there.
    pub fn add(&mut self, keys: WatchedKeys, wants: Wants, watcher: u32) -> (u32, u32) {
        let Self {
            all,
            by_start,
            ranges,
            previous,
            hasher,
        } = self;
        let hash = hasher.hash_one(keys.start());
        let same = |number: &u32| {
            let interest = &all[*number as usize];
            interest.wants == wants && interest.keys == keys
        };
        if let Some(number) = by_start.find(hash, same).copied() {
            let watchers = &mut all[number as usize].watchers;
            watchers.push(watcher);
            return (number, watchers.len() as u32 - 1);
        }
        *previous += usize::from(wants.previous);
        let number = all.insert(Interest {
            keys: keys.clone(),
            wants,
            watchers: smallvec![watcher],
        }) as u32;
        by_start.insert_unique(hash, number, |number| {
            hasher.hash_one(all[*number as usize].keys.start())
        });
        if keys.end().is_some() {
            ranges.insert(keys, number);
        }
        (number, 0)
    }

    /// Removes the watcher at this place of an interest. Returns the watcher that was moved to its place, if any.
    pub fn remove(&mut self, number: u32, place: u32) -> Option<u32> {
        let watchers = &mut self.all[number as usize].watchers;
        watchers.swap_remove(place as usize);
        if !watchers.is_empty() {
            return watchers.get(place as usize).copied();
        }
        let interest = self.all.remove(number as usize);
        self.previous -= usize::from(interest.wants.previous);
        let hash = self.hasher.hash_one(interest.keys.start());
        let entry = self.by_start.find_entry(hash, |other| *other == number);
        entry.expect("every interest is in the table").remove();
        if interest.keys.end().is_some() {
            self.ranges.remove(&interest.keys, number);
        }
        None
    }

    /// Whether any interest wants the records before the changes.
    pub fn previous_wanted(&self) -> bool {
        self.previous > 0
    }

    pub fn get(&self, number: u32) -> &Interest {
        &self.all[number as usize]
    }

    /// The interests that the events match, sorted by interest, and per interest in the events' order.
    pub fn matches(&self, events: &[Event]) -> Vec<Match> {
        let mut matches = vec![];
        for (place, event) in events.iter().enumerate() {
            let mut found = |number: u32| {
                if self.get(number).wants.kind(event.kind) {
                    matches.push((number, place as u32));
                }
            };
            let key: &[u8] = &event.key;
            for number in self.by_start.iter_hash(self.hasher.hash_one(key)) {
                let keys = &self.get(*number).keys;
                if keys.end().is_none() && keys.start() == key {
                    found(*number);
                }
            }
            self.ranges.each_containing(key, &mut found);
        }
        matches.sort_unstable();
        matches
    }
}

/// The part of sorted matches that belongs to one interest.
pub fn of_interest(matches: &[Match], number: u32) -> &[Match] {
    let start = matches.partition_point(|(other, _)| *other < number);
    let length = matches[start..].partition_point(|(other, _)| *other == number);
    &matches[start..start + length]
}
