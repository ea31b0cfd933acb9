//! The record of a rehearsal, from which coverage, history files and the timeline are made.

use crate::history::History;
use std::collections::BTreeMap;
use std::time::Duration;

/// A recorded line of the trace.
#[derive(Clone, Debug)]
pub struct Happening {
    pub at: Duration,
    /// `--` for the rehearsal as a whole.
    pub who: String,
    /// Begins with `!` for a fault.
    pub event: String,
    pub term: u64,
    pub note: String,
}

#[derive(Clone, Debug, Default)]
pub struct Record {
    pub history: History,
    pub happenings: Vec<Happening>,
    /// Log records of the code by message, with their counts.
    pub messages: BTreeMap<String, u64>,
}
