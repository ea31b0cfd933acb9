//! The steps of the model test of the hub.

use super::interests::Wants;
use proptest::prelude::*;

#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Revisions, each with its changed keys (true: put), and how much of them the hub is told.
    Publish(Vec<Vec<(u8, bool)>>, Told),
    Create(usize, CreateStep),
    Cancel(usize, prop::sample::Index),
    /// A stream takes about this many bytes from its outbox.
    Take(usize, usize),
    Close(usize),
    /// Starts a read of the present state, or finishes the one that was started.
    StartRead,
    FinishRead,
    Compact(prop::sample::Index),
    Progress(usize),
}

/// What the hub is told of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Revision,
    Changes,
    /// Changes and what they have replaced.
    Previous,
}

#[derive(Clone, Debug)]
pub(super) struct CreateStep {
    pub(super) key: Vec<u8>,
    pub(super) end: Vec<u8>,
    pub(super) start: StartAt,
    pub(super) wants: Wants,
    pub(super) fragment: bool,
}

#[derive(Clone, Debug)]
pub(super) enum StartAt {
    Now,
    Past(prop::sample::Index),
    Future(i64),
}

pub(super) const STREAMS: usize = 3;

pub(super) fn step() -> impl Strategy<Value = Step> {
    let key = 0u8..6;
    let changes = proptest::collection::btree_map(key, any::<bool>(), 1..4)
        .prop_map(|changes| changes.into_iter().collect::<Vec<_>>());
    let start = prop_oneof![
        2 => Just(StartAt::Now),
        3 => any::<prop::sample::Index>().prop_map(StartAt::Past),
        1 => (1i64..6).prop_map(StartAt::Future),
    ];
    let create = (
        proptest::collection::vec(0u8..6, 0..2),
        prop_oneof![Just(vec![]), Just(vec![0]), (1u8..7).prop_map(|end| vec![end])],
        start,
        (any::<bool>(), any::<bool>(), any::<bool>()),
        any::<bool>(),
    )
        .prop_map(
            |(key, end, start, (puts, deletes, previous), fragment)| CreateStep {
                key,
                end,
                start,
                wants: Wants {
                    puts,
                    deletes,
                    previous,
                },
                fragment,
            },
        );
    let told = prop_oneof![
        1 => Just(Told::Revision),
        1 => Just(Told::Changes),
        8 => Just(Told::Previous),
    ];
    let stream = 0..STREAMS;
    prop_oneof![
        8 => (proptest::collection::vec(changes, 1..4), told)
            .prop_map(|(revisions, told)| Step::Publish(revisions, told)),
        4 => (stream.clone(), create).prop_map(|(stream, create)| Step::Create(stream, create)),
        1 => (stream.clone(), any::<prop::sample::Index>()).prop_map(|(stream, which)| Step::Cancel(stream, which)),
        6 => (stream.clone(), 0usize..1500).prop_map(|(stream, bytes)| Step::Take(stream, bytes)),
        1 => stream.clone().prop_map(Step::Close),
        3 => Just(Step::StartRead),
        3 => Just(Step::FinishRead),
        1 => any::<prop::sample::Index>().prop_map(Step::Compact),
        1 => stream.prop_map(Step::Progress),
    ]
}
