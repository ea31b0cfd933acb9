//! fjall behind small types: keyspaces, encodings, batches, recovery.
//!
//! `state` is the state database: everything that a member has applied. It is not synced after every batch. After a crash it is a
//! prefix, and the log replays the rest.

pub mod checkpoint_work;
pub mod contacts;
pub mod descent;
pub mod directory;
pub mod journal;
pub mod log;
pub mod manifest;
pub mod open_snapshots;
pub mod scrub;
pub mod state;
pub mod tables;
