//! Checks history files with our own checker and with Porcupine: they must agree.

use super::*;
use crate::checkers::linearizable;
use crate::history::Key;
use crate::model::State;
use crate::random::RandomStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

/// Builds Porcupine, once.
fn porcupine() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let program = std::env::temp_dir().join(format!("callboard-porcupine-{}", std::process::id()));
        let built = Command::new("go")
            .args(["build", "-o"])
            .arg(&program)
            .arg(".")
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/porcupine"))
            .output()
            .expect("Go is installed: tests/setup does that");
        assert!(
            built.status.success(),
            "{}",
            String::from_utf8_lossy(&built.stderr)
        );
        program
    })
}

/// Porcupine's verdict.
fn is_linearizable(history: &History, name: &str) -> bool {
    let path = std::env::temp_dir().join(format!("callboard-history-{}-{name}", std::process::id()));
    write(history, &path).expect("a scratch file can be written");
    let output = Command::new(porcupine()).arg(&path).output().expect("it runs");
    std::fs::remove_file(&path).expect("it is ours");
    let text = String::from_utf8_lossy(&output.stdout);
    match text.trim() {
        "linearizable" => true,
        "not linearizable" => false,
        other => panic!("{name}: {other} {}", String::from_utf8_lossy(&output.stderr)),
    }
}

/// The history of a correct store with several clients: each operation takes effect between its call and its return, and some of
/// the outcomes are lost.
fn good(seed: u64) -> History {
    let mut random = RandomStream::of(seed, "history file");
    let mut history = History::default();
    let mut state = State::new();
    let mut revision = 1;
    let mut under_way: Vec<(u64, Option<Outcome>)> = Vec::new();
    for _ in 0..400 {
        let place = random.below(4) as usize;
        if place >= under_way.len() {
            let input = sample(&mut random, &state);
            let id = history.call(place, Duration::ZERO, input);
            under_way.push((id, None));
        } else if under_way[place].1.is_none() {
            let (id, outcome) = &mut under_way[place];
            let input = history.get(*id).expect("it was called").input.clone();
            *outcome = Some(carry_out(&input, *id, &mut state, &mut revision, &mut random));
        } else {
            let (id, outcome) = under_way.swap_remove(place);
            history.returned(id, Duration::ZERO, outcome.expect("it was carried out"));
        }
    }
    history
}

fn sample(random: &mut RandomStream, state: &State) -> Input {
    let key = random.below(3) as Key;
    match random.below(4) {
        0 => Input::Get {
            key,
            serializable: false,
        },
        1 => Input::Put { key },
        2 if random.chance(40) => Input::DeleteRange { key },
        _ => Input::Swap {
            expected: (key..3).map(|key| (key, state.get(&key).copied())).collect(),
        },
    }
}

fn carry_out(
    input: &Input,
    id: u64,
    state: &mut State,
    revision: &mut i64,
    random: &mut RandomStream,
) -> Outcome {
    let lost = random.chance(4);
    if lost && random.chance(50) {
        return Outcome::Unknown("it never arrived".into());
    }
    *revision += 1;
    let revision = *revision;
    let answer = match input {
        Input::Put { key } => {
            state.insert(*key, id);
            Answer::Written { revision }
        }
        Input::DeleteRange { key } => Answer::Deleted {
            revision,
            existed: state.remove(key).is_some(),
        },
        Input::Swap { expected } => {
            let found: Vec<Held> = expected
                .iter()
                .map(|(key, _)| (*key, state.get(key).copied()))
                .collect();
            let swapped = found == *expected;
            if swapped {
                state.extend(expected.iter().map(|(key, _)| (*key, id)));
            }
            Answer::Swapped {
                revision,
                swapped,
                found: if swapped { Vec::new() } else { found },
            }
        }
        Input::Get { key, .. } => Answer::Got {
            revision,
            value: state.get(key).copied(),
        },
        Input::PastRange { .. } | Input::Compact { .. } => unreachable!("it was not drawn"),
    };
    if lost {
        return Outcome::Unknown("the answer was lost".into());
    }
    Outcome::Answered(answer)
}

#[test]
fn a_second_checker_finds_good_histories_good() {
    for seed in 0..20 {
        let history = good(seed);
        assert!(linearizable::check(&history, None).is_ok(), "seed {seed}");
        assert!(is_linearizable(&history, &format!("good-{seed}")), "seed {seed}");
    }
}

#[test]
fn a_second_checker_finds_bad_histories_bad() {
    for seed in 0..20 {
        let mut history = good(seed);
        let read = history
            .operations
            .iter_mut()
            .rev()
            .find_map(|operation| match &mut operation.returned {
                Some((_, Outcome::Answered(Answer::Got { value, .. }))) => Some(value),
                _ => None,
            });
        // The value of the first operation, if it wrote one, which was overwritten long ago; or a value that was never written.
        let first = Some(if seed % 2 == 0 { 1 } else { 1_000_000 });
        let read = read.expect("there are reads");
        *read = if *read == first { Some(2) } else { first };
        let ours = linearizable::check(&history, None).is_ok();
        assert_eq!(
            ours,
            is_linearizable(&history, &format!("bad-{seed}")),
            "seed {seed}"
        );
        assert!(!ours, "seed {seed}");
    }
}

#[test]
fn a_swap_that_is_seen_by_half_is_bad_for_both() {
    let mut history = History::default();
    let expected = vec![(1, None), (2, None)];
    let swap = history.call(0, Duration::ZERO, Input::Swap { expected });
    for (key, value) in [(1, Some(swap)), (2, None)] {
        let get = Input::Get {
            key,
            serializable: false,
        };
        let id = history.call(1, Duration::ZERO, get);
        history.returned(
            id,
            Duration::ZERO,
            Outcome::Answered(Answer::Got { revision: 2, value }),
        );
    }
    assert!(linearizable::check(&history, None).is_err());
    assert!(!is_linearizable(&history, "half"));
}

#[test]
fn a_line_says_all_there_is_to_an_operation() {
    let mut history = History::default();
    let expected = vec![(1, Some(7)), (2, None)];
    let id = history.call(3, Duration::from_millis(1500), Input::Swap { expected });
    let answer = Answer::Swapped {
        revision: 9,
        swapped: false,
        found: vec![(1, None), (2, Some(4))],
    };
    history.returned(id, Duration::from_millis(1750), Outcome::Answered(answer));
    let expected = json!({
        "operation": 1, "process": 3, "call": "swap",
        "arguments": { "expected": { "k1": "7", "k2": null }, "value": "1" },
        "result": "answered",
        "answer": { "revision": 9, "swapped": false, "found": { "k1": null, "k2": "4" } },
        "called": 1, "returned": 2, "called_s": 1.5, "returned_s": 1.75,
    });
    assert_eq!(line(&history.operations[0]), expected);
}
