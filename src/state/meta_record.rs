//! A record of the keyspace `meta` as a component keeps it: read once, shared with views, written when it has changed.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;

use crate::storage::state::error::StateError;
use crate::storage::state::meta::{self, Applied, DigestChange};
use crate::storage::state::{StateBatch, StateDatabase, StateKeyspace};

/// See the head of the file.
#[derive(Debug)]
pub(super) struct MetaRecord<T> {
    key: &'static [u8],
    value: Arc<T>,
    is_changed: bool,
}

impl<T: Message + Default> MetaRecord<T> {
    pub(super) fn load(database: &StateDatabase, key: &'static [u8]) -> Result<Self, StateError> {
        let stored: Option<T> = meta::load(database, key)?;
        Ok(Self {
            key,
            value: Arc::new(stored.unwrap_or_default()),
            is_changed: false,
        })
    }

    pub(super) fn write(&mut self, batch: &mut StateBatch<'_>) {
        if std::mem::take(&mut self.is_changed) {
            let value = meta::encode(self.key, &*self.value);
            batch.insert(StateKeyspace::Meta, Bytes::from_static(self.key), value);
        }
    }

    /// A new `Arc` after each change.
    pub(super) fn get(&self) -> &Arc<T> {
        &self.value
    }

    pub(super) fn set(&mut self, applied: &mut Applied, change: DigestChange, value: T) {
        let sum = u64::from(crc32c::crc32c(&value.encode_to_vec()));
        applied.digest(change, &[sum]);
        self.value = Arc::new(value);
        self.is_changed = true;
    }
}
