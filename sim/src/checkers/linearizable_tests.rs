//! Known good and known bad histories.

use super::*;
use crate::random::Stream;

const SWAPPED: Option<Result<(), Option<Value>>> = Some(Ok(()));

/// Steps from (called, returned, act); 0 for an operation that never returned.
fn steps(table: &[(u64, u64, Act)]) -> Vec<Step> {
    let step = |(place, (called, returned, act)): (usize, &(u64, u64, Act))| Step {
        id: place as u64 + 1,
        called: *called,
        returned: (*returned > 0).then_some(*returned),
        act: *act,
    };
    table.iter().enumerate().map(step).collect()
}

/// Acts with their call and return times.
type Timed<'a> = &'a [(u64, u64, Act)];

fn swap(expected: Option<Value>, new: Value, told: Option<Result<(), Option<Value>>>) -> Act {
    Act::Swap { expected, new, told }
}

#[test]
fn good_histories_pass() {
    let table: [(&str, Timed<'_>); 8] = [
        ("nothing", &[]),
        (
            "one after the other",
            &[(1, 2, Act::Put(1)), (3, 4, Act::Read(Some(1)))],
        ),
        (
            "a read during a write may see either value",
            &[
                (1, 6, Act::Put(1)),
                (2, 3, Act::Read(None)),
                (4, 5, Act::Read(Some(1))),
            ],
        ),
        (
            "two writes at once, in the order that the reads tell",
            &[
                (1, 9, Act::Put(1)),
                (2, 8, Act::Put(2)),
                (10, 11, Act::Read(Some(1))),
            ],
        ),
        (
            "an open write is seen late",
            &[
                (1, 0, Act::Put(1)),
                (2, 3, Act::Read(None)),
                (4, 5, Act::Read(Some(1))),
            ],
        ),
        (
            "an open write is never seen",
            &[(1, 0, Act::Put(1)), (2, 3, Act::Read(None))],
        ),
        (
            "an open delete explains that there is nothing",
            &[
                (1, 2, Act::Put(1)),
                (3, 0, Act::Delete { existed: None }),
                (4, 5, Act::Read(None)),
            ],
        ),
        (
            "of two swaps at once one finds what the other wrote",
            &[
                (1, 4, swap(None, 1, SWAPPED)),
                (2, 3, swap(None, 2, Some(Err(Some(1))))),
                (5, 6, Act::Read(Some(1))),
            ],
        ),
    ];
    for (name, history) in table {
        assert_eq!(check_key(&steps(history)), Ok(()), "{name}");
    }
}

#[test]
fn bad_histories_fail() {
    let table: [(&str, u64, Timed<'_>); 8] = [
        ("a lost write", 2, &[(1, 2, Act::Put(1)), (3, 4, Act::Read(None))]),
        (
            "a stale read",
            3,
            &[
                (1, 2, Act::Put(1)),
                (3, 4, Act::Put(2)),
                (5, 6, Act::Read(Some(1))),
            ],
        ),
        (
            "time runs backwards between two reads",
            3,
            &[
                (1, 8, Act::Put(1)),
                (2, 3, Act::Read(Some(1))),
                (4, 5, Act::Read(None)),
            ],
        ),
        ("a value from nowhere", 1, &[(1, 2, Act::Read(Some(7)))]),
        (
            "a value from the future",
            1,
            &[(1, 2, Act::Read(Some(2))), (3, 4, Act::Put(2))],
        ),
        (
            "two swaps of the same value",
            2,
            &[(1, 2, swap(None, 1, SWAPPED)), (3, 4, swap(None, 2, SWAPPED))],
        ),
        (
            "a swap that failed although it had to succeed",
            2,
            &[(1, 2, Act::Put(1)), (3, 4, swap(Some(1), 2, Some(Err(Some(1)))))],
        ),
        (
            "a delete that found nothing",
            2,
            &[(1, 2, Act::Put(1)), (3, 4, Act::Delete { existed: Some(false) })],
        ),
    ];
    for (name, stuck, history) in table {
        assert_eq!(check_key(&steps(history)), Err(stuck), "{name}");
    }
}

/// A history that a correct register has produced: operations take effect in order at hidden moments, calls and returns
/// lie around them; some never return.
fn simulated(seed: u64, count: u64, clients: u64) -> Vec<Step> {
    let mut random = Stream::of(seed, "history");
    let mut held = None;
    let mut steps = Vec::new();
    let mut free_at = vec![0; clients as usize];
    for id in 1..=count {
        let effect = id * 1000;
        let client = random.below(clients) as usize;
        let called = (effect - 1)
            .saturating_sub(random.below(900 * clients))
            .max(free_at[client] + 1)
            .min(effect - 1);
        if free_at[client] >= effect - 1 {
            continue;
        }
        let returned = effect + 1 + random.below(900 * clients);
        free_at[client] = returned;
        let lost = random.chance(1);
        let act = match random.below(4) {
            0 => Act::Read(held),
            1 => {
                held = Some(id);
                Act::Put(id)
            }
            2 if random.chance(20) => {
                let existed = (!lost).then_some(held.is_some());
                held = None;
                Act::Delete { existed }
            }
            _ => {
                let expected = if random.chance(70) { held } else { Some(1) };
                let found = held;
                if held == expected {
                    held = Some(id);
                }
                let told = if found == expected { Ok(()) } else { Err(found) };
                swap(expected, id, (!lost).then_some(told))
            }
        };
        if lost && matches!(act, Act::Read(_)) {
            continue;
        }
        steps.push(Step {
            id,
            called: called * 2,
            returned: (!lost).then_some(returned * 2 + 1),
            act,
        });
    }
    steps
}

#[test]
fn what_a_correct_register_did_passes_and_a_lie_in_it_does_not() {
    for seed in 0..40 {
        let mut history = simulated(seed, 300, 4);
        assert_eq!(check_key(&history), Ok(()), "seed {seed}");
        let lie = history
            .iter()
            .rposition(|step| matches!(step.act, Act::Read(_)))
            .expect("there are reads");
        history[lie].act = Act::Read(Some(1_000_000));
        assert_eq!(check_key(&history), Err(history[lie].id), "seed {seed}");
    }
}

#[test]
fn ten_thousand_operations_take_no_time() {
    let history = simulated(7, 16_000, 8);
    assert!(history.len() >= 10_000, "{}", history.len());
    assert_eq!(check_key(&history), Ok(()));
}
