//! How much may be stored: the quota on live bytes, and the disk that must not fill up.
//!
//! Mirrors etcd's server/storage/quota.go, with two differences. What counts is live bytes ([`crate::storage::state::usage`])
//! and not the size of a file. And an alarm that a member has raised automatically, it disarms automatically once there is room
//! again ([`watcher`]).

pub mod reserve;
mod watcher;
pub mod watching;

pub use watcher::{Rules, Space};
