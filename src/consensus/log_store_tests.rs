//! What raft is told of the log: terms, entries from memory and from disk, and what remains after a cut or a snapshot.

use super::log_store::{LogStore, read_entries};
use super::testing::TestMember;
use crate::ids::{LogIndex, Term};
use crate::limits::LOG_TAIL_BYTES_MAX;
use crate::proto::peer;
use crate::storage::log::{Cut, LogDatabase, Recovered};
use raft::eraftpb::{ConfState, Entry};
use raft::{Error, GetEntriesContext, Storage, StorageError};

struct Fixture {
    store: LogStore,
    member: TestMember,
}

/// An empty log behind a cut.
fn fixture(cut_index: u64, cut_term: u64) -> Fixture {
    let member = TestMember::new(1, &[1], Box::new(|_| 0));
    let recovered = recovered(cut_index, cut_term, &[]);
    let store = LogStore::new(
        member.log.clone(),
        &recovered,
        ConfState::default(),
        member.views(),
    );
    Fixture { store, member }
}

fn recovered(index: u64, term: u64, terms: &[u64]) -> Recovered {
    Recovered {
        cut: cut(index, term),
        hard_state: peer::HardState::default(),
        terms: terms.iter().copied().map(Term).collect(),
    }
}

fn cut(index: u64, term: u64) -> Cut {
    Cut {
        index: LogIndex(index),
        term: Term(term),
    }
}

fn entries(first: u64, terms: &[u64]) -> Vec<Entry> {
    entries_of(first, terms, 0)
}

fn entries_of(first: u64, terms: &[u64], payload_bytes: usize) -> Vec<Entry> {
    let entry = |(index, term): (u64, &u64)| Entry {
        index,
        term: *term,
        data: if payload_bytes == 0 {
            format!("{term}.{index}").into()
        } else {
            vec![7; payload_bytes].into()
        },
        ..Entry::default()
    };
    (first..).zip(terms).map(entry).collect()
}

fn terms_from(store: &LogStore, first: u64, last: u64) -> Vec<Option<u64>> {
    (first..=last).map(|index| store.term(index).ok()).collect()
}

fn read(store: &LogStore, low: u64, high: u64) -> raft::Result<Vec<Entry>> {
    store.entries(low, high, None, GetEntriesContext::empty(false))
}

/// Writes the appended entries as the log's writer does.
fn write(log: &LogDatabase, entries: &[Entry], replaces: bool) {
    let wire = |entry: &Entry| super::convert::entry_to_wire(entry.clone());
    let wire: Vec<_> = entries.iter().map(wire).collect();
    log.append(&wire, replaces, None).expect("written");
}

#[test]
fn terms_follow_appends() {
    type Appends = &'static [(u64, &'static [u64], bool)];
    // Appends after a cut at (4, term 2): first index, terms, whether a suffix is replaced; then all terms from index 5 on.
    let cases: [(Appends, &[u64]); 6] = [
        (&[], &[]),
        (&[(5, &[2, 2, 3], false)], &[2, 2, 3]),
        (&[(5, &[3, 3], false), (7, &[3, 5], false)], &[3, 3, 3, 5]),
        (&[(5, &[2, 3, 3, 3], false), (7, &[4], true)], &[2, 3, 4]),
        (&[(5, &[2, 3, 4], false), (5, &[5, 5], true)], &[5, 5]),
        (
            &[(5, &[2, 2], false), (6, &[3], true), (7, &[3, 4], false)],
            &[2, 3, 3, 4],
        ),
    ];
    for (appends, expected) in cases {
        let Fixture { mut store, .. } = fixture(4, 2);
        for (first, terms, replaces) in appends {
            assert_eq!(store.append(&entries(*first, terms)), *replaces, "{appends:?}");
        }
        let last = 4 + expected.len() as u64;
        let mut all = vec![None, Some(2)];
        all.extend(expected.iter().copied().map(Some));
        all.push(None);
        assert_eq!(terms_from(&store, 3, last + 1), all, "{appends:?}");
        assert_eq!(store.last_index(), Ok(last));
        assert_eq!(store.first_index(), Ok(5));
        let found = if last > 4 {
            read(&store, 5, last + 1).expect("there")
        } else {
            Vec::new()
        };
        let found: Vec<u64> = found.iter().map(|entry| entry.term).collect();
        assert_eq!(found, expected, "{appends:?}");
    }
}

