//! The search for an order in which the operations can have taken effect.

use super::linearizable::{State, Step, Stuck};
use std::collections::HashSet;
use xxhash_rust::xxh3::{Xxh3DefaultBuilder, xxh3_128};

/// Calls and returns in the order in which they happened, as a linked list from which operations are unlinked.
pub(super) struct Search<'a> {
    steps: &'a [Step],
    /// (step, whether this is its call), by place in the list; the place 0 is the head.
    events: Vec<(usize, bool)>,
    next: Vec<usize>,
    previous: Vec<usize>,
    return_place: Vec<Option<usize>>,
    done: Bits,
    held: State,
    /// The place of the call that took effect, and the state before it.
    taken: Vec<(usize, State)>,
    /// Configurations, by their fingerprints: of a million, two collide once in 10^26 searches.
    tried: HashSet<u128, Xxh3DefaultBuilder>,
    buffer: Vec<u8>,
    /// The number of operations that must still take effect.
    left: usize,
    fewest_left: (usize, u64),
}

const END: usize = usize::MAX;

impl<'a> Search<'a> {
    pub(super) fn new(steps: &'a [Step], keys: usize) -> Self {
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
            held: vec![None; keys].into(),
            taken: Vec::new(),
            tried: HashSet::default(),
            buffer: Vec::new(),
            left,
            fewest_left: (usize::MAX, 0),
        }
    }

    pub(super) fn run(mut self, tried_max: usize) -> Result<(), Stuck> {
        // The last candidate that failed: those after it are tried next.
        let mut after = None;
        while self.left > 0 {
            if self.tried.len() > tried_max {
                return Err(Stuck::TooLarge);
            }
            if let Some((hint, place)) = self.candidate(after) {
                let taken = self.take(place, self.events[place].0);
                after = (!taken).then_some((hint, place));
                continue;
            }
            // The operations that have taken effect must have done so in another order.
            let Some((place, held)) = self.taken.pop() else {
                return Err(Stuck::At(self.fewest_left.1));
            };
            self.put_back(place, held);
            after = Some((self.hint(place), place));
        }
        Ok(())
    }

    fn hint(&self, place: usize) -> u64 {
        self.steps[self.events[place].0].hint
    }

    /// The next operation that may take effect now: those called before the first return of an operation that has not taken
    /// effect.
    fn candidate(&mut self, after: Option<(u64, usize)>) -> Option<(u64, usize)> {
        let mut best = None;
        let mut place = self.next[0];
        while place != END {
            let (number, is_call) = self.events[place];
            if !is_call {
                if self.left < self.fewest_left.0 {
                    self.fewest_left = (self.left, self.steps[number].id);
                }
                break;
            }
            let this = Some((self.steps[number].hint, place));
            if this > after && (best.is_none() || this < best) {
                best = this;
            }
            place = self.next[place];
        }
        best
    }

    /// Lets an operation take effect, unless it cannot or this configuration was tried before.
    fn take(&mut self, place: usize, number: usize) -> bool {
        let Some(held) = self.steps[number].act.apply(&self.held) else {
            return false;
        };
        self.done.set(number, true);
        self.done.describe(&mut self.buffer);
        for value in &held {
            // No value is 0.
            self.buffer.extend(value.unwrap_or(0).to_le_bytes());
        }
        if !self.tried.insert(xxh3_128(&self.buffer)) {
            self.done.set(number, false);
            return false;
        }
        let before = std::mem::replace(&mut self.held, held);
        self.taken.push((place, before));
        self.unlink(place);
        if let Some(place) = self.return_place[number] {
            self.unlink(place);
            self.left -= 1;
        }
        true
    }

    fn put_back(&mut self, place: usize, held: State) {
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

    /// The set in bytes, without the full words at its beginning and the empty ones at its end.
    fn describe(&self, out: &mut Vec<u8>) {
        let last = self.words.iter().rposition(|word| *word != 0);
        let end = last.map_or(0, |last| last + 1).max(self.full);
        out.clear();
        for word in [self.full as u64, end as u64]
            .iter()
            .chain(&self.words[self.full..end])
        {
            out.extend(word.to_le_bytes());
        }
    }
}
