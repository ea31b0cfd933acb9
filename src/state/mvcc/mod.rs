//! Multi-version concurrency control: reads of the key space at any revision, conditions of transactions, hashes and changes.
//!
//! A [`KeyView`] is the key space after one applied batch. This folder only reads; the rest of `state` writes. Mirrors etcd's
//! server/storage/mvcc and the reading half of server/etcdserver/txn.

pub mod changes;
pub mod counts;
pub mod entries;
pub mod hash;
#[cfg(test)]
mod hash_tests;
pub mod past;
pub mod range;
#[cfg(test)]
mod range_tests;
pub mod records;
pub mod reply;
pub mod txn;
pub mod view;

pub use view::KeyView;

use crate::storage::state::error::StateError;

/// Why a read has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MvccError {
    #[error("the revision asked for has been compacted; read a newer one")]
    Compacted,
    #[error("the revision asked for has not happened yet; read an older one or wait")]
    FutureRevision,
    #[error("the sort order or sort target of a range is unknown; use one of the API's values")]
    InvalidSortOption,
    #[error(transparent)]
    State(#[from] StateError),
}
