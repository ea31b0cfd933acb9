//! Newest records that are likely to be replaced soon. Every put needs the record before it; without this each of them
//! would be a read of the storage engine.

use std::collections::hash_map::DefaultHasher;
use std::hash::BuildHasherDefault;

use bytes::Bytes;
use quick_cache::unsync::{Cache, DefaultLifecycle};
use quick_cache::{OptionsBuilder, Weighter};

use crate::storage::state_record::Record;

/// What an entry takes beside key and record: the entry itself, its place in the table, the allocation's head.
const ENTRY_OVERHEAD_BYTES: u64 = 240;

/// What one entry is taken to weigh when the table is sized.
const ENTRY_BYTES_EXPECTED: u64 = 512;

#[derive(Clone)]
struct Bytewise;

impl Weighter<Bytes, Record> for Bytewise {
    fn weight(&self, key: &Bytes, record: &Record) -> u64 {
        (key.len() + record.stored().len()) as u64 + ENTRY_OVERHEAD_BYTES
    }
}

/// The hasher has no random seed, so that a replay takes the same path.
type Hasher = BuildHasherDefault<DefaultHasher>;

pub(crate) struct RecordCache(Cache<Bytes, Record, Bytewise, Hasher, DefaultLifecycle<Bytes, Record>>);

impl RecordCache {
    pub(crate) fn new(bytes_max: u64) -> Self {
        let options = OptionsBuilder::new()
            .estimated_items_capacity((bytes_max / ENTRY_BYTES_EXPECTED) as usize)
            .weight_capacity(bytes_max)
            .build()
            .expect("both numbers are given");
        Self(Cache::with_options(
            options,
            Bytewise,
            Hasher::default(),
            DefaultLifecycle::default(),
        ))
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<&Record> {
        self.0.get(key)
    }

    pub(crate) fn insert(&mut self, key: Bytes, record: Record) {
        self.0.insert(key, record);
    }

    pub(crate) fn remove(&mut self, key: &[u8]) {
        self.0.remove(key);
    }
}
