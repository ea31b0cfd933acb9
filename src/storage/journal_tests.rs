//! Journals are broken in every way that a disk may break them, and must be refused or lose nothing that was synced.

#![allow(clippy::disallowed_methods)] // tests break files

use super::*;
use crate::proto::peer::Entry;
use crate::storage::log::{LogDatabase, LogError};

const ENTRIES: u64 = 6;

/// A synced log of a few entries; its journal, and how much of that is written.
fn log(directory: &Path) -> (PathBuf, Vec<u8>) {
    let (log, _) = LogDatabase::open(directory, None).expect("a new log");
    for index in 1..=ENTRIES {
        let entry = Entry {
            index,
            term: 1,
            data: vec![index as u8; 90].into(),
            ..Entry::default()
        };
        log.append(&[entry], false, None).expect("written");
    }
    log.sync().expect("synced");
    drop(log);
    let names = env::list_directory(directory).expect("a directory");
    let name = names
        .iter()
        .find(|name| {
            Path::new(name)
                .extension()
                .is_some_and(|extension| extension == "jnl")
        })
        .expect("a journal");
    let path = directory.join(name);
    let written = DiskFile::open(&path)
        .expect("readable")
        .rest(0)
        .expect("readable");
    (path, written)
}

/// The last entry of the log, if it opens.
fn last_entry(directory: &Path) -> Result<u64, LogError> {
    LogDatabase::open(directory, None).map(|(_, recovered)| recovered.terms.len() as u64)
}

fn break_and_open(break_it: impl Fn(&mut Vec<u8>)) -> (Result<u64, LogError>, Vec<u8>) {
    let directory = tempfile::tempdir().expect("a directory");
    let (path, written) = log(directory.path());
    let mut broken = written.clone();
    break_it(&mut broken);
    std::fs::write(&path, &broken).expect("written");
    (last_entry(directory.path()), written)
}

#[test]
fn no_flipped_bit_loses_what_was_synced() {
    let directory = tempfile::tempdir().expect("a directory");
    let (path, written) = log(directory.path());
    let mut refused = 0;
    for place in 0..written.len() {
        let mut broken = written.clone();
        broken[place] ^= 1 << (place % 8);
        std::fs::write(&path, &broken).expect("written");
        // The last batch's sequence number is covered by nothing, and matters to nobody.
        match check(directory.path()) {
            Ok(_) if std::fs::read(&path).expect("readable") == broken => {}
            Ok(_) => panic!("byte {place} of {} was taken for torn", written.len()),
            Err(error) => {
                assert!(matches!(error, JournalError::Rotten { .. }), "{error}");
                refused += 1;
            }
        }
    }
    assert!(refused > written.len() - 10, "{refused} of {}", written.len());
}

#[test]
fn a_torn_end_is_cut_off_wherever_it_is_torn() {
    let directory = tempfile::tempdir().expect("a directory");
    let (path, written) = log(directory.path());
    let mut lengths = vec![];
    for kept in 0..written.len() {
        for zeros in [0, 2_000] {
            let mut torn = written[..kept].to_vec();
            torn.resize(kept + zeros, 0);
            std::fs::write(&path, &torn).expect("written");
            check(directory.path()).unwrap_or_else(|error| panic!("{kept} of {}: {error}", written.len()));
        }
        lengths.push(
            std::fs::read(&path)
                .expect("readable")
                .iter()
                .rposition(|byte| *byte != 0),
        );
    }
    assert!(lengths.is_sorted());
}

#[test]
fn a_torn_log_opens_and_a_rotten_one_does_not() {
    let (opened, _) = break_and_open(|journal| journal.truncate(journal.len() - 20));
    assert_eq!(opened.expect("torn"), ENTRIES - 1);
    let (opened, _) = break_and_open(|journal| {
        let middle = journal.len() / 2;
        journal[middle] ^= 1;
    });
    let error = opened.expect_err("rotten").to_string();
    assert!(
        error.contains("has rotted at byte") && error.contains("Remove this member"),
        "{error}"
    );
}

#[test]
fn a_batch_that_lacks_a_sector_is_torn() {
    let directory = tempfile::tempdir().expect("a directory");
    let (log, _) = LogDatabase::open(directory.path(), None).expect("a new log");
    let entry = |index, bytes| Entry {
        index,
        term: 1,
        data: vec![7; bytes].into(),
        ..Entry::default()
    };
    log.append(&[entry(1, 10)], false, None).expect("written");
    log.append(&[entry(2, 3_000)], false, None).expect("written");
    drop(log);
    let names = env::list_directory(directory.path()).expect("a directory");
    let name = names
        .iter()
        .find(|name| {
            Path::new(name)
                .extension()
                .is_some_and(|extension| extension == "jnl")
        })
        .expect("a journal");
    let path = directory.path().join(name);
    let mut bytes = DiskFile::open(&path)
        .expect("readable")
        .rest(0)
        .expect("readable");
    let sector = bytes.len() / SECTOR_BYTES * SECTOR_BYTES - 2 * SECTOR_BYTES;
    bytes[sector..sector + SECTOR_BYTES].fill(0);
    std::fs::write(&path, &bytes).expect("written");
    assert_eq!(last_entry(directory.path()).expect("torn"), 1);
}

#[test]
fn an_older_journal_must_be_whole() {
    let directory = tempfile::tempdir().expect("a directory");
    let (path, written) = log(directory.path());
    std::fs::write(directory.path().join("900.jnl"), []).expect("written");
    check(directory.path()).expect("sound");
    std::fs::write(&path, &written[..written.len() - 5]).expect("written");
    assert!(matches!(
        check(directory.path()),
        Err(JournalError::Rotten { .. })
    ));
}

#[test]
fn what_was_cut_off_can_be_put_back() {
    let directory = tempfile::tempdir().expect("a directory");
    let (path, written) = log(directory.path());
    let torn = &written[..written.len() - 5];
    std::fs::write(&path, torn).expect("written");
    let cut_off = check(directory.path())
        .expect("torn")
        .expect("something is cut off");
    let left = std::fs::read(&path).expect("readable");
    assert!(left.len() < torn.len() && check(directory.path()).expect("sound").is_none());
    cut_off.put_back().expect("writable");
    assert_eq!(std::fs::read(&path).expect("readable"), torn);
}
