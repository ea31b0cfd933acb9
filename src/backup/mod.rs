//! Backups: a member's state as the one file that etcd's tools know, with what etcd keeps where.
//!
//! `bolt` knows the form of the file and nothing of what is in it; `buckets` knows what etcd puts where; `file` brings the
//! two together and is read piece by piece. Nothing here changes the state, or writes files: whoever asked for it does.

pub mod bolt;
pub mod buckets;
pub mod file;
#[cfg(test)]
mod file_tests;
#[cfg(any(test, madsim))]
pub mod reader;

pub use file::BackupFile;
