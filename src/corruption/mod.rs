//! Checks that all members hold the same state. Mirrors etcd's server/etcdserver/corrupt.go, and checks more often.
//!
//! | check | what is compared | by whom | when |
//! |---|---|---|---|
//! | digests | the sum of all changes that the log has made, at one log entry | the leader | every second |
//! | hashes | HashKV at one revision: what is really stored | the leader | `--corrupt-check-time` |
//! | hashes of compactions | the same at the compact revision | the leader | `--compact-hash-check-time`, if enabled |
//! | at start | HashKV against the members that answer | a member that starts | `InitialCorruptCheck` |
//! | scrub | files against the checksums with which they were written | every member, its own files | all the time, slowly |
//!
//! A member that differs from the majority is at fault, and the CORRUPT alarm is raised for it. Without a majority the alarm
//! is raised for member 0, which means the cluster, as in etcd. A member that fails the check at start does not start.
//!
//! Checks that read much run on a thread of their own, which has the lowest priority. Questions to other members have a
//! deadline, and a member that does not answer is not compared.

pub mod actor;
mod ask;
mod compare;
pub mod handle;
pub mod initial;
mod scrub;
mod verdict;

pub use actor::CheckOptions;
pub use handle::{HashHandle, KnownHash};
pub use scrub::ScrubOptions;
