//! The events of watchers against the store's changes. Every watcher got exactly the changes that it asked for: filtered, in
//! order, once, whole revisions at a time, from its start revision on and across all lost connections; with the record before the
//! change if it wanted that. And a progress notification was sent only when the watcher had everything up to its revision.
//!
//! These are the promises that etcd makes of watches (etcd.io, "API guarantees").

use super::{Judged, Violation, violation};
use crate::records::RecordPast;
use std::collections::BTreeSet;

/// One watcher from its creation to its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Follow {
    pub name: String,
    pub key: Vec<u8>,
    /// As in a request: empty for the key alone, a zero byte for no end.
    pub range_end: Vec<u8>,
    pub puts: bool,
    pub deletes: bool,
    pub previous: bool,
    /// Its first revision, once the server has confirmed it.
    pub from: Option<i64>,
    pub seen: Vec<Seen>,
    /// It is still open when the rehearsal ends.
    pub lives: bool,
}

/// A message to a watcher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// One response, with the revision in its header.
    Events {
        revision: i64,
        events: Vec<SeenEvent>,
    },
    Progress(i64),
    Compacted(i64),
    Canceled(String),
}

/// One change as a watcher saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenEvent {
    pub revision: i64,
    pub key: Vec<u8>,
    /// None: deleted.
    pub value: Option<Vec<u8>>,
    pub create_revision: i64,
    pub version: i64,
    /// Revision and value of the record before.
    pub previous: Option<(i64, Vec<u8>)>,
}

/// One change of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreChange {
    pub revision: i64,
    pub key: Vec<u8>,
    pub value: Option<Vec<u8>>,
    pub create_revision: i64,
    pub before: Before,
}

/// The record that a change has replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Before {
    Nothing,
    /// Revision and value.
    Record(i64, Vec<u8>),
    /// It was compacted before the observer saw it.
    Unknown,
}

/// The store's changes.
#[derive(Clone, Debug, Default)]
pub struct Store {
    pub compacted: i64,
    /// Revisions whose changes are unknown.
    pub hidden: BTreeSet<i64>,
    /// Every revision that was, or may have been, compacted to.
    pub compactions: BTreeSet<i64>,
    pub changes: Vec<StoreChange>,
}

impl Store {
    /// The store as it was observed.
    pub fn new(past: &RecordPast, compactions: BTreeSet<i64>, compacted: i64) -> Self {
        let states = past.states();
        let mut store = Self {
            compacted,
            compactions,
            ..Self::default()
        };
        for revision in 2..=past.revision() {
            let Some(changes) = past.changes(revision) else {
                store.hidden.insert(revision);
                continue;
            };
            let mut held = states.at(revision - 1).cloned();
            for change in changes {
                let before = match &held {
                    None => Before::Unknown,
                    Some(held) => held.get(&change.key).map_or(Before::Nothing, |record| {
                        Before::Record(record.mod_revision, record.value.to_vec())
                    }),
                };
                if let Some(held) = &mut held {
                    crate::records::apply(held, std::slice::from_ref(change));
                }
                store.changes.push(StoreChange {
                    revision,
                    key: change.key.to_vec(),
                    value: change.record.as_ref().map(|record| record.value.to_vec()),
                    create_revision: change.record.as_ref().map_or(0, |record| record.create_revision),
                    before,
                });
            }
        }
        store
    }
}

/// The number of events that could be judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    pub events: Judged,
    /// Records before the changes, where they were requested.
    pub previous: Judged,
    /// Of those, the ones without a record because a compaction had reached their own revision.
    pub compacted: u64,
}

impl Follow {
    /// The revision up to which everything was received. Servers, as etcd's, send no progress notification to a watcher that
    /// starts in the future: nothing is due before its first revision.
    pub fn through(&self) -> i64 {
        let before = self.from.map_or(0, |from| from - 1);
        let revisions = self.seen.iter().filter_map(|seen| match seen {
            Seen::Events { events, .. } => events.last().map(|event| event.revision),
            Seen::Progress(revision) => Some(*revision),
            Seen::Compacted(_) | Seen::Canceled(_) => None,
        });
        revisions.max().unwrap_or(0).max(before)
    }

    /// Whether it was told that it has ended.
    pub fn is_over(&self) -> bool {
        matches!(self.seen.last(), Some(Seen::Compacted(_) | Seen::Canceled(_)))
    }

    fn wants(&self, key: &[u8], put: bool) -> bool {
        let inside = match &self.range_end[..] {
            [] => key == self.key,
            [0] => key >= &self.key[..],
            end => key >= &self.key[..] && key < end,
        };
        inside && if put { self.puts } else { self.deletes }
    }
}

/// Checks all watchers. Returns how much could be judged.
pub fn check(follows: &[Follow], store: &Store) -> Result<Checked, Violation> {
    let mut checked = Checked::default();
    for follow in follows {
        check_one(follow, store, &mut checked).map_err(|Violation(what)| {
            Violation(format!(
                "watcher {} of {:?} to {:?} from {:?}: {what}",
                follow.name,
                String::from_utf8_lossy(&follow.key),
                String::from_utf8_lossy(&follow.range_end),
                follow.from
            ))
        })?;
    }
    Ok(checked)
}

