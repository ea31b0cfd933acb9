//! The store's past against what clients were told: every acknowledged write is in it once, at the revision that was
//! answered; nothing is in it that nobody wrote; every read, of the present or of the past, saw the state at its
//! revision; and revisions never run against time.

use super::{Violation, violation};
use crate::history::{Answer, History, Input, Key, Operation, Outcome, Value};
use crate::model::Past;
use std::collections::{BTreeMap, BTreeSet};

/// Checks all of it.
pub fn check(history: &History, past: &Past) -> Result<(), Violation> {
    check_written(history, past)?;
    check_origin(history, past)?;
    check_seen(history, past)?;
    check_time(history)
}

/// Every acknowledged change is in the past.
fn check_written(history: &History, past: &Past) -> Result<(), Violation> {
    for operation in &history.operations {
        let (Some(answer), Some(key)) = (operation.answer(), operation.input.key()) else {
            continue;
        };
        if !answer.changed() {
            continue;
        }
        let value = (!matches!(operation.input, Input::DeleteRange { .. })).then_some(operation.id);
        if past.changes(answer.revision()) != [(key, value)] {
            return violation(format!(
                "acknowledged but lost: operation {} ({:?}) at revision {}, where the store has {:?}",
                operation.id,
                operation.input,
                answer.revision(),
                past.changes(answer.revision())
            ));
        }
    }
    Ok(())
}

/// Every change in the past was asked for, and made once.
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
        for (key, value) in changes {
            let Some(value) = value else {
                *unexplained_deletes.entry(*key).or_default() += u64::from(!acknowledged.contains(&revision));
                continue;
            };
            if let Some(before) = made.insert(*value, revision) {
                return violation(format!(
                    "applied twice: operation {value}, at revisions {before} and {revision}"
                ));
            }
            check_writer(history.get(*value), *key, *value, revision)?;
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
    key: Key,
    value: Value,
    revision: i64,
) -> Result<(), Violation> {
    let writer = operation.filter(|operation| {
        operation.input.key() == Some(key)
            && matches!(operation.input, Input::Put { .. } | Input::CompareAndSwap { .. })
    });
    let Some(operation) = writer else {
        return violation(format!(
            "revision {revision} has the value {value} in k{key}, which nobody wrote"
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

/// Every answer shows the state at its revision, or the one before it where it changed something.
fn check_seen(history: &History, past: &Past) -> Result<(), Violation> {
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
        let Some(state) = states.at(revision) else {
            return violation(format!(
                "operation {} was answered at revision {revision}, and the store ends at {}",
                operation.id,
                past.revision()
            ));
        };
        let held = operation.input.key().and_then(|key| state.get(&key).copied());
        let right = match (&operation.input, answer) {
            (_, Answer::Got { value, .. }) => *value == held,
            (_, Answer::Range { values, .. }) => {
                values.iter().copied().eq(state.iter().map(|(k, v)| (*k, *v)))
            }
            (_, Answer::Written { .. }) => true,
            (_, Answer::Deleted { existed, .. }) => *existed == held.is_some(),
            (Input::CompareAndSwap { expected, .. }, Answer::Swapped { swapped, found, .. }) => {
                *swapped == (*expected == held) && (*swapped || *found == held)
            }
            (_, Answer::Swapped { .. }) => false,
        };
        if !right {
            return violation(format!(
                "operation {} ({:?}) was answered {answer:?}, and the state at revision {revision} is {state:?}",
                operation.id, operation.input
            ));
        }
    }
    Ok(())
}

/// What was answered before a call has no higher revision than the call's own answer. Reads of the past and
/// serializable reads are not bound by it.
fn check_time(history: &History) -> Result<(), Violation> {
    let bound = |operation: &&Operation| {
        !matches!(
            operation.input,
            Input::PastRange { .. }
                | Input::Get {
                    serializable: true,
                    ..
                }
        )
    };
    let mut returns: Vec<(u64, i64, u64)> = Vec::new();
    for operation in &history.operations {
        if let Some((moment, Outcome::Answered(answer))) = &operation.returned {
            returns.push((*moment, answer.revision(), operation.id));
        }
    }
    returns.sort_unstable();
    let mut returns = returns.into_iter().peekable();
    let mut newest = (0, 0);
    for operation in history.operations.iter().filter(bound) {
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
