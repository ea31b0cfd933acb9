//! Are the members' states still the same? Mirrors etcd's server/etcdserver/corrupt.go, and looks more often.
//!
//! | check | what is compared | by whom | when |
//! |---|---|---|---|
//! | digests | the sum of all changes that the log has made, at one log entry | the leader | every second |
//! | hashes | HashKV at one revision: what is really stored | the leader | `--corrupt-check-time` |
//! | hashes of compactions | the same at the compact revision | the leader | `--compact-hash-check-time`, if asked for |
//! | at start | HashKV against the members that answer | a member that starts | `InitialCorruptCheck` |
//! | scrub | files against the checksums with which they were written | every member, of its own | all the time, slowly |
//!
//! What differs from the majority is at fault, and the CORRUPT alarm is raised for it; where there is no majority, for
//! member 0, which means the cluster, as etcd does. A member whose first comparison fails does not start.
//!
//! Everything that reads much runs on a thread of its own that yields to all others. Questions to other members have a
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