#[test]
fn a_cut_keeps_the_terms_behind_it() {
    // The log holds 5..=10 with terms 2 2 3 3 3 4. Index of the cut; its term if it is made; the terms that remain.
    let cases: [(u64, Option<u64>, &[u64]); 8] = [
        (3, None, &[2, 2, 3, 3, 3, 4]),
        (4, None, &[2, 2, 3, 3, 3, 4]),
        (5, Some(2), &[2, 3, 3, 3, 4]),
        (6, Some(2), &[3, 3, 3, 4]),
        (8, Some(3), &[3, 4]),
        (9, Some(3), &[4]),
        (10, Some(4), &[]),
        (11, None, &[2, 2, 3, 3, 3, 4]),
    ];
    for (at, term, left) in cases {
        let Fixture { mut store, .. } = fixture(4, 2);
        store.append(&entries(5, &[2, 2, 3, 3, 3, 4]));
        assert_eq!(
            store.cut(LogIndex(at)),
            term.map(|term| cut(at, term)),
            "cut at {at}"
        );
        let begin = store.cut_index().0;
        let left: Vec<_> = left.iter().copied().map(Some).collect();
        assert_eq!(terms_from(&store, begin + 1, 10), left, "cut at {at}");
        assert_eq!(store.term(begin).ok(), Some(term.unwrap_or(2)), "cut at {at}");
        assert_eq!(store.term(begin - 1), Err(Error::Store(StorageError::Compacted)));
        assert_eq!(store.term(11), Err(Error::Store(StorageError::Unavailable)));
        // The log continues, in the last term and in a new one.
        assert!(!store.append(&entries(11, &[4, 5])));
        assert_eq!(
            terms_from(&store, 10, 12),
            [Some(4), Some(4), Some(5)],
            "cut at {at}"
        );
        assert!(store.append(&entries(11, &[6])), "cut at {at}");
        assert_eq!(
            terms_from(&store, 10, 12),
            [Some(4), Some(6), None],
            "cut at {at}"
        );
    }
}

#[test]
fn a_reset_leaves_nothing_but_the_cut() {
    let Fixture { mut store, .. } = fixture(4, 2);
    store.append(&entries(5, &[2, 3]));
    let conf_state = ConfState {
        voters: vec![1, 2, 3],
        ..ConfState::default()
    };
    store.reset(cut(20, 7), conf_state.clone());
    assert_eq!((store.first_index(), store.last_index()), (Ok(21), Ok(20)));
    assert_eq!(terms_from(&store, 19, 21), [None, Some(7), None]);
    assert_eq!(store.initial_state().expect("kept").conf_state, conf_state);
    assert!(!store.append(&entries(21, &[7, 8])));
    assert_eq!(terms_from(&store, 20, 22), [Some(7), Some(7), Some(8)]);
    assert_eq!(read(&store, 21, 23).expect("there").len(), 2);
}