fn check_one(follow: &Follow, store: &Store, checked: &mut Checked) -> Result<(), Violation> {
    let Some(from) = follow.from else {
        return if follow.seen.is_empty() || follow.is_over() {
            Ok(())
        } else {
            violation("something came before it was created")
        };
    };
    let expected: Vec<&StoreChange> = store
        .changes
        .iter()
        .filter(|change| change.revision >= from && follow.wants(&change.key, change.value.is_some()))
        .collect();
    let mut expected = expected.into_iter().peekable();
    let mut last_revision = from - 1;
    for seen in &follow.seen {
        let through = match seen {
            Seen::Events { revision, events } => {
                check_order(events, last_revision, *revision)?;
                for event in events {
                    check_event(follow, event)?;
                    let is_known = !store.hidden.contains(&event.revision);
                    checked.events.add(is_known);
                    if !is_known {
                        continue;
                    }
                    match expected.next() {
                        Some(change) if is_same(event, change) => {
                            check_previous(follow, event, store, change, checked)?;
                        }
                        other => {
                            return violation(format!("{event:?} came, where the store has {other:?} next"));
                        }
                    }
                }
                let last = events.last().map_or(last_revision, |event| event.revision);
                last_revision = last;
                last
            }
            Seen::Progress(revision) => {
                last_revision = last_revision.max(*revision);
                *revision
            }
            Seen::Compacted(revision) if *revision <= store.compacted => continue,
            Seen::Compacted(revision) => {
                return violation(format!("the store is not compacted up to {revision}"));
            }
            Seen::Canceled(reason) => return violation(format!("canceled: {reason}")),
        };
        if let Some(missed) = expected.peek()
            && missed.revision <= through
        {
            return violation(format!("everything up to {through} was told, but not {missed:?}"));
        }
    }
    if follow.lives && !follow.is_over() && expected.peek().is_some() {
        return violation(format!("{:?} never came", expected.peek()));
    }
    Ok(())
}

/// Checks that a response continues where the previous one ended, with a later revision; inside it revisions may repeat.
fn check_order(events: &[SeenEvent], last_revision: i64, response_revision: i64) -> Result<(), Violation> {
    let mut lowest = last_revision + 1;
    for event in events {
        if event.revision < lowest {
            return violation(format!("revision {} came where {lowest} was due", event.revision));
        }
        lowest = event.revision;
        if event.revision > response_revision {
            return violation(format!(
                "revision {} came in a response of {response_revision}",
                event.revision
            ));
        }
    }
    Ok(())
}

fn check_event(follow: &Follow, event: &SeenEvent) -> Result<(), Violation> {
    if !follow.wants(&event.key, event.value.is_some()) {
        return violation(format!("{event:?} was not asked for"));
    }
    let created = event.create_revision == event.revision;
    let right = match event.value {
        Some(_) => created == (event.version == 1),
        None => event.create_revision == 0 && event.version == 0,
    };
    if !right {
        return violation(format!("{event:?} does not say whether the key was created"));
    }
    Ok(())
}

fn is_same(event: &SeenEvent, change: &StoreChange) -> bool {
    (event.revision, &event.key, &event.value) == (change.revision, &change.key, &change.value)
        && (event.value.is_none() || event.create_revision == change.create_revision)
}

