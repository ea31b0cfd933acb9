//! What a log holds when it is opened.

use crate::ids::{LogIndex, Term};
use crate::proto::peer::HardState;

/// The last entry that was cut off; the log begins after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    pub index: LogIndex,
    pub term: Term,
}

/// The content of a log when it was opened.
#[derive(Debug)]
pub struct Recovered {
    pub cut: Cut,
    pub hard_state: HardState,
    /// The terms of all entries, in order and without gaps from `cut`: raft asks for them without the payload.
    pub terms: Vec<Term>,
}

impl Recovered {
    /// The last entry; the cut where there is none behind it.
    pub fn last(&self) -> LogIndex {
        LogIndex(self.cut.index.0 + self.terms.len() as u64)
    }
}
