//! Linearizability: whether one order of the operations, each taking effect at one moment between its call and its return,
//! explains every reply.
//!
//! Wing and Gong's search (1993) with Lowe's memory of configurations (2017). Keys that share no transaction are separate
//! objects, and a history is linearizable if and only if it is for every object (Herlihy and Wing 1990, locality), so each group
//! of keys is searched separately. A configuration is the set of operations that have taken effect and the values after them; a
//! configuration that has failed is not tried again. An operation with an unknown outcome may take effect at any moment after its
//! call, or never.

use super::search::Search;
use super::{Violation, violation};
use crate::history::{Answer, Held, History, Input, Key, Operation, Outcome, Value};
use crate::model::Past;
use std::collections::{BTreeMap, BTreeSet};

/// The values of a group of keys, by the place of the key in the group.
pub(super) type State = Box<[Option<Value>]>;

/// The effect of an operation on keys, and its reply. Keys are places in the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    Read(Held),
    Put(Key, Value),
    /// Whether there was something to delete, if the client knows.
    Delete {
        key: Key,
        existed: Option<bool>,
    },
    /// Whether `new` replaced all expected values, and the values found if not; None if the client does not know.
    Swap {
        expected: Vec<Held>,
        new: Value,
        told: Option<Result<(), Vec<Held>>>,
    },
}

impl Act {
    /// The state after it, or None if it cannot take effect on `state` with its reply.
    pub(super) fn apply(&self, state: &State) -> Option<State> {
        let is = |(key, value): &Held| state[*key as usize] == *value;
        let with = |changes: &[Held]| {
            let mut after = state.clone();
            for (key, value) in changes {
                after[*key as usize] = *value;
            }
            Some(after)
        };
        match self {
            Self::Read(found) => is(found).then(|| state.clone()),
            Self::Put(key, value) => with(&[(*key, Some(*value))]),
            Self::Delete { key, existed } => {
                let exists = state[*key as usize].is_some();
                existed.is_none_or(|existed| existed == exists).then_some(())?;
                with(&[(*key, None)])
            }
            Self::Swap { expected, new, told } => {
                let swaps = expected.iter().all(is);
                match told {
                    Some(Ok(())) if !swaps => return None,
                    Some(Err(found)) if swaps || !found.iter().all(is) => return None,
                    _ => {}
                }
                let written: Vec<Held> = expected.iter().map(|(key, _)| (*key, Some(*new))).collect();
                with(if swaps { &written } else { &[] })
            }
        }
    }

    fn keys(&self) -> Vec<Key> {
        match self {
            Self::Read((key, _)) | Self::Put(key, _) | Self::Delete { key, .. } => vec![*key],
            Self::Swap { expected, .. } => expected.iter().map(|(key, _)| *key).collect(),
        }
    }

    /// The same, on other keys.
    fn rename(&mut self, names: &BTreeMap<Key, Key>) {
        match self {
            Self::Read((key, _)) | Self::Put(key, _) | Self::Delete { key, .. } => *key = names[key],
            Self::Swap { expected, told, .. } => {
                let found = told.iter_mut().filter_map(|told| told.as_mut().err()).flatten();
                expected
                    .iter_mut()
                    .chain(found)
                    .for_each(|(key, _)| *key = names[key]);
            }
        }
    }
}

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub id: u64,
    pub called: u64,
    /// None if it may take effect at any time after its call, or never.
    pub returned: Option<u64>,
    /// The order of trying: the lowest first. It affects only how long the search takes.
    pub hint: u64,
    pub act: Act,
}

/// The limit of configurations in the search of a group. Beyond it, the group is searched key by key: of a transaction only its
/// effect on that key is checked, and its atomicity is left to `revisions`.
const TRIED_MAX: usize = 100_000;
/// The limit of configurations in the search of one key. Beyond it, the key is left to `revisions`, and the report says so.
const TRIED_OF_KEY_MAX: usize = 1_000_000;

/// How a history was searched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Searched {
    /// Groups of keys that were searched as a whole.
    pub whole: u64,
    /// Groups that were too large for that.
    pub by_key: u64,
    /// Keys that were too large even so.
    pub given_up: u64,
}

/// Why a search found no order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stuck {
    /// No order explains the reply of this operation.
    At(u64),
    /// There are too many configurations.
    TooLarge,
}

