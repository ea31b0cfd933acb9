//! A cache of the headers of newest records that are likely to be replaced soon. Every put needs the header of the record that
//! it replaces, and without the cache would read it from the storage engine.

use std::collections::hash_map::DefaultHasher;
use std::hash::BuildHasherDefault;

use quick_cache::unsync::{Cache, DefaultLifecycle};
use quick_cache::{OptionsBuilder, Weighter};

use crate::storage::state::record::Header;

/// The bytes of an entry besides its key: the header, its slot in the table, the key's allocation.
const ENTRY_OVERHEAD_BYTES: u64 = 120;

/// The assumed weight of an entry when the table is sized.
const ENTRY_BYTES_EXPECTED: u64 = 160;

#[derive(Clone)]
struct Bytewise;

impl Weighter<Box<[u8]>, Header> for Bytewise {
    fn weight(&self, key: &Box<[u8]>, _: &Header) -> u64 {
        key.len() as u64 + ENTRY_OVERHEAD_BYTES
    }
}

/// A hasher without a random seed, so that a replay takes the same path.
type Hasher = BuildHasherDefault<DefaultHasher>;
type Lifecycle = DefaultLifecycle<Box<[u8]>, Header>;

pub(crate) struct HeaderCache(Cache<Box<[u8]>, Header, Bytewise, Hasher, Lifecycle>);

impl HeaderCache {
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

    pub(crate) fn get(&self, key: &[u8]) -> Option<Header> {
        self.0.get(key).copied()
    }

    pub(crate) fn insert(&mut self, key: &[u8], header: Header) {
        if let Some(mut known) = self.0.get_mut(key) {
            *known = header;
            return;
        }
        self.0.insert(key.into(), header);
    }

    pub(crate) fn remove(&mut self, key: &[u8]) {
        self.0.remove(key);
    }
}
