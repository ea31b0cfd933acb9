//! One good history, and variants that each violate one property.

use super::*;
use std::time::Duration;

fn call(history: &mut History, input: Input) -> u64 {
    history.call(0, Duration::ZERO, input)
}

fn answered(history: &mut History, input: Input, answer: Answer) -> u64 {
    let id = call(history, input);
    history.returned(id, Duration::ZERO, Outcome::Answered(answer));
    id
}

fn got(revision: i64, value: Option<Value>) -> Answer {
    Answer::Got { revision, value }
}

const GET: Input = Input::Get {
    key: 1,
    serializable: false,
};

/// A put, an open swap that was applied, a delete, reads of the present and the past.
fn good() -> (History, Past) {
    let mut history = History::default();
    answered(
        &mut history,
        Input::Put { key: 1 },
        Answer::Written { revision: 2 },
    );
    let swap = call(
        &mut history,
        Input::Swap {
            expected: vec![(1, Some(1)), (2, None)],
        },
    );
    history.returned(swap, Duration::ZERO, Outcome::Unknown("connection lost".into()));
    answered(&mut history, GET, got(3, Some(2)));
    let deleted = Answer::Deleted {
        revision: 4,
        existed: true,
    };
    answered(&mut history, Input::DeleteRange { key: 1 }, deleted);
    let range = Answer::Range {
        revision: 4,
        values: vec![(1, 1)],
    };
    answered(&mut history, Input::PastRange { revision: 2 }, range);
    let stale = Input::Get {
        key: 1,
        serializable: true,
    };
    answered(&mut history, stale, got(2, Some(1)));
    let refused = call(&mut history, Input::Put { key: 3 });
    history.returned(
        refused,
        Duration::ZERO,
        Outcome::Refused("too many requests".into()),
    );
    let mut past = Past::default();
    past.push(vec![(1, Some(1))]);
    past.push(vec![(1, Some(2)), (2, Some(2))]);
    past.push(vec![(1, None)]);
    (history, past)
}

#[test]
fn a_good_history_passes() {
    let (history, past) = good();
    assert!(check(&history, &past).is_ok());
}

#[test]
fn broken_promises_are_found() {
    type Break = fn(&mut History, &mut Past);
    let table: [(&str, Break); 11] = [
        ("acknowledged but lost", |history, _| {
            answered(history, Input::Put { key: 3 }, Answer::Written { revision: 5 });
        }),
        ("applied twice", |_, past| {
            past.push(vec![(1, Some(2)), (2, Some(2))]);
        }),
        ("which nobody wrote", |history, past| {
            let half = call(
                history,
                Input::Swap {
                    expected: vec![(1, None), (2, Some(2))],
                },
            );
            past.push(vec![(1, Some(half))]);
        }),
        ("was answered Swapped", |history, _| {
            let failed = Answer::Swapped {
                revision: 4,
                swapped: false,
                found: vec![(1, None), (2, None)],
            };
            let expected = vec![(1, None), (2, Some(1))];
            answered(history, Input::Swap { expected }, failed);
        }),
        ("which nobody wrote", |_, past| past.push(vec![(1, Some(99))])),
        ("which was refused", |_, past| past.push(vec![(3, Some(7))])),
        ("was deleted 1 times", |_, past| past.push(vec![(1, None)])),
        ("was answered Got", |history, _| {
            answered(history, GET, got(4, Some(2)));
        }),
        ("was answered Range", |history, _| {
            let range = Answer::Range {
                revision: 4,
                values: vec![],
            };
            answered(history, Input::PastRange { revision: 3 }, range);
        }),
        ("after operation", |history, _| {
            answered(history, GET, got(3, Some(2)));
        }),
        ("the store ends at", |history, _| {
            answered(history, GET, got(9, None));
        }),
    ];
    for (expected, spoil) in table {
        let (mut history, mut past) = good();
        spoil(&mut history, &mut past);
        let found = check(&history, &past).expect_err(expected).0;
        assert!(found.contains(expected), "{expected}: {found}");
    }
}