/// Checks a whole history. If the store's past is given, it supplies the outcomes of writes that clients do not know: there are
/// many of them, and each doubles the search.
pub fn check(history: &History, past: Option<&Past>) -> Result<Searched, Violation> {
    let mut steps: Vec<Step> = history.operations.iter().filter_map(step).collect();
    if let Some(past) = past {
        look_up(&mut steps, past);
    }
    settle(&mut steps);
    let mut searched = Searched::default();
    for (keys, steps) in groups(steps) {
        let limit = if keys.len() > 1 {
            TRIED_MAX
        } else {
            TRIED_OF_KEY_MAX
        };
        match check_group(&steps, keys.len(), limit) {
            Ok(()) => searched.whole += 1,
            Err(Stuck::At(id)) => return stuck(&keys, id),
            Err(Stuck::TooLarge) if keys.len() == 1 => searched.given_up += 1,
            Err(Stuck::TooLarge) => {
                searched.by_key += 1;
                for (place, key) in keys.iter().enumerate() {
                    let of_key: Vec<Step> = steps
                        .iter()
                        .filter_map(|step| step.on_key(place as Key))
                        .collect();
                    match check_group(&of_key, 1, TRIED_OF_KEY_MAX) {
                        Ok(()) => {}
                        Err(Stuck::At(id)) => return stuck(&[*key], id),
                        Err(Stuck::TooLarge) => searched.given_up += 1,
                    }
                }
            }
        }
    }
    Ok(searched)
}

fn stuck(keys: &[Key], id: u64) -> Result<Searched, Violation> {
    let names: Vec<_> = keys.iter().map(|key| crate::history::key_name(*key)).collect();
    violation(format!(
        "{} is not linearizable: nothing explains the answer of operation {id}",
        names.join(",")
    ))
}

impl Step {
    /// Its effect on one key, as a step on that key alone.
    fn on_key(&self, key: Key) -> Option<Self> {
        let of = |held: &[Held]| {
            held.iter()
                .find(|(of, _)| *of == key)
                .map(|(_, value)| (0, *value))
        };
        let act = match &self.act {
            Act::Read((of, value)) => (*of == key).then_some(Act::Read((0, *value))),
            Act::Put(of, value) => (*of == key).then_some(Act::Put(0, *value)),
            Act::Delete { key: of, existed } => (*of == key).then_some(Act::Delete {
                key: 0,
                existed: *existed,
            }),
            Act::Swap { expected, new, told } => of(expected).and_then(|expected| match told {
                // It failed on an unknown key: for this one only the value found is known.
                Some(Err(found)) => of(found).map(Act::Read),
                told => Some(Act::Swap {
                    expected: vec![expected],
                    new: *new,
                    told: told.as_ref().map(|_| Ok(())),
                }),
            }),
        }?;
        Some(Self { act, ..self.clone() })
    }
}

/// The step for an operation. Serializable reads promise nothing, and refused operations did nothing.
fn step(operation: &Operation) -> Option<Step> {
    let (returned, answer) = match &operation.returned {
        Some((moment, Outcome::Answered(answer))) => (Some(*moment), Some(answer)),
        Some((_, Outcome::Refused(_))) => return None,
        Some((_, Outcome::Unknown(_))) | None => (None, None),
    };
    let act = match (&operation.input, answer) {
        (
            Input::Get {
                key,
                serializable: false,
            },
            Some(Answer::Got { value, .. }),
        ) => Act::Read((*key, *value)),
        (Input::Put { key }, _) => Act::Put(*key, operation.id),
        (Input::DeleteRange { key }, answer) => Act::Delete {
            key: *key,
            existed: answer.map(Answer::changed),
        },
        (Input::Swap { expected }, answer) => Act::Swap {
            expected: expected.clone(),
            new: operation.id,
            told: match answer {
                Some(Answer::Swapped { swapped: true, .. }) => Some(Ok(())),
                Some(Answer::Swapped { found, .. }) => Some(Err(found.clone())),
                _ => None,
            },
        },
        _ => return None,
    };
    Some(Step {
        hint: answer.map_or(u64::MAX, |answer| {
            2 * answer.revision() as u64 + u64::from(!answer.changed())
        }),
        id: operation.id,
        called: operation.called,
        returned,
        act,
    })
}

