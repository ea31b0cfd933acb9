//! Automatic compaction: `--auto-compaction-mode` and `--auto-compaction-retention`.
//!
//! Mirrors etcd's server/etcdserver/api/v3compactor. Every member records revisions over time; only the leader compacts.

mod core;
mod running;

pub use core::Retention;
pub use running::{CompactorOptions, run};
