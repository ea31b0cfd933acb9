use super::*;
use crate::storage::state::StateOptions;
use fjall::AbstractTree;
use std::path::Path;
use std::sync::Arc;

const KIB: u64 = 1024;

/// Some seconds.
const ATTEMPTS: usize = 400;

/// Small memtables and tables, so that little data takes several levels.
fn options() -> StateOptions {
    StateOptions {
        memtable_bytes: 64 * KIB,
        table_bytes: 128 * KIB,
        merge_bytes_max: 64 * KIB,
        garbage_bytes_max: 256 * KIB,
        ..StateOptions::production()
    }
}

fn open(path: &Path) -> Arc<StateDatabase> {
    StateDatabase::open(path, &options()).expect("a database")
}

fn key(round: usize, number: usize) -> Bytes {
    format!("round {round} key {number:05}").into_bytes().into()
}

fn put(state: &StateDatabase, round: usize, numbers: std::ops::Range<usize>, value_bytes: usize) {
    for number in numbers {
        let mut batch = state.batch(1);
        let value = vec![number as u8; value_bytes];
        batch.insert(StateKeyspace::Current, key(round, number), value);
        batch.commit().expect("written");
        if number % 40 == 39 {
            state.flush().expect("a table");
        }
    }
}

fn delete(state: &StateDatabase, round: usize, numbers: std::ops::Range<usize>) {
    for number in numbers {
        let mut batch = state.batch(1);
        batch.remove(StateKeyspace::Current, key(round, number));
        batch.commit().expect("written");
    }
}

/// The bytes of the tables that exist, whether in use or not.
fn files_bytes(state: &StateDatabase) -> u64 {
    let tables = state.path().join("keyspaces/1/tables");
    let names = env::list_directory(&tables).expect("a directory");
    let length = |name: &String| {
        let file = env::DiskFile::look_into(&tables.join(name)).expect("readable");
        file.map_or(0, |file| file.length().expect("a length"))
    };
    names.iter().map(length).sum()
}

/// Calls until tables take no more than this, as a member's checkpoint thread does every second. Returns what they take: the
/// engine's worker may be merging the same tables at first.
fn collect(state: &StateDatabase, live_bytes: u64, allowed_bytes: u64) -> u64 {
    let mut files = 0;
    for _ in 0..ATTEMPTS {
        state.collect_garbage(live_bytes).expect("collected");
        files = files_bytes(state);
        if files <= allowed_bytes {
            break;
        }
        env::wait_for_disk();
    }
    files
}

#[test]
fn deleted_records_do_not_pile_up() {
    let scratch = tempfile::tempdir().expect("a directory");
    let state = open(&scratch.path().join("state"));
    for round in 0..6 {
        put(&state, round, 0..400, 10_000);
        delete(&state, round, 0..400);
        let allowed = 256 * KIB + 64 * KIB;
        let (files, told) = (collect(&state, 0, allowed), state.disk_bytes());
        assert!(files <= allowed, "round {round}: {files} bytes of tables");
        assert!(
            told.abs_diff(files) <= 128 * KIB,
            "round {round}: {told} told, {files} there"
        );
    }
}

#[test]
fn what_is_live_stays_beside_what_is_deleted() {
    let scratch = tempfile::tempdir().expect("a directory");
    let state = open(&scratch.path().join("state"));
    put(&state, 0, 0..800, 10_000);
    let before = state.snapshot();
    delete(&state, 0, 100..700);
    state.collect_garbage(200 * 10_000).expect("collected");
    let files = files_bytes(&state);
    assert!(files >= 800 * 10_000, "{files} bytes: a snapshot reads them");
    let records = before.range::<Bytes, _>(state.keyspace(StateKeyspace::Current), ..);
    assert_eq!(records.count(), 800);
    drop(before);
    let files = collect(&state, 200 * 10_000, 3_400_000);
    assert!(files <= 3_400_000, "{files} bytes");
    for number in [0, 99, 100, 699, 700, 799] {
        let found = state
            .get(StateKeyspace::Current, &key(0, number))
            .expect("readable");
        assert_eq!(found.is_some(), !(100..700).contains(&number), "{number}");
    }
}

/// The engine does not merge a table with others that end before it.
#[test]
fn deletions_beyond_the_last_stored_key_are_brought_down() {
    let scratch = tempfile::tempdir().expect("a directory");
    let state = open(&scratch.path().join("state"));
    put(&state, 0, 0..800, 10_000);
    state.flush().expect("tables");
    state.rewrite().expect("rewritten");
    // The last of these was never written to a table.
    delete(&state, 0, 0..820);
    let allowed = 256 * KIB + 64 * KIB;
    let files = collect(&state, 0, allowed);
    assert!(files <= allowed, "{files} bytes");
}

#[test]
fn few_deletions_spread_over_much_are_brought_down() {
    let scratch = tempfile::tempdir().expect("a directory");
    let state = open(&scratch.path().join("state"));
    put(&state, 0, 0..2_000, 10_000);
    // Each deletion is nearly alone in its table and spans all of the tables below: more than fifty of these.
    for number in (0..2_000).filter(|number| number % 3 > 0) {
        delete(&state, 0, number..number + 1);
    }
    let live_bytes = 667 * 10_000;
    let allowed = live_bytes * 3 / 2 + 512 * KIB;
    let files = collect(&state, live_bytes, allowed);
    assert!(files <= allowed, "{files} bytes");
}

#[test]
fn nothing_is_merged_that_frees_nothing() {
    let scratch = tempfile::tempdir().expect("a directory");
    let state = open(&scratch.path().join("state"));
    put(&state, 0, 0..200, 10_000);
    // More is stored than is live, and no deletion explains it.
    state.flush().expect("tables");
    for _ in 0..10 {
        state.collect_garbage(1_000).expect("collected");
    }
    let list = || state.keyspace(StateKeyspace::Current).tree.current_version().id();
    let newest = list();
    state.collect_garbage(1_000).expect("collected");
    assert_eq!(list(), newest);
}
