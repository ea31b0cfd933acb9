//! The properties that every rehearsal must have, each in its own file. Checkers know the clients' history, the store's past and
//! the members' log records, but nothing of how the cluster works.

pub mod compaction;
pub mod holders;
pub mod leaders;
pub mod leases;
pub mod linearizable;
pub mod logs;
pub mod membership;
pub mod proclaims;
pub mod requests;
pub mod revisions;
mod search;
pub mod space;
pub mod watch;

/// A violated property, in a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation(pub String);

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// The number of replies that a checker could judge, and of those that it could not, because their revisions were compacted
/// before the observer saw them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Judged {
    pub judged: u64,
    pub not_judged: u64,
}

impl Judged {
    pub fn add(&mut self, is_judged: bool) {
        self.judged += u64::from(is_judged);
        self.not_judged += u64::from(!is_judged);
    }
}

impl std::ops::AddAssign for Judged {
    fn add_assign(&mut self, other: Self) {
        self.judged += other.judged;
        self.not_judged += other.not_judged;
    }
}

/// Shorthand for a checker's `Err`.
pub fn violation<T>(what: impl Into<String>) -> Result<T, Violation> {
    Err(Violation(what.into()))
}
