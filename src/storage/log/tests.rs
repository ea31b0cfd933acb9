//! A log that is appended to, cut, reset and reopened returns what it should hold, whichever tables are lost.

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

const fn cut_at(index: u64, term: u64) -> Cut {
    Cut {
        index: LogIndex(index),
        term: Term(term),
    }
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
    let cut = cut_at(6, 1);
    log.cut(cut).expect("cut");
    assert_eq!(
        log.read(LogIndex(7), LogIndex(9), u64::MAX).expect("read"),
        entries(1, 7..=8)
    );
    drop(log);
    let (log, recovered) = open(directory.path());
    assert_eq!((recovered.cut, recovered.terms), (cut, vec![Term(1); 2]));
    let cut = cut_at(100, 3);
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

fn entry_tables(log: &LogDatabase) -> usize {
    let tables = log.tables().into_iter();
    tables.filter(|table| table.keyspace == "log entries").count()
}

/// A log that was cut behind entry 6 after records had been replaced, synced or not.
fn cut_log(path: &Path, in_tables: bool, synced: bool) -> LogDatabase {
    let (log, _) = open(path);
    for (entries, replaces_suffix) in [
        (entries(1, 1..=2), false),
        (entries(1, 3..=9), false),
        (entries(2, 4..=4), true),
        (entries(2, 5..=6), false),
    ] {
        log.append(&entries, replaces_suffix, None).expect("written");
        if in_tables {
            log.flush().expect("flushed");
        }
    }
    log.cut(CUT).expect("cut");
    if synced {
        log.sync().expect("synced");
    }
    log
}

const CUT: Cut = cut_at(6, 2);

#[test]
fn what_lies_behind_the_cut_does_not_count() {
    for (in_tables, dropped) in [(false, false), (true, false), (true, true)] {
        let directory = tempfile::tempdir().expect("a directory");
        let log = cut_log(directory.path(), in_tables, true);
        if dropped {
            log.drop_cut().expect("dropped");
        }
        drop(log);
        let (log, recovered) = open(directory.path());
        assert_eq!((recovered.cut, recovered.terms), (CUT, Vec::new()));
        log.append(&entries(3, 7..=8), false, None).expect("written");
        drop(log);
        let (log, recovered) = open(directory.path());
        assert_eq!((recovered.cut, recovered.terms), (CUT, vec![Term(3); 2]));
        let read = log.read(LogIndex(7), LogIndex(9), u64::MAX).expect("read");
        assert_eq!(read, entries(3, 7..=8));
        log.flush().expect("flushed");
        log.cut(cut_at(7, 3)).expect("cut");
        log.sync().expect("synced");
        log.drop_cut().expect("dropped");
        if in_tables {
            assert_eq!(log.entries.len().expect("counted"), 1);
        }
    }
}

#[test]
fn tables_go_behind_a_cut_that_is_on_disk() {
    let directory = tempfile::tempdir().expect("a directory");
    let log = cut_log(directory.path(), true, false);
    assert_eq!(entry_tables(&log), 4);
    log.drop_cut().expect("dropped");
    assert_eq!(entry_tables(&log), 4, "a power loss could take the cut back");
    log.sync().expect("synced");
    log.drop_cut().expect("dropped");
    assert_eq!(
        entry_tables(&log),
        1,
        "the record of entry 6 is where the log begins"
    );
}

#[test]
fn no_table_goes_after_a_reset_before_there_is_a_record_behind_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let log = cut_log(directory.path(), true, true);
    let cut = cut_at(8, 5);
    log.reset(cut, &HardState::default()).expect("reset");
    log.drop_cut().expect("dropped");
    assert_eq!(entry_tables(&log), 4);
    log.cut(cut).expect("cut");
    log.sync().expect("synced");
    log.drop_cut().expect("dropped");
    assert_eq!(entry_tables(&log), 4, "there is no record yet");
    log.append(&entries(5, 9..=9), false, None).expect("written");
    log.cut(cut).expect("cut");
    log.sync().expect("synced");
    log.drop_cut().expect("dropped");
    assert_eq!(entry_tables(&log), 0);
    drop(log);
    let (_, recovered) = open(directory.path());
    assert_eq!((recovered.cut, recovered.terms), (cut, vec![Term(5)]));
}

/// The engine keeps its lists of tables for a while; the files that they name stay as long.
#[test]
fn files_of_dropped_tables_are_removed() {
    let directory = tempfile::tempdir().expect("a directory");
    let (log, _) = open(directory.path());
    for index in 1..=20 {
        log.append(&entries(1, index..=index), false, None)
            .expect("written");
        log.flush().expect("flushed");
        let cut = cut_at(index - 1, 1);
        log.cut(cut).expect("cut");
        log.sync().expect("synced");
        log.drop_cut().expect("dropped");
    }
    let tables = directory.path().join("keyspaces/1/tables");
    let files = crate::env::list_directory(&tables).expect("readable").len();
    assert!(entry_tables(&log) <= 2 && files <= 5, "{files} files");
}
