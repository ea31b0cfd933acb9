//! Linearizability of single keys: whether one order of the operations, each taking effect at one moment between its
//! call and its return, explains every answer.
//!
//! Wing and Gong's search (1993) with Lowe's memory of configurations (2017), on each key by itself: a history is
//! linearizable if and only if it is for every object (Herlihy and Wing 1990, locality). A configuration is the set of
//! operations that have taken effect and the value after them; one that has led nowhere is not tried again. An
//! operation whose outcome nobody knows may take effect at any moment after its call, or never.

use super::{Violation, violation};
use crate::history::{Answer, History, Input, Key, Outcome, Value};
use std::collections::{BTreeMap, HashSet};

/// What an operation does to one key, and what it was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    Read(Option<Value>),
    Put(Value),
    /// Whether there was something to delete, if the client knows.
    Delete {
        existed: Option<bool>,
    },
    /// Whether `new` took the place of `expected`, and what was found if not; None if the client does not know.
    Swap {
        expected: Option<Value>,
        new: Value,
        told: Option<Result<(), Option<Value>>>,
    },
}

impl Act {
    /// The value after it, or None if it cannot take effect on `held` and be answered so.
    #[allow(clippy::option_option)] // the outer: can it happen; the inner: does the key exist
    fn apply(self, held: Option<Value>) -> Option<Option<Value>> {
        match self {
            Self::Read(found) => (held == found).then_some(held),
            Self::Put(value) => Some(Some(value)),
            Self::Delete { existed } => existed
                .is_none_or(|existed| existed == held.is_some())
                .then_some(None),
            Self::Swap { expected, new, told } => match told {
                Some(Ok(())) => (held == expected).then_some(Some(new)),
                Some(Err(found)) => (held != expected && held == found).then_some(held),
                None => Some(if held == expected { Some(new) } else { held }),
            },
        }
    }
}

/// One operation on one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    pub id: u64,
    pub called: u64,
    /// None if it may take effect at any time after its call, or never.
    pub returned: Option<u64>,
    pub act: Act,
}

/// Checks every key of a history.
pub fn check(history: &History) -> Result<(), Violation> {
    for (key, steps) in by_key(history) {
        if let Err(stuck) = check_key(&steps) {
            return violation(format!(
                "k{key} is not linearizable: nothing explains the answer of operation {stuck}"
            ));
        }
    }
    Ok(())
}

/// What each operation means for its key. Serializable reads promise nothing here, and what was refused did nothing.
fn by_key(history: &History) -> BTreeMap<Key, Vec<Step>> {
    let mut keys: BTreeMap<Key, Vec<Step>> = BTreeMap::new();
    for operation in &history.operations {
        let (returned, answer) = match &operation.returned {
            Some((moment, Outcome::Answered(answer))) => (Some(*moment), Some(answer)),
            Some((_, Outcome::Refused(_))) => continue,
            Some((_, Outcome::Unknown(_))) | None => (None, None),
        };
        let act = match (&operation.input, answer) {
            (
                Input::Get {
                    serializable: false, ..
                },
                Some(Answer::Got { value, .. }),
            ) => Act::Read(*value),
            (Input::Put { .. }, _) => Act::Put(operation.id),
            (Input::DeleteRange { .. }, answer) => Act::Delete {
                existed: answer.map(Answer::changed),
            },
            (Input::CompareAndSwap { expected, .. }, answer) => Act::Swap {
                expected: *expected,
                new: operation.id,
                told: match answer {
                    Some(Answer::Swapped { swapped: true, .. }) => Some(Ok(())),
                    Some(Answer::Swapped { found, .. }) => Some(Err(*found)),
                    _ => None,
                },
            },
            _ => continue,
        };
        if let Some(key) = operation.input.key() {
            keys.entry(key).or_default().push(Step {
                id: operation.id,
                called: operation.called,
                returned,
                act,
            });
        }
    }
    keys
}

/// Checks one key that holds nothing at first; an error names the operation at whose return the search got stuck after
/// explaining the most.
pub fn check_key(steps: &[Step]) -> Result<(), u64> {
    Search::new(steps).run()
}

/// Calls and returns in the order in which they happened, as a list from which operations are lifted out.
struct Search<'a> {
    steps: &'a [Step],
    /// (step, whether this is its call), by place in the list; the place 0 is the head.
    events: Vec<(usize, bool)>,
    next: Vec<usize>,
    previous: Vec<usize>,
    return_place: Vec<Option<usize>>,
    done: Bits,
    held: Option<Value>,
    /// Place of the call that took effect, and the value before it.
    taken: Vec<(usize, Option<Value>)>,
    tried: HashSet<(usize, Vec<u64>, Option<Value>)>,
    /// Operations that must still take effect.
    left: usize,
    fewest_left: (usize, u64),
}

