//! fjall behind small types: keyspaces, encodings, batches, recovery.
//!
//! `state*` is the state database: everything a member has applied. It is not synced with every batch; after a crash
//! it is a prefix, and the log replays the rest.

pub mod checkpoint_work;
pub mod contacts;
pub mod descent;
pub mod directory;
pub mod journal;
mod journal_batch;
mod journal_damage;
mod journal_torn;
mod journal_writer;
pub mod log;
mod log_error;
pub mod manifest;
pub mod open_snapshots;
pub mod scrub;
pub mod state;
pub mod state_alarms;
pub mod state_error;
pub mod state_filter;
pub mod state_garbage;
pub mod state_history;
pub mod state_keys;
pub mod state_leases;
pub mod state_meta;
pub mod state_packed;
pub mod state_record;
pub mod state_replaced;
pub mod state_snapshot;
pub mod state_usage;
pub mod tables;
