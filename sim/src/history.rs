//! The clients' calls and their outcomes. Besides the store's past, this is all that the checkers know about a rehearsal.
//!
//! Every value that is written is the number of the operation that writes it, so a value shows its origin. Moments are numbers of
//! one counter that increases with every call and every return. The simulation runs on one thread, so they order all events
//! without ties.

use std::time::Duration;

/// A key: `k0`, `k1` ...
pub type Key = u32;
/// A value: the number of the operation that wrote it.
pub type Value = u64;
/// A key and its value, or None if it does not exist.
pub type Held = (Key, Option<Value>);

/// The name of the key on the server.
pub fn key_name(key: Key) -> String {
    format!("k{key}")
}

/// The request of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The newest value of a key; any member's own if serializable.
    Get {
        key: Key,
        serializable: bool,
    },
    /// All keys as of a past revision.
    PastRange {
        revision: i64,
    },
    Put {
        key: Key,
    },
    DeleteRange {
        key: Key,
    },
    /// Writes all of these keys if each holds its expected value, else reads them. Keys are in order.
    Swap {
        expected: Vec<Held>,
    },
    /// Compacts the revisions before one.
    Compact {
        revision: i64,
    },
}

impl Input {
    pub fn keys(&self) -> Vec<Key> {
        match self {
            Self::Get { key, .. } | Self::Put { key } | Self::DeleteRange { key } => vec![*key],
            Self::Swap { expected } => expected.iter().map(|(key, _)| *key).collect(),
            Self::PastRange { .. } | Self::Compact { .. } => Vec::new(),
        }
    }

    /// Whether it is linearizable, and so sees the present.
    pub fn is_linearizable(&self) -> bool {
        !matches!(
            self,
            Self::PastRange { .. }
                | Self::Get {
                    serializable: true,
                    ..
                }
        )
    }
}

/// The reply to a client. `revision` is the one in the header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Got {
        revision: i64,
        value: Option<Value>,
    },
    Range {
        revision: i64,
        values: Vec<(Key, Value)>,
    },
    Written {
        revision: i64,
    },
    Deleted {
        revision: i64,
        existed: bool,
    },
    /// `found` is what the keys held instead if nothing was swapped.
    Swapped {
        revision: i64,
        swapped: bool,
        found: Vec<Held>,
    },
    Compacted {
        revision: i64,
    },
}

impl Answer {
    pub fn revision(&self) -> i64 {
        match self {
            Self::Got { revision, .. }
            | Self::Range { revision, .. }
            | Self::Written { revision }
            | Self::Deleted { revision, .. }
            | Self::Swapped { revision, .. }
            | Self::Compacted { revision } => *revision,
        }
    }

    /// Whether it reports a change of a key.
    pub fn changed(&self) -> bool {
        matches!(
            self,
            Self::Written { .. } | Self::Deleted { existed: true, .. } | Self::Swapped { swapped: true, .. }
        )
    }
}

/// How an operation ended for its client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Answered(Answer),
    /// It certainly changed nothing.
    Refused(String),
    /// It may have changed something, then or later.
    Unknown(String),
}

/// One operation of one client.
#[derive(Clone, Debug)]
pub struct Operation {
    pub id: u64,
    pub client: usize,
    pub input: Input,
    pub called: u64,
    /// Simulated time of the call.
    pub called_at: Duration,
    /// None while it is under way.
    pub returned: Option<(u64, Outcome)>,
    /// Simulated time of the return.
    pub returned_at: Option<Duration>,
}

impl Operation {
    pub fn answer(&self) -> Option<&Answer> {
        match &self.returned {
            Some((_, Outcome::Answered(answer))) => Some(answer),
            _ => None,
        }
    }

    /// Whether it may have been executed without its client knowing.
    pub fn is_open(&self) -> bool {
        matches!(&self.returned, None | Some((_, Outcome::Unknown(_))))
    }
}

/// All operations of a rehearsal, in the order of their calls; an operation's number is its place plus one.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub operations: Vec<Operation>,
    moment: u64,
}

impl History {
    /// Records a client's call at a simulated time and returns the operation's number.
    pub fn call(&mut self, client: usize, now: Duration, input: Input) -> u64 {
        let id = self.operations.len() as u64 + 1;
        self.moment += 1;
        self.operations.push(Operation {
            id,
            client,
            input,
            called: self.moment,
            called_at: now,
            returned: None,
            returned_at: None,
        });
        id
    }

    /// Records the outcome of an operation.
    pub fn returned(&mut self, id: u64, now: Duration, outcome: Outcome) {
        self.moment += 1;
        let moment = self.moment;
        let operation = &mut self.operations[id as usize - 1];
        assert!(operation.returned.is_none(), "an operation ends once");
        operation.returned = Some((moment, outcome));
        operation.returned_at = Some(now);
    }

    pub fn get(&self, id: u64) -> Option<&Operation> {
        self.operations.get(usize::try_from(id).ok()?.checked_sub(1)?)
    }
}