#[test]
fn a_restart_finds_terms_and_entries_on_disk() {
    let Fixture { member, .. } = fixture(4, 2);
    let on_disk = entries(5, &[2, 2, 3, 3]);
    member
        .log
        .reset(cut(4, 2), &peer::HardState::default())
        .expect("written");
    write(&member.log, &on_disk, false);
    let recovered = recovered(4, 2, &[2, 2, 3, 3]);
    let mut store = LogStore::new(
        member.log.clone(),
        &recovered,
        ConfState::default(),
        member.views(),
    );
    assert_eq!(
        terms_from(&store, 4, 9),
        [Some(2), Some(2), Some(2), Some(3), Some(3), None]
    );
    assert_eq!(read(&store, 5, 9).expect("in memory"), on_disk);
    assert!(
        store.take_fetches().is_empty(),
        "what is to be applied is in memory"
    );
    assert!(store.append(&entries(8, &[4, 4])));
    // The disk still has the old entry 8: memory takes precedence.
    let newest = [&on_disk[..3], &entries(8, &[4, 4])].concat();
    assert_eq!(read(&store, 5, 10).expect("in memory"), newest);
    assert_eq!(read(&store, 4, 6), Err(Error::Store(StorageError::Compacted)));
    assert_eq!(read(&store, 8, 11), Err(Error::Store(StorageError::Unavailable)));
}

#[test]
fn the_tail_is_bounded_by_what_is_applied() {
    let Fixture { mut store, member } = fixture(4, 2);
    member
        .log
        .reset(cut(4, 2), &peer::HardState::default())
        .expect("written");
    let payload_bytes = LOG_TAIL_BYTES_MAX as usize / 4;
    let appended = entries_of(5, &[2; 6], payload_bytes);
    store.append(&appended);
    store.shrink_tail(LogIndex(4));
    // Nothing is on disk, so all of it must come from memory.
    assert_eq!(read(&store, 5, 11).expect("in memory"), appended);
    write(&member.log, &appended, false);
    store.shrink_tail(LogIndex(5));
    store.shrink_tail(LogIndex(10));
    assert_eq!(read(&store, 7, 11).expect("in memory"), appended[2..]);
    assert_eq!(read(&store, 5, 7).expect("on disk"), appended[..2]);
    let bytes_max = payload_bytes as u64;
    let few = store.entries(8, 11, bytes_max, GetEntriesContext::empty(false));
    assert_eq!(few.expect("in memory"), appended[3..4]);
    let one = store.entries(8, 11, 0, GetEntriesContext::empty(false));
    assert_eq!(one.expect("in memory").len(), 1, "at least one");
}

#[test]
fn a_snapshot_stands_for_one_view_per_message() {
    let Fixture { store, .. } = fixture(1, 1);
    for _ in 0..2 {
        let snapshot = store.snapshot(0, 2).expect("the state is there");
        assert_eq!(snapshot.get_metadata().index, 1);
    }
    assert!(store.take_snapshot_view(LogIndex(9)).is_none());
    assert!(store.take_snapshot_view(LogIndex(1)).is_some());
    assert!(
        store.take_snapshot_view(LogIndex(1)).is_some(),
        "for the second follower"
    );
    assert!(store.take_snapshot_view(LogIndex(1)).is_none());
    let newer = store.snapshot(2, 2);
    assert_eq!(
        newer,
        Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable))
    );
}

#[test]
fn a_disk_that_fails_is_reported_once() {
    let Fixture { member, .. } = fixture(4, 2);
    let recovered = recovered(4, 2, &[2]);
    let store = LogStore::new(
        member.log.clone(),
        &recovered,
        ConfState::default(),
        member.views(),
    );
    assert!(store.take_failure().is_some());
    assert!(store.take_failure().is_none());
    let borne = store.entries(5, 6, None, GetEntriesContext::empty(false));
    assert_eq!(borne, Ok(Vec::new()), "raft panics where it cannot wait");
    assert!(store.has_failed());
}

/// A log on disk of which only the newest entry is in memory.
fn mostly_on_disk() -> (Fixture, Vec<Entry>) {
    let Fixture { mut store, member } = fixture(4, 2);
    let payload_bytes = LOG_TAIL_BYTES_MAX as usize;
    let appended = entries_of(5, &[2; 3], payload_bytes);
    member
        .log
        .reset(cut(4, 2), &peer::HardState::default())
        .expect("written");
    write(&member.log, &appended, false);
    store.append(&appended);
    store.shrink_tail(LogIndex(7));
    (Fixture { store, member }, appended)
}

