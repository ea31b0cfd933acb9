//! What is left of a rehearsal for those who want to look closer: coverage, history files and the timeline are made of it.

use crate::history::History;
use std::collections::BTreeMap;
use std::time::Duration;

/// A line of the trace, kept.
#[derive(Clone, Debug)]
pub struct Happening {
    pub at: Duration,
    /// `--` for the rehearsal as a whole.
    pub who: String,
    /// `! ...` where trouble begins.
    pub event: String,
    pub term: u64,
    pub note: String,
}

/// What is left of a rehearsal for those who want to look closer.
#[derive(Clone, Debug, Default)]
pub struct Record {
    pub history: History,
    pub happenings: Vec<Happening>,
    /// Log records of the code by message, and how often each came.
    pub messages: BTreeMap<String, u64>,
}
