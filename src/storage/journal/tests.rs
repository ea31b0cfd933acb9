//! Breaks journals in every way that a disk may break them. Each must be refused, or must lose nothing that was synced.

#![allow(clippy::disallowed_methods)] // tests break files

use super::*;
use crate::proto::peer::Entry;
use crate::storage::journal::damage::SECTOR_BYTES;
use crate::storage::log::{LogDatabase, LogError};

const ENTRIES: u64 = 6;

/// Creates a synced log of a few entries. Returns the path of its journal and the part of it that is written.
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

/// Checks journals and cuts off a torn end; true if there was one.
fn check(directory: &Path) -> Result<bool, JournalError> {
    let found = Found::look(directory)?;
    found.cut()?;
    Ok(found.is_torn())
}

fn entry(index: u64, bytes: usize) -> Entry {
    Entry {
        index,
        term: 1,
        data: vec![index as u8; bytes].into(),
        ..Entry::default()
    }
}

#[test]
fn a_look_syncs_every_directory_in_which_the_engine_makes_files() {
    let directory = tempfile::tempdir().expect("a directory");
    let database = directory.path().join("log");
    assert_eq!(Found::look(&database).expect("nothing there").batches, 0);
    log(&database);
    let mut found = directories(&database).expect("readable");
    found.sort();
    let mut expected = vec![database.clone(), database.join("keyspaces")];
    for name in env::list_directory(&database.join("keyspaces")).expect("readable") {
        let keyspace = database.join("keyspaces").join(name);
        expected.extend([keyspace.join("tables"), keyspace]);
    }
    expected.sort();
    assert!(expected.len() > 3, "{expected:?}");
    assert_eq!(found, expected);
}

fn written(path: &Path) -> Vec<u8> {
    let mut file = DiskFile::open(path).expect("readable");
    file.rest(0).expect("readable")
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
        // No checksum covers the last batch's sequence number, and no batch depends on it.
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
    let mut torn = written[..written.len() - 5].to_vec();
    torn.resize(torn.len() + 3_000, 0);
    std::fs::write(&path, &torn).expect("written");
    let found = Found::look(directory.path()).expect("torn");
    assert_eq!(
        std::fs::read(&path).expect("readable"),
        torn,
        "a look changes nothing"
    );
    drop(LogDatabase::open_found(directory.path(), None, &found, Engine::Works).expect("torn"));
    let left = std::fs::read(&path).expect("readable");
    assert!(left.len() < torn.len());
    found.put_back().expect("writable");
    assert_eq!(std::fs::read(&path).expect("readable"), torn);
}

const PAGE_BYTES: usize = 4096;

/// The content of a journal after the loss of these pages, of those written beyond `synced_bytes`.
fn without_pages(written: &[u8], synced_bytes: usize, lost: impl Fn(usize) -> bool) -> Vec<u8> {
    let mut left = written.to_vec();
    for (at, byte) in left.iter_mut().enumerate().skip(synced_bytes) {
        if lost(at / PAGE_BYTES) {
            *byte = 0;
        }
    }
    left
}

#[test]
fn pages_lost_in_any_order_are_torn() {
    let directory = tempfile::tempdir().expect("a directory");
    let (log, _) = LogDatabase::open(directory.path(), None).expect("a new log");
    log.append(&[entry(1, 700)], false, None).expect("written");
    log.sync().expect("synced");
    let path = directory.path().join("0.jnl");
    let synced_bytes = written(&path).len();
    for index in 2..=12 {
        let bytes = 1_000 + 450 * (index as usize % 5);
        log.append(&[entry(index, bytes)], false, None).expect("written");
    }
    drop(log);
    let whole = written(&path);
    let pages = whole.len() / PAGE_BYTES + 1;
    let mut followed = 0;
    for lost in 1..1_u32 << pages {
        let left = without_pages(&whole, synced_bytes, |page| lost & (1 << page) != 0);
        std::fs::write(&path, &left).expect("written");
        let found = Found::look(directory.path()).unwrap_or_else(|error| panic!("{lost:b}: {error}"));
        let end = left.iter().rposition(|byte| *byte != 0).expect("something");
        let is_gap = lost & (lost + 1) != 0 && end > PAGE_BYTES;
        followed += u32::from(found.is_torn() && is_gap);
        assert!(found.batches >= 1, "{lost:b}");
    }
    let left = without_pages(&whole, synced_bytes, |page| page == 1);
    std::fs::write(&path, &left).expect("written");
    assert!(matches!(last_entry(directory.path()), Ok(1..=4)));
    assert!(followed > 10 && pages > 4, "{followed} of {pages} pages");
}

