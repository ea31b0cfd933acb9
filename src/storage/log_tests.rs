//! A log that is appended to, cut, trimmed, reset and opened again gives back what it should hold.

use super::*;

fn entries(term: u64, indexes: std::ops::RangeInclusive<u64>) -> Vec<Entry> {
    let entry = |index| Entry {
        index,
        term,
        data: format!("{term}.{index}").into(),
        ..Entry::default()
    };
    indexes.map(entry).collect()
}

fn open(path: &Path) -> (LogDatabase, Recovered) {
    LogDatabase::open(path, None).expect("a sound log")
}

#[test]
fn an_append_replaces_the_suffix() {
    let directory = tempfile::tempdir().expect("a directory");
    let (log, recovered) = open(directory.path());
    assert!(recovered.terms.is_empty());
    log.append(&entries(1, 1..=5), false, None).expect("written");
    log.append(&entries(1, 6..=9), false, None).expect("written");
    log.append(
        &entries(2, 4..=7),
        true,
        Some(&HardState {
            term: 2,
            vote: 7,
            commit: 3,
        }),
    )
    .expect("written");
    log.sync().expect("synced");
    let read = log.read(LogIndex(2), LogIndex(8), u64::MAX).expect("read");
    let expected: Vec<_> = entries(1, 2..=3).into_iter().chain(entries(2, 4..=7)).collect();
    assert_eq!(read, expected);
    drop(log);
    let (_, recovered) = open(directory.path());
    assert_eq!(
        recovered.hard_state,
        HardState {
            term: 2,
            vote: 7,
            commit: 3
        }
    );
    assert_eq!(recovered.terms, [1, 1, 1, 2, 2, 2, 2].map(Term));
}

#[test]
fn a_cut_log_starts_behind_the_cut() {
    let directory = tempfile::tempdir().expect("a directory");
    let (log, _) = open(directory.path());
    log.append(&entries(1, 1..=4), false, None).expect("written");
    log.append(&entries(1, 5..=8), false, None).expect("written");
    let cut = Cut {
        index: LogIndex(6),
        term: Term(1),
    };
    assert_eq!(log.cut(cut).expect("cut"), LogIndex(5));
    let left = log.trim(LogIndex(0), LogIndex(5), 9).expect("trimmed");
    assert_eq!(left, None);
    assert_eq!(
        log.read(LogIndex(7), LogIndex(9), u64::MAX).expect("read"),
        entries(1, 7..=8)
    );
    drop(log);
    let (log, recovered) = open(directory.path());
    assert_eq!((recovered.cut, recovered.terms), (cut, vec![Term(1); 2]));
    let cut = Cut {
        index: LogIndex(100),
        term: Term(3),
    };
    log.reset(
        cut,
        &HardState {
            term: 3,
            vote: 0,
            commit: 100,
        },
    )
    .expect("reset");
    log.append(&entries(3, 101..=101), false, None).expect("written");
    drop(log);
    let (_, recovered) = open(directory.path());
    assert_eq!((recovered.cut, recovered.terms), (cut, vec![Term(3)]));
}

#[test]
fn a_read_stops_at_its_bytes() {
    let directory = tempfile::tempdir().expect("a directory");
    let (log, _) = open(directory.path());
    log.append(&entries(1, 1..=9), false, None).expect("written");
    assert_eq!(
        log.read(LogIndex(1), LogIndex(10), 7).expect("read"),
        entries(1, 1..=2)
    );
    assert_eq!(
        log.read(LogIndex(3), LogIndex(10), 0).expect("read"),
        entries(1, 3..=3)
    );
}

#[test]
fn a_flipped_bit_is_found() {
    let directory = tempfile::tempdir().expect("a directory");
    let (log, _) = open(directory.path());
    let mut value = seal(
        &1_u64.to_be_bytes(),
        &EntryBatch {
            entries: entries(1, 1..=1),
        },
    );
    value[9] ^= 4;
    log.entries.insert(1_u64.to_be_bytes(), value).expect("written");
    drop(log);
    assert!(matches!(
        LogDatabase::open(directory.path(), None),
        Err(LogError::Corrupt { .. })
    ));
}

/// A crash may come between any two steps of a trim.
#[test]
fn what_waits_to_be_trimmed_does_not_count() {
    for steps in 0..=4 {
        let directory = tempfile::tempdir().expect("a directory");
        let (log, _) = open(directory.path());
        log.append(&entries(1, 1..=2), false, None).expect("written");
        log.append(&entries(1, 3..=9), false, None).expect("written");
        log.append(&entries(2, 4..=4), true, None).expect("written");
        log.append(&entries(2, 5..=6), false, None).expect("written");
        let cut = Cut {
            index: LogIndex(6),
            term: Term(2),
        };
        let keep_from = log.cut(cut).expect("cut");
        assert_eq!(keep_from, LogIndex(5), "its end is the end of the log");
        let mut from = Some(LogIndex(0));
        for _ in 0..steps {
            from = from.and_then(|from| log.trim(from, keep_from, 1).expect("trimmed"));
        }
        assert_eq!(
            from.is_none(),
            steps == 4,
            "three records, and a look for a fourth"
        );
        drop(log);
        let (log, recovered) = open(directory.path());
        assert_eq!((recovered.cut, recovered.terms), (cut, Vec::new()));
        log.append(&entries(3, 7..=8), false, None).expect("written");
        drop(log);
        let (log, recovered) = open(directory.path());
        assert_eq!((recovered.cut, recovered.terms), (cut, vec![Term(3); 2]));
        let read = log.read(LogIndex(7), LogIndex(9), u64::MAX).expect("read");
        assert_eq!(read, entries(3, 7..=8));
        let keep_from = log
            .cut(Cut {
                index: LogIndex(7),
                ..cut
            })
            .expect("cut");
        let left = log.trim(LogIndex(0), keep_from, 9).expect("trimmed");
        assert_eq!((keep_from, left), (LogIndex(7), None));
        assert_eq!(log.entries.len().expect("counted"), 1);
    }
}
