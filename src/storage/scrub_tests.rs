//! Flips bits in the files of a database that is in use.

#![allow(clippy::disallowed_methods)] // breaks files

use super::*;
use crate::storage::journal::{self, JournalScan};
use crate::storage::state::{StateDatabase, StateKeyspace, StateOptions};
use std::os::unix::fs::FileExt;

/// The longest batch that is written here. No sum covers a batch's sequence number: a flip there shows in the next batch.
const BATCH_BYTES_MAX: u64 = 200;

fn scan(table: &TableFile) -> ScanStep {
    let mut scan = TableScan::open(table.clone()).unwrap().expect("it is there");
    loop {
        match scan.advance(1000).unwrap() {
            ScanStep::More(_) => {}
            end => return end,
        }
    }
}

fn flip(path: &Path, offset: u64) {
    let file = std::fs::File::options()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 4], offset).unwrap();
}

fn write(state: &StateDatabase, from: u32, to: u32) {
    for number in from..to {
        let mut batch = state.batch(1);
        batch.insert(StateKeyspace::Current, format!("key{number:05}"), vec![7; 100]);
        batch.commit().unwrap();
    }
}

#[test]
fn flipped_bits_of_a_table_are_found_and_placed() {
    let directory = tempfile::tempdir().unwrap();
    let state = StateDatabase::open(directory.path(), &StateOptions::simulator()).unwrap();
    write(&state, 0, 1000);
    state.flush().unwrap();
    let tables = state.tables();
    // The other keyspace holds marks.
    let [table, _] = tables.as_slice() else {
        panic!("two tables: {tables:?}")
    };
    assert_eq!(table.keyspace, "current");
    assert_eq!(scan(table), ScanStep::Done);
    let length = std::fs::metadata(&table.path).unwrap().len();
    let mut placed = 0;
    for offset in (0..length).step_by(997) {
        flip(&table.path, offset);
        let ScanStep::Unsound { offset: found, .. } = scan(table) else {
            panic!("the flip at {offset} was not found")
        };
        assert!(found <= offset, "{found} is behind {offset}");
        placed += u64::from(offset - found < 8192);
        flip(&table.path, offset);
    }
    assert!(placed * 997 > length / 2, "blocks are found: {placed}");
    assert_eq!(scan(table), ScanStep::Done);
    std::fs::remove_file(&table.path).unwrap();
    assert!(
        TableScan::open(table.clone()).unwrap().is_none(),
        "merged meanwhile"
    );
}

#[test]
fn flipped_bits_of_a_journal_in_use_are_found() {
    let directory = tempfile::tempdir().unwrap();
    let state = StateDatabase::open(directory.path(), &StateOptions::simulator()).unwrap();
    write(&state, 0, 100);
    state.sync().unwrap();
    let paths = journal::list(directory.path()).unwrap();
    let [path] = paths.as_slice() else {
        panic!("one journal: {paths:?}")
    };
    let scan = |scan: &mut JournalScan| loop {
        match scan.advance(1000).unwrap() {
            ScanStep::More(_) => {}
            end => return end,
        }
    };
    let open = || JournalScan::open(path).unwrap().expect("it is there");
    let mut growing = open();
    assert_eq!(scan(&mut growing), ScanStep::Done);
    let written = growing.offset;
    write(&state, 100, 150);
    assert!(growing.look_again().unwrap());
    assert_eq!(scan(&mut growing), ScanStep::Done);
    assert!(growing.offset > written, "what was added is read");
    for offset in (0..written).step_by(211) {
        flip(path, offset);
        let found = scan(&mut open());
        assert!(
            matches!(found, ScanStep::Unsound { offset: found, .. } if found <= offset + BATCH_BYTES_MAX),
            "the flip at {offset}: {found:?}"
        );
        flip(path, offset);
    }
    assert_eq!(scan(&mut open()), ScanStep::Done);
}