const END: usize = usize::MAX;

impl<'a> Search<'a> {
    fn new(steps: &'a [Step]) -> Self {
        let mut moments: Vec<(u64, usize, bool)> = Vec::with_capacity(2 * steps.len());
        for (number, step) in steps.iter().enumerate() {
            moments.push((step.called, number, true));
            if let Some(returned) = step.returned {
                assert!(step.called < returned, "an operation returns after its call");
                moments.push((returned, number, false));
            }
        }
        moments.sort_unstable();
        let mut events = vec![(END, true)];
        let mut return_place = vec![None; steps.len()];
        for (_, number, is_call) in moments {
            if !is_call {
                return_place[number] = Some(events.len());
            }
            events.push((number, is_call));
        }
        let count = events.len();
        let left = steps.iter().filter(|step| step.returned.is_some()).count();
        Self {
            steps,
            next: (1..count).chain([END]).collect(),
            previous: [END].into_iter().chain(0..count - 1).collect(),
            events,
            return_place,
            done: Bits::new(steps.len()),
            held: None,
            taken: Vec::new(),
            tried: HashSet::new(),
            left,
            fewest_left: (usize::MAX, 0),
        }
    }

    fn run(mut self) -> Result<(), u64> {
        let mut place = self.next[0];
        while self.left > 0 {
            let event = (place != END).then(|| self.events[place]);
            match event {
                Some((number, true)) => {
                    place = if self.take(place, number) {
                        self.next[0]
                    } else {
                        self.next[place]
                    };
                }
                // A return, or the end: what is in front of it must take effect in another order.
                blocked => {
                    if let Some((number, _)) = blocked
                        && self.left < self.fewest_left.0
                    {
                        self.fewest_left = (self.left, self.steps[number].id);
                    }
                    let Some((call, held)) = self.taken.pop() else {
                        return Err(self.fewest_left.1);
                    };
                    self.put_back(call, held);
                    place = self.next[call];
                }
            }
        }
        Ok(())
    }

    /// Lets an operation take effect, unless it cannot or this has been tried.
    fn take(&mut self, place: usize, number: usize) -> bool {
        let Some(held) = self.steps[number].act.apply(self.held) else {
            return false;
        };
        self.done.set(number, true);
        let (start, words) = self.done.trimmed();
        if !self.tried.insert((start, words, held)) {
            self.done.set(number, false);
            return false;
        }
        self.taken.push((place, self.held));
        self.held = held;
        self.unlink(place);
        if let Some(place) = self.return_place[number] {
            self.unlink(place);
            self.left -= 1;
        }
        true
    }

    fn put_back(&mut self, place: usize, held: Option<Value>) {
        let (number, _) = self.events[place];
        if let Some(place) = self.return_place[number] {
            self.relink(place);
            self.left += 1;
        }
        self.relink(place);
        self.done.set(number, false);
        self.held = held;
    }

    fn unlink(&mut self, place: usize) {
        let (before, after) = (self.previous[place], self.next[place]);
        self.next[before] = after;
        if after != END {
            self.previous[after] = before;
        }
    }

    /// Undoes the newest [`Self::unlink`].
    fn relink(&mut self, place: usize) {
        let (before, after) = (self.previous[place], self.next[place]);
        self.next[before] = place;
        if after != END {
            self.previous[after] = place;
        }
    }
}

/// A set of operations.
struct Bits {
    words: Vec<u64>,
    /// All words before this one are full.
    full: usize,
}

impl Bits {
    fn new(count: usize) -> Self {
        Self {
            words: vec![0; count.div_ceil(64)],
            full: 0,
        }
    }

    fn set(&mut self, number: usize, on: bool) {
        let (word, bit) = (number / 64, 1 << (number % 64));
        if on {
            self.words[word] |= bit;
            while self.words.get(self.full) == Some(&u64::MAX) {
                self.full += 1;
            }
        } else {
            self.words[word] &= !bit;
            self.full = self.full.min(word);
        }
    }

    /// The set without the full words at its beginning and the empty ones at its end: that much is the same for all.
    fn trimmed(&self) -> (usize, Vec<u64>) {
        let end = self
            .words
            .iter()
            .rposition(|word| *word != 0)
            .map_or(0, |last| last + 1);
        (self.full, self.words[self.full..end.max(self.full)].to_vec())
    }
}

#[cfg(test)]
#[path = "linearizable_tests.rs"]
mod tests;
