//! The store's past against the replies to clients. Every acknowledged write is in it once, at the revision of its reply. Every
//! change in it was requested. Every read, of the present or of the past, saw the state at its revision. Revisions never decrease
//! with time.

use super::{Judged, Violation, violation};
use crate::history::{Answer, Held, History, Input, Key, Operation, Outcome, Value};
use crate::model::{Known, Past, State};
use std::collections::{BTreeMap, BTreeSet};

/// The number of replies that could be judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Acknowledged changes.
    pub written: Judged,
    /// Replies that show a state.
    pub seen: Judged,
}

pub fn check(history: &History, past: &Past) -> Result<Checked, Violation> {
    let written = check_written(history, past)?;
    check_origin(history, past)?;
    let seen = check_seen(history, past)?;
    check_time(history)?;
    Ok(Checked { written, seen })
}

/// The changes of keys by an operation, if it changes them.
fn changes_of(operation: &Operation) -> Vec<Held> {
    let value = (!matches!(operation.input, Input::DeleteRange { .. })).then_some(operation.id);
    let keys = operation.input.keys();
    keys.into_iter().map(|key| (key, value)).collect()
}

/// Every acknowledged change is in the past, as a whole.
fn check_written(history: &History, past: &Past) -> Result<Judged, Violation> {
    let mut judged = Judged::default();
    for operation in &history.operations {
        let Some(answer) = operation.answer().filter(|answer| answer.changed()) else {
            continue;
        };
        let changes = past.changes(answer.revision());
        judged.add(changes.is_some());
        let Some(changes) = changes else {
            continue;
        };
        if changes != changes_of(operation) {
            return violation(format!(
                "acknowledged but lost: operation {} ({:?}) at revision {}, where the store has {changes:?}",
                operation.id,
                operation.input,
                answer.revision(),
            ));
        }
    }
    Ok(judged)
}

/// Every change in the past was requested, and made once.
fn check_origin(history: &History, past: &Past) -> Result<(), Violation> {
    let mut made: BTreeMap<Value, i64> = BTreeMap::new();
    let mut unexplained_deletes: BTreeMap<Key, u64> = BTreeMap::new();
    let acknowledged: BTreeSet<i64> = history
        .operations
        .iter()
        .filter_map(Operation::answer)
        .filter(|answer| answer.changed())
        .map(Answer::revision)
        .collect();
    for (revision, changes) in past.iter() {
        let values: BTreeSet<Value> = changes.iter().filter_map(|(_, value)| *value).collect();
        for value in values {
            if let Some(before) = made.insert(value, revision) {
                return violation(format!(
                    "applied twice: operation {value}, at revisions {before} and {revision}"
                ));
            }
            check_writer(history.get(value), changes, value, revision)?;
        }
        if let [(key, None)] = changes {
            *unexplained_deletes.entry(*key).or_default() += u64::from(!acknowledged.contains(&revision));
        }
    }
    for (key, count) in unexplained_deletes {
        let open = history
            .operations
            .iter()
            .filter(|operation| operation.input == Input::DeleteRange { key } && operation.is_open())
            .count() as u64;
        if count > open {
            return violation(format!(
                "k{key} was deleted {count} times where {open} could have been"
            ));
        }
    }
    Ok(())
}

fn check_writer(
    operation: Option<&Operation>,
    changes: &[Held],
    value: Value,
    revision: i64,
) -> Result<(), Violation> {
    let writer = operation.filter(|operation| {
        matches!(operation.input, Input::Put { .. } | Input::Swap { .. }) && changes_of(operation) == changes
    });
    let Some(operation) = writer else {
        return violation(format!(
            "revision {revision} is {changes:?}, which nobody wrote; {value} is the number of {:?}",
            operation.map(|operation| &operation.input)
        ));
    };
    match &operation.returned {
        Some((_, Outcome::Refused(reason))) => violation(format!(
            "revision {revision} has what operation {value} wrote, which was refused: {reason}"
        )),
        Some((_, Outcome::Answered(answer))) if !answer.changed() || answer.revision() != revision => {
            violation(format!(
                "revision {revision} has what operation {value} wrote, which was answered {answer:?}"
            ))
        }
        _ => Ok(()),
    }
}

/// Every reply shows the state at its revision, or the one before it if it reports a change.
fn check_seen(history: &History, past: &Past) -> Result<Judged, Violation> {
    let mut judged = Judged::default();
    let mut seen: Vec<(i64, &Operation, &Answer)> = Vec::new();
    for operation in &history.operations {
        if let Some(answer) = operation.answer() {
            let revision = match (&operation.input, answer) {
                (Input::PastRange { revision }, _) => *revision,
                _ => answer.revision() - i64::from(answer.changed()),
            };
            seen.push((revision, operation, answer));
        }
    }
    seen.sort_by_key(|(revision, operation, _)| (*revision, operation.id));
    let mut states = past.states();
    for (revision, operation, answer) in seen {
        let state = match states.at(revision) {
            Known::State(state) => state,
            Known::Hidden => {
                judged.add(false);
                continue;
            }
            Known::Future => {
                return violation(format!(
                    "operation {} was answered at revision {revision}, and the store ends at {}",
                    operation.id,
                    past.revision()
                ));
            }
        };
        if !fits(&operation.input, answer, state) {
            return violation(format!(
                "operation {} ({:?}) was answered {answer:?}, and the state at revision {revision} is {state:?}",
                operation.id, operation.input
            ));
        }
        judged.add(true);
    }
    Ok(judged)
}

/// Whether this reply fits this state.
fn fits(input: &Input, answer: &Answer, state: &State) -> bool {
    let is = |(key, value): &Held| state.get(key) == value.as_ref();
    match (input, answer) {
        (Input::Get { key, .. }, Answer::Got { value, .. }) => is(&(*key, *value)),
        (Input::PastRange { .. }, Answer::Range { values, .. }) => values
            .iter()
            .copied()
            .eq(state.iter().map(|(key, value)| (*key, *value))),
        (Input::Put { .. }, Answer::Written { .. }) | (Input::Compact { .. }, Answer::Compacted { .. }) => {
            true
        }
        (Input::DeleteRange { key }, Answer::Deleted { existed, .. }) => *existed == state.contains_key(key),
        (Input::Swap { expected }, Answer::Swapped { swapped, found, .. }) => {
            *swapped == expected.iter().all(is) && found.iter().all(is)
        }
        _ => false,
    }
}

/// A reply that was received before a call has no higher revision than that call's own reply. Reads of the past and serializable
/// reads are exempt.
fn check_time(history: &History) -> Result<(), Violation> {
    let mut returns: Vec<(u64, i64, u64)> = Vec::new();
    for operation in &history.operations {
        if let Some((moment, Outcome::Answered(answer))) = &operation.returned {
            returns.push((*moment, answer.revision(), operation.id));
        }
    }
    returns.sort_unstable();
    let mut returns = returns.into_iter().peekable();
    let mut newest = (0, 0);
    for operation in history
        .operations
        .iter()
        .filter(|operation| operation.input.is_linearizable())
    {
        while let Some((_, revision, id)) = returns.next_if(|(moment, ..)| *moment < operation.called) {
            newest = newest.max((revision, id));
        }
        if let Some(answer) = operation.answer()
            && answer.revision() < newest.0
        {
            return violation(format!(
                "operation {} was answered at revision {}, after operation {} had been at {}",
                operation.id,
                answer.revision(),
                newest.1,
                newest.0
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "revisions_tests.rs"]
mod tests;