/// Checks that the record before the change is there if it was wanted. It may be missing in one case only: a read from the past
/// returns no record from before the compact revision, and the event is of exactly that revision. (An event of an earlier
/// revision cannot be read then; it was read before, with the record that it had replaced.)
fn check_previous(
    follow: &Follow,
    event: &SeenEvent,
    store: &Store,
    change: &StoreChange,
    checked: &mut Checked,
) -> Result<(), Violation> {
    let expected = match &change.before {
        _ if !follow.previous => None,
        Before::Unknown => {
            checked.previous.add(false);
            return Ok(());
        }
        Before::Nothing => None,
        Before::Record(revision, value) => Some((*revision, value.clone())),
    };
    if event.previous == expected {
        checked.previous.judged += u64::from(follow.previous);
        return Ok(());
    }
    if event.previous.is_none() && store.compactions.contains(&event.revision) {
        checked.previous.add(true);
        checked.compacted += 1;
        return Ok(());
    }
    violation(format!("{event:?} should have {expected:?} before it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(revision: i64, key: &str, value: &str, before: Before) -> StoreChange {
        StoreChange {
            revision,
            key: key.into(),
            value: (!value.is_empty()).then(|| value.into()),
            create_revision: if revision < 4 { revision } else { 2 },
            before,
        }
    }

    /// k0 is created, k1 is created, then k0 is written and k1 deleted.
    fn store() -> Store {
        Store {
            compacted: -1,
            changes: vec![
                change(2, "k0", "a", Before::Nothing),
                change(3, "k1", "b", Before::Nothing),
                change(4, "k0", "c", Before::Record(2, "a".into())),
                change(4, "k1", "", Before::Record(3, "b".into())),
            ],
            ..Store::default()
        }
    }

    fn event(revision: i64, key: &str, value: &str, previous: Option<(i64, &str)>) -> SeenEvent {
        let (create_revision, version) = match (value, revision) {
            ("", _) => (0, 0),
            (_, 4) => (2, 2),
            _ => (revision, 1),
        };
        SeenEvent {
            revision,
            key: key.into(),
            value: (!value.is_empty()).then(|| value.into()),
            create_revision,
            version,
            previous: previous.map(|(revision, value)| (revision, value.into())),
        }
    }

    fn events(revision: i64, events: Vec<SeenEvent>) -> Seen {
        Seen::Events { revision, events }
    }

    fn follow(seen: Vec<Seen>) -> Follow {
        Follow {
            name: "w".into(),
            key: "k".into(),
            range_end: "l".into(),
            puts: true,
            deletes: true,
            previous: true,
            from: Some(2),
            seen,
            lives: true,
        }
    }

    fn all() -> Vec<Seen> {
        vec![
            events(3, vec![event(2, "k0", "a", None), event(3, "k1", "b", None)]),
            Seen::Progress(3),
            events(
                4,
                vec![
                    event(4, "k0", "c", Some((2, "a"))),
                    event(4, "k1", "", Some((3, "b"))),
                ],
            ),
        ]
    }

    fn judged(follow: &Follow, store: &Store) -> Result<(u64, u64), Violation> {
        let checked = check(std::slice::from_ref(follow), store)?;
        Ok((checked.events.judged, checked.previous.judged))
    }

    #[test]
    fn a_record_before_may_be_missing_at_the_compaction_alone() {
        let mut seen = all();
        if let Seen::Events { events, .. } = &mut seen[2] {
            events[0].previous = None;
        }
        let follow = follow(seen);
        let mut store = store();
        store.compacted = 4;
        store.compactions = BTreeSet::from([3]);
        assert!(check(std::slice::from_ref(&follow), &store).is_err());
        store.compactions = BTreeSet::from([4]);
        let checked = check(std::slice::from_ref(&follow), &store).expect("as it may be");
        assert_eq!((checked.previous.judged, checked.compacted), (4, 1));
        store.compactions.clear();
        store.changes[2].before = Before::Unknown;
        let checked = check(&[follow], &store).expect("nobody knows");
        assert_eq!(checked.previous.not_judged, 1);
    }

    #[test]
    fn what_is_right_passes() {
        assert_eq!(judged(&follow(all()), &store()), Ok((4, 4)));
        let mut deletes = follow(vec![
            Seen::Progress(3),
            events(4, vec![event(4, "k1", "", Some((3, "b")))]),
        ]);
        deletes.puts = false;
        assert_eq!(judged(&deletes, &store()), Ok((1, 1)));
        let mut gone = follow(vec![Seen::Progress(2)]);
        gone.lives = false;
        assert_eq!(check(&[gone], &store()).ok(), None, "revision 2 was not told");
        let mut later = follow(vec![]);
        (later.from, later.key, later.range_end) = (Some(3), "k0".into(), vec![]);
        later.lives = false;
        assert_eq!(judged(&later, &store()), Ok((0, 0)));
    }

    #[test]
    fn every_broken_promise_is_noticed() {
        type Change = fn(&mut Vec<Seen>);
        fn at(seen: &mut [Seen], place: usize) -> &mut Vec<SeenEvent> {
            match &mut seen[place] {
                Seen::Events { events, .. } => events,
                other => panic!("{other:?}"),
            }
        }
        let cases: [(&str, Change); 12] = [
            ("gap", |seen| drop(at(seen, 0).remove(0))),
            ("end missing", |seen| drop(seen.pop())),
            ("twice", |seen| {
                seen.insert(0, events(2, vec![event(2, "k0", "a", None)]));
            }),
            ("order", |seen| at(seen, 0).reverse()),
            ("torn revision", |seen| {
                let rest = at(seen, 2).split_off(1);
                seen.push(events(4, rest));
            }),
            ("early progress", |seen| seen.swap(0, 1)),
            ("false header", |seen| {
                seen[0] = events(2, at(&mut seen.clone(), 0).clone());
            }),
            ("not asked for", |seen| at(seen, 0).push(event(4, "z", "a", None))),
            ("previous missing", |seen| at(seen, 2)[0].previous = None),
            ("previous wrong", |seen| {
                at(seen, 2)[0].previous = Some((3, "a".into()));
            }),
            ("create flag", |seen| at(seen, 2)[0].create_revision = 4),
            ("canceled", |seen| seen.push(Seen::Canceled("why".into()))),
        ];
        for (name, change) in cases {
            let mut seen = all();
            change(&mut seen);
            assert!(check(&[follow(seen)], &store()).is_err(), "{name}");
        }
        let mut compacted = follow(vec![Seen::Compacted(3)]);
        assert!(check(&[compacted.clone()], &store()).is_err());
        let mut store = store();
        store.compacted = 3;
        compacted.seen = vec![Seen::Compacted(3)];
        assert!(check(&[compacted], &store).is_ok());
    }
}