#[test]
fn a_page_that_was_synced_and_is_lost_has_rotted() {
    let directory = tempfile::tempdir().expect("a directory");
    let (log, _) = LogDatabase::open(directory.path(), None).expect("a new log");
    for index in 1..=12 {
        log.append(&[entry(index, 1_500)], false, None).expect("written");
        log.sync().expect("synced");
    }
    drop(log);
    let path = directory.path().join("0.jnl");
    let whole = written(&path);
    let pages = whole.len() / PAGE_BYTES + 1;
    for lost in 0..pages - 1 {
        let left = without_pages(&whole, 0, |page| page == lost);
        std::fs::write(&path, &left).expect("written");
        let error = Found::look(directory.path()).expect_err("rot");
        assert!(error.to_string().contains("on the disk"), "page {lost}: {error}");
        assert_eq!(std::fs::read(&path).expect("readable"), left);
    }
    // No later write proves the last page: it may never have reached the disk.
    let left = without_pages(&whole, 0, |page| page == pages - 1);
    std::fs::write(&path, &left).expect("written");
    assert!(check(directory.path()).expect("torn"));
}

#[test]
fn marks_go_on_after_a_cut_and_after_a_start() {
    let directory = tempfile::tempdir().expect("a directory");
    let (path, whole) = log(directory.path());
    std::fs::write(&path, &whole[..whole.len() - 9]).expect("written");
    let (log, recovered) = LogDatabase::open(directory.path(), None).expect("torn");
    let last = recovered.terms.len() as u64;
    assert_eq!(last, ENTRIES - 1);
    log.append(&[entry(last + 1, 5_000)], false, None)
        .expect("written");
    log.append(&[entry(last + 2, 100)], false, None).expect("written");
    drop(log);
    assert_eq!(last_entry(directory.path()).expect("sound"), last + 2);
    // The start had synced exactly what was there before.
    let whole = written(&path);
    let before = Found::look(directory.path()).expect("sound");
    assert_eq!(before.batches, last + 2);
    let mut rotten = whole.clone();
    rotten[..SECTOR_BYTES].fill(0);
    std::fs::write(&path, &rotten).expect("written");
    assert!(check(directory.path()).is_err());
    let mut torn = whole.clone();
    torn[PAGE_BYTES..PAGE_BYTES + SECTOR_BYTES].fill(0);
    std::fs::write(&path, &torn).expect("written");
    assert_eq!(last_entry(directory.path()).expect("torn"), last);
}

#[test]
fn what_a_client_stores_is_no_batch() {
    let other = tempfile::tempdir().expect("a directory");
    let (_, batches) = log(other.path());
    let directory = tempfile::tempdir().expect("a directory");
    let (log, _) = LogDatabase::open(directory.path(), None).expect("a new log");
    log.append(&[entry(1, 10)], false, None).expect("written");
    let forged = Entry {
        data: [vec![7; 3_000], batches, vec![7; 3_000]].concat().into(),
        ..entry(2, 0)
    };
    log.append(&[forged], false, None).expect("written");
    drop(log);
    let path = directory.path().join("0.jnl");
    let mut torn = written(&path);
    torn[SECTOR_BYTES..2 * SECTOR_BYTES].fill(0);
    std::fs::write(&path, &torn).expect("written");
    assert_eq!(last_entry(directory.path()).expect("torn"), 1);
}

#[test]
fn a_sector_that_ends_with_the_first_items_of_a_batch_is_torn() {
    let directory = tempfile::tempdir().expect("a directory");
    let (log, _) = LogDatabase::open(directory.path(), None).expect("a new log");
    log.append(&[entry(1, 300)], false, None).expect("written");
    let path = directory.path().join("0.jnl");
    let start = written(&path).len();
    // More than the engine's buffer, so the bytes before it are written by a call of their own.
    log.append(&[entry(2, 20_000)], false, None).expect("written");
    drop(log);
    let mut torn = written(&path);
    let boundary = start + 13;
    let end = boundary.next_multiple_of(SECTOR_BYTES);
    torn[boundary..end].fill(0);
    std::fs::write(&path, &torn).expect("written");
    assert_eq!(last_entry(directory.path()).expect("torn"), 1);
    torn[boundary + 3] = 1;
    std::fs::write(&path, &torn).expect("written");
    assert!(last_entry(directory.path()).is_err());
}

#[test]
fn a_journal_that_lacks_what_tables_hold_has_rotted() {
    let directory = tempfile::tempdir().expect("a directory");
    let (log, _) = LogDatabase::open(directory.path(), None).expect("a new log");
    log.append(&[entry(1, 10)], false, None).expect("written");
    log.append(&[entry(2, 3_000)], false, None).expect("written");
    // The engine syncs the journal without telling the writer.
    log.flush().expect("written");
    drop(log);
    let path = directory.path().join("0.jnl");
    let mut left = written(&path);
    left[2 * SECTOR_BYTES..3 * SECTOR_BYTES].fill(0);
    std::fs::write(&path, &left).expect("written");
    let found = Found::look(directory.path()).expect("torn, as far as it tells itself");
    let error = LogDatabase::open_found(directory.path(), None, &found, Engine::Works).expect_err("rot");
    assert!(error.to_string().contains("tables hold"), "{error}");
}
