//! Histories that are known to be good or bad.

use super::*;
use crate::random::RandomStream;

const SWAPPED: Option<Result<(), Option<Value>>> = Some(Ok(()));

fn read(value: Option<Value>) -> Act {
    Act::Read((0, value))
}

fn put(value: Value) -> Act {
    Act::Put(0, value)
}

fn delete(existed: Option<bool>) -> Act {
    Act::Delete { key: 0, existed }
}

/// Steps from (called, returned, act); 0 for an operation that never returned.
fn steps(table: &[(u64, u64, Act)]) -> Vec<Step> {
    let step = |(place, (called, returned, act)): (usize, &(u64, u64, Act))| Step {
        id: place as u64 + 1,
        called: *called,
        returned: (*returned > 0).then_some(*returned),
        hint: 0,
        act: act.clone(),
    };
    table.iter().enumerate().map(step).collect()
}

/// Acts with their call and return times.
type Timed<'a> = &'a [(u64, u64, Act)];

fn swap(expected: Option<Value>, new: Value, told: Option<Result<(), Option<Value>>>) -> Act {
    Act::Swap {
        expected: vec![(0, expected)],
        new,
        told: told.map(|told| told.map_err(|found| vec![(0, found)])),
    }
}

#[test]
fn good_histories_pass() {
    let table: [(&str, Timed<'_>); 8] = [
        ("nothing", &[]),
        ("one after the other", &[(1, 2, put(1)), (3, 4, read(Some(1)))]),
        (
            "a read during a write may see either value",
            &[(1, 6, put(1)), (2, 3, read(None)), (4, 5, read(Some(1)))],
        ),
        (
            "two writes at once, in the order that the reads tell",
            &[(1, 9, put(1)), (2, 8, put(2)), (10, 11, read(Some(1)))],
        ),
        (
            "an open write is seen late",
            &[(1, 0, put(1)), (2, 3, read(None)), (4, 5, read(Some(1)))],
        ),
        (
            "an open write is never seen",
            &[(1, 0, put(1)), (2, 3, read(None))],
        ),
        (
            "an open delete explains that there is nothing",
            &[(1, 2, put(1)), (3, 0, delete(None)), (4, 5, read(None))],
        ),
        (
            "of two swaps at once one finds what the other wrote",
            &[
                (1, 4, swap(None, 1, SWAPPED)),
                (2, 3, swap(None, 2, Some(Err(Some(1))))),
                (5, 6, read(Some(1))),
            ],
        ),
    ];
    for (name, history) in table {
        assert_eq!(check_group(&steps(history), 1, usize::MAX), Ok(()), "{name}");
    }
}

#[test]
fn bad_histories_fail() {
    let table: [(&str, u64, Timed<'_>); 8] = [
        ("a lost write", 2, &[(1, 2, put(1)), (3, 4, read(None))]),
        (
            "a stale read",
            3,
            &[(1, 2, put(1)), (3, 4, put(2)), (5, 6, read(Some(1)))],
        ),
        (
            "time runs backwards between two reads",
            3,
            &[(1, 8, put(1)), (2, 3, read(Some(1))), (4, 5, read(None))],
        ),
        ("a value from nowhere", 1, &[(1, 2, read(Some(7)))]),
        (
            "a value from the future",
            1,
            &[(1, 2, read(Some(2))), (3, 4, put(2))],
        ),
        (
            "two swaps of the same value",
            2,
            &[(1, 2, swap(None, 1, SWAPPED)), (3, 4, swap(None, 2, SWAPPED))],
        ),
        (
            "a swap that failed although it had to succeed",
            2,
            &[(1, 2, put(1)), (3, 4, swap(Some(1), 2, Some(Err(Some(1)))))],
        ),
        (
            "a delete that found nothing",
            2,
            &[(1, 2, put(1)), (3, 4, delete(Some(false)))],
        ),
    ];
    for (name, stuck, history) in table {
        assert_eq!(
            check_group(&steps(history), 1, usize::MAX),
            Err(Stuck::At(stuck)),
            "{name}"
        );
    }
}

const KEYS: usize = 5;

/// A history of correct registers: operations take effect in order at hidden moments between their calls and returns; some never
/// return, and some of those never took effect.
fn simulated(seed: u64, count: u64, clients: u64) -> Vec<Step> {
    let mut random = RandomStream::of(seed, "history");
    let mut state: State = vec![None; KEYS].into();
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
        let key = random.below(KEYS as u64) as Key;
        let held = state[key as usize];
        let lost = random.chance(3);
        let act = match random.below(4) {
            0 => Act::Read((key, held)),
            1 => Act::Put(key, id),
            2 if random.chance(20) => Act::Delete {
                key,
                existed: (!lost).then_some(held.is_some()),
            },
            _ => {
                let mut expected: Vec<Held> = (key..KEYS as Key)
                    .take(random.between(1, 3) as usize)
                    .map(|key| (key, state[key as usize]))
                    .collect();
                let found = expected.clone();
                if random.chance(30) {
                    expected[0].1 = Some(1);
                }
                let told = if found == expected { Ok(()) } else { Err(found) };
                Act::Swap {
                    expected,
                    new: id,
                    told: (!lost).then_some(told),
                }
            }
        };
        if lost && matches!(act, Act::Read(_)) {
            continue;
        }
        if !lost || random.chance(50) {
            state = act.apply(&state).expect("it was made to fit");
        }
        steps.push(Step {
            id,
            called: called * 2,
            returned: (!lost).then_some(returned * 2 + 1),
            hint: 0,
            act,
        });
    }
    settle(&mut steps);
    steps
}

#[test]
fn what_correct_registers_did_passes_and_a_lie_in_it_does_not() {
    for seed in 0..40 {
        let mut history = simulated(seed, 300, 4);
        assert_eq!(check_group(&history, KEYS, usize::MAX), Ok(()), "seed {seed}");
        let lie = history
            .iter()
            .rposition(|step| matches!(step.act, Act::Read(_)))
            .expect("there are reads");
        history[lie].act = Act::Read((0, Some(1_000_000)));
        assert_eq!(
            check_group(&history, KEYS, usize::MAX),
            Err(Stuck::At(history[lie].id)),
            "seed {seed}"
        );
    }
}

#[test]
fn a_swap_over_two_keys_is_one_step() {
    let swap = |expected: [Option<Value>; 2], new, told| Act::Swap {
        expected: vec![(0, expected[0]), (1, expected[1])],
        new,
        told,
    };
    let seen = |first, second| {
        steps(&[
            (1, 8, swap([None, None], 1, Some(Ok(())))),
            (2, 3, Act::Read((0, first))),
            (4, 5, Act::Read((1, second))),
        ])
    };
    assert_eq!(check_group(&seen(Some(1), Some(1)), 2, usize::MAX), Ok(()));
    assert_eq!(check_group(&seen(None, Some(1)), 2, usize::MAX), Ok(()));
    assert_eq!(
        check_group(&seen(Some(1), None), 2, usize::MAX),
        Err(Stuck::At(3)),
        "half of it was seen"
    );
    let failed = swap([Some(1), None], 4, Some(Err(vec![(0, Some(1)), (1, Some(1))])));
    let mut history = seen(Some(1), Some(1));
    history.push(Step {
        id: 4,
        called: 9,
        returned: Some(10),
        hint: 0,
        act: failed,
    });
    assert_eq!(check_group(&history, 2, usize::MAX), Ok(()));
}

#[test]
fn keys_that_never_meet_are_searched_apart() {
    let swap = Act::Swap {
        expected: vec![(2, None), (7, None)],
        new: 3,
        told: Some(Ok(())),
    };
    let table = [
        (1, 2, Act::Put(7, 1)),
        (3, 4, Act::Put(5, 2)),
        (5, 6, swap),
        (7, 8, Act::Read((2, Some(3)))),
    ];
    let groups = groups(steps(&table));
    let found: Vec<_> = groups
        .iter()
        .map(|(keys, steps)| {
            (
                keys.as_slice(),
                steps.iter().map(|step| step.id).collect::<Vec<_>>(),
            )
        })
        .collect();
    assert_eq!(found, [(&[5][..], vec![2]), (&[2, 7][..], vec![1, 3, 4])]);
    assert_eq!(groups[1].1[2].act, Act::Read((0, Some(3))));
}

#[test]
fn hints_change_no_verdict() {
    let mut random = RandomStream::of(5, "hints");
    for seed in 0..20 {
        let mut history = simulated(seed, 200, 4);
        for step in &mut history {
            step.hint = random.below(1000);
        }
        assert_eq!(check_group(&history, KEYS, usize::MAX), Ok(()), "seed {seed}");
        let read = history.iter().rposition(|step| matches!(step.act, Act::Read(_)));
        history[read.expect("there are reads")].act = Act::Read((0, Some(1_000_000)));
        assert!(check_group(&history, KEYS, usize::MAX).is_err(), "seed {seed}");
    }
}

#[test]
fn ten_thousand_operations_take_no_time() {
    let mut history = simulated(7, 16_000, 8);
    assert!(history.len() >= 10_000, "{}", history.len());
    assert_eq!(check_group(&history, KEYS, usize::MAX), Ok(()), "without hints");
    for step in &mut history {
        step.hint = step.id;
    }
    assert_eq!(check_group(&history, KEYS, 20_000), Ok(()), "with the right ones");
}

#[test]
fn the_past_tells_what_became_of_open_writes() {
    let open = |act| Step {
        id: 1,
        called: 1,
        returned: None,
        hint: u64::MAX,
        act,
    };
    let swap = |told| Act::Swap {
        expected: vec![(1, None), (2, None)],
        new: 9,
        told,
    };
    let mut past = Past::default();
    past.push(vec![(1, Some(9)), (2, Some(9))]);
    let mut steps = vec![open(Act::Put(1, 7)), open(swap(None))];
    look_up(&mut steps, &past);
    let done = Step {
        returned: Some(u64::MAX),
        hint: 4,
        ..open(swap(Some(Ok(()))))
    };
    assert_eq!(steps, [done]);
    // If a part of the past is unknown, a write may be in it.
    past.leap(5, BTreeMap::new());
    let mut steps = vec![open(Act::Put(1, 7))];
    look_up(&mut steps, &past);
    assert_eq!(steps, [open(Act::Put(1, 7))]);
}
