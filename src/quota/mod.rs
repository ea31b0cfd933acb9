//! Limits on what may be stored: the quota on live bytes, and the free space of the disk.
//!
//! Mirrors etcd's server/storage/quota.go, with two differences. Live bytes count ([`crate::storage::state::usage`]), not the
//! size of a file. And a member automatically disarms an alarm that it has raised automatically, once there is space again
//! ([`watcher`]).

pub mod reserve;
mod watcher;
pub mod watching;

pub use watcher::{Rules, Space};