#[test]
fn what_is_on_disk_only_is_read_elsewhere_and_asked_for_again() {
    let (Fixture { store, member }, appended) = mostly_on_disk();
    let ask = || store.entries(5, 8, LOG_TAIL_BYTES_MAX, GetEntriesContext::empty(true));
    let later = Err(Error::Store(StorageError::LogTemporarilyUnavailable));
    assert_eq!(ask(), later);
    let fetches = store.take_fetches();
    assert_eq!(fetches.len(), 1);
    assert_eq!(ask(), later, "it is being read");
    let stretch = fetches[0];
    let read = read_entries(&member.log, stretch.low, stretch.high, stretch.bytes_max);
    assert_eq!(store.begin_fetched(stretch, read).len(), 2, "both questions");
    assert_eq!(ask().as_ref(), Ok(&appended[..1].to_vec()));
    store.end_fetched();
    assert_eq!(ask(), later, "nothing is kept");
    assert!(!store.has_failed());
}

#[test]
fn a_stretch_that_was_cut_while_it_was_read_is_no_failure_and_one_that_was_not_is() {
    for was_cut in [true, false] {
        let (Fixture { mut store, member }, _) = mostly_on_disk();
        let asked = store.entries(5, 8, None, GetEntriesContext::empty(true));
        assert_eq!(asked, Err(Error::Store(StorageError::LogTemporarilyUnavailable)));
        let stretch = store.take_fetches()[0];
        member.log.spoil(LogIndex(5));
        if was_cut {
            store.cut(LogIndex(6));
        }
        let read = read_entries(&member.log, stretch.low, stretch.high, stretch.bytes_max);
        assert!(read.is_err());
        let questions = store.begin_fetched(stretch, read);
        assert_eq!(
            (questions.len(), store.has_failed()),
            (usize::from(was_cut), !was_cut)
        );
        if was_cut {
            let again = store.entries(5, 8, None, GetEntriesContext::empty(true));
            assert_eq!(again, Err(Error::Store(StorageError::Compacted)));
        }
    }
}

#[test]
fn entries_that_were_replaced_while_they_were_read_do_not_count() {
    let (Fixture { mut store, member }, _) = mostly_on_disk();
    let asked = store.entries(5, 8, None, GetEntriesContext::empty(true));
    assert_eq!(asked, Err(Error::Store(StorageError::LogTemporarilyUnavailable)));
    let stretch = store.take_fetches()[0];
    let read = read_entries(&member.log, stretch.low, stretch.high, stretch.bytes_max);
    store.append(&entries(6, &[3]));
    assert!(store.begin_fetched(stretch, read).is_empty());
}

#[test]
fn a_disk_that_fails_at_an_election_stops_the_member_in_order() {
    use super::core::Core;
    use super::testing::TIMING;
    use crate::ids::MemberId;
    let member = TestMember::new(1, &[1], Box::new(|_| 0));
    let entry = |index| peer::Entry {
        index,
        term: 1,
        data: "rotten".into(),
        ..peer::Entry::default()
    };
    member
        .log
        .append(&[entry(2), entry(3)], false, None)
        .expect("written");
    let mut found = recovered(1, 1, &[1, 1]);
    // Committed but not applied: raft reads them before it starts an election.
    found.hard_state.commit = 3;
    found.hard_state.term = 1;
    let conf_state = ConfState {
        voters: vec![1],
        ..ConfState::default()
    };
    member.log.spoil(LogIndex(2));
    let store = LogStore::new(member.log.clone(), &found, conf_state, member.views());
    let mut core = Core::new(MemberId(1), TIMING, LogIndex(1), store, Box::new(|_| 0)).expect("a core");
    core.take_part();
    core.campaign();
    let outputs = core.take_outputs();
    assert!(core.has_failed());
    assert!(outputs.write.is_empty() && outputs.send.is_empty() && outputs.committed.is_empty());
    let failure = core.store().take_failure().expect("a failure").to_string();
    assert!(failure.contains("checksum"), "{failure}");
}
