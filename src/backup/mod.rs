//! Backups: a member's state as the one file that etcd's tools read, with etcd's buckets.
//!
//! `bolt` knows the file format but not the content; `buckets` knows the content of etcd's buckets; `file` combines both and is
//! read piece by piece. Nothing here changes the state or writes files: the caller does.

pub mod bolt;
pub mod buckets;
pub mod file;
#[cfg(test)]
mod file_tests;
#[cfg(any(test, madsim))]
pub mod reader;

pub use file::BackupFile;