/// Takes from the past whether open writes have taken effect, and which did so first.
fn look_up(steps: &mut Vec<Step>, past: &Past) {
    let known = (2..=past.revision()).all(|revision| past.changes(revision).is_some());
    let mut written: BTreeMap<Value, i64> = BTreeMap::new();
    for (revision, changes) in past.iter() {
        written.extend(
            changes
                .iter()
                .filter_map(|(_, value)| Some(((*value)?, revision))),
        );
    }
    steps.retain_mut(|step| {
        let (value, told) = match &mut step.act {
            Act::Put(_, value) => (*value, None),
            Act::Swap { new, told, .. } => (*new, Some(told)),
            Act::Read(_) | Act::Delete { .. } => return true,
        };
        if step.returned.is_some() {
            return true;
        }
        let Some(revision) = written.get(&value) else {
            return !known;
        };
        // It has taken effect by the end.
        step.returned = Some(u64::MAX);
        step.hint = 2 * *revision as u64;
        if let Some(told) = told {
            *told = Some(Ok(()));
        }
        true
    });
}

/// Settles open writes by the replies. A write whose value was found has taken effect before that reply. A write that no reply
/// can reveal is left out: its value was not found or expected, and no delete of its key reported an existing value. If an order
/// with it explains all replies, so does the same order without it.
fn settle(steps: &mut Vec<Step>) {
    let mut found: BTreeMap<Value, (u64, u64)> = BTreeMap::new();
    let mut expected_by_open: BTreeSet<Value> = BTreeSet::new();
    let mut deleted: BTreeSet<Key> = BTreeSet::new();
    for step in &*steps {
        let seen: &[Held] = match &step.act {
            Act::Read(held) => std::slice::from_ref(held),
            Act::Swap { expected, told, .. } => match told {
                Some(Ok(())) => expected,
                Some(Err(found)) => found,
                None => {
                    expected_by_open.extend(expected.iter().filter_map(|(_, value)| *value));
                    &[]
                }
            },
            Act::Delete { key, existed } => {
                deleted.extend(existed.unwrap_or(false).then_some(*key));
                &[]
            }
            Act::Put(..) => &[],
        };
        for value in seen.iter().filter_map(|(_, value)| *value) {
            let seen = (step.returned.unwrap_or(u64::MAX), step.hint.saturating_sub(1));
            let first = found.entry(value).or_insert(seen);
            *first = (first.0.min(seen.0), first.1.min(seen.1));
        }
    }
    steps.retain_mut(|step| {
        let value = match &step.act {
            Act::Put(_, value) => *value,
            Act::Swap { new, .. } => *new,
            Act::Read(_) | Act::Delete { .. } => return true,
        };
        if step.returned.is_some_and(|returned| returned < u64::MAX) {
            return true;
        }
        if let Some((until, hint)) = found.get(&value) {
            step.hint = step.hint.min(*hint);
            // A value that was found before its write was called fits nowhere; it stays open, so that the search reports it.
            step.returned = (*until > step.called).then_some(*until);
            if let Act::Swap { told, .. } = &mut step.act {
                *told = Some(Ok(()));
            }
            return true;
        }
        step.returned.is_some()
            || expected_by_open.contains(&value)
            || step.act.keys().iter().any(|key| deleted.contains(key))
    });
}

/// Divides the steps by keys that never occur in one operation, and numbers the keys of each group from 0.
fn groups(steps: Vec<Step>) -> Vec<(Vec<Key>, Vec<Step>)> {
    let mut group_of: BTreeMap<Key, Key> = BTreeMap::new();
    for step in &steps {
        let keys = step.act.keys();
        let joined: BTreeSet<Key> = keys.iter().filter_map(|key| group_of.get(key).copied()).collect();
        let group = joined.first().copied().unwrap_or(keys[0]);
        group_of.extend(keys.iter().map(|key| (*key, group)));
        for of in group_of.values_mut().filter(|of| joined.contains(of)) {
            *of = group;
        }
    }
    let mut groups: BTreeMap<Key, (Vec<Key>, Vec<Step>)> = BTreeMap::new();
    let mut places: BTreeMap<Key, Key> = BTreeMap::new();
    for (key, group) in &group_of {
        let (keys, _) = groups.entry(*group).or_default();
        places.insert(*key, keys.len() as Key);
        keys.push(*key);
    }
    for mut step in steps {
        let group = group_of[&step.act.keys()[0]];
        step.act.rename(&places);
        groups
            .get_mut(&group)
            .expect("every key has a group")
            .1
            .push(step);
    }
    groups.into_values().collect()
}

/// Checks a group of this many keys, which are empty at first, in at most this many configurations. An error names the operation
/// at whose return the search failed after it had explained the most.
pub fn check_group(steps: &[Step], keys: usize, tried_max: usize) -> Result<(), Stuck> {
    Search::new(steps, keys).run(tried_max)
}

#[cfg(test)]
#[path = "linearizable_tests.rs"]
mod tests;
