//! Data directories that a member is given: found again, or refused and left as they were.

#![allow(clippy::disallowed_methods)] // tests break files

use super::*;
use crate::bootstrap::founding::found;
use crate::env;
use crate::proto::peer::Entry;
use crate::state::{CommittedEntry, Payload};
use crate::storage::log::LogError;
use crate::storage::state::meta::APPLIED_KEY;
use crate::storage::state::{StateKeyspace, StateOptions};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn config(directory: &Path, name: &str, port: u16) -> config::Server {
    let flags = [
        "callboard".to_owned(),
        format!("--name={name}"),
        format!("--data-dir={}", directory.display()),
        format!("--listen-peer-urls=http://127.0.0.1:{port}"),
        format!("--initial-advertise-peer-urls=http://127.0.0.1:{port}"),
        "--initial-cluster=a=http://127.0.0.1:7001,b=http://127.0.0.1:7002".to_owned(),
    ];
    match config::parse(flags.map(std::ffi::OsString::from), [], |_| Err(String::new())) {
        Ok(config::Invocation::Server(config)) => *config,
        other => panic!("sound flags: {other:?}"),
    }
}

fn start(directory: &Path) -> Result<OpenedMember, StartError> {
    start_with(&config(directory, "a", 7001))
}

fn start_with(config: &config::Server) -> Result<OpenedMember, StartError> {
    // Nobody else is asked.
    let begin = || {
        let listed = config.initial_cluster()?;
        let checked = listed.check_join(&config.name);
        checked.map_err(config::Error::from)?;
        found(config, &listed)
    };
    let is_new = !DataDirectory::is_claimed(&config.data_dir);
    let beginning = is_new.then(begin).transpose()?;
    open(config, &EngineOptions::default(), 1, beginning)
}

/// A start that must not succeed.
fn refusal(directory: &Path, story: &str) -> StartError {
    match start(directory) {
        Ok(_) => panic!("not refused: {story}"),
        Err(error) => error,
    }
}

#[test]
fn a_directory_is_refused_under_another_members_address() {
    env::block_on(async {
        let directory = tempfile::tempdir().expect("a directory");
        let start =
            |name, port| start_with(&config(directory.path(), name, port)).map(|opened| opened.identity);
        let first = start("a", 7001).expect("founded");
        assert_eq!(start("a", 7001).expect("found again"), first);
        assert_eq!(start("renamed", 7009).expect("later flags do not count"), first);
        assert!(
            matches!(start("b", 7002), Err(StartError::AnothersDirectory { owner, .. }) if owner == first.member)
        );
    });
}

fn entry(index: u64) -> Entry {
    Entry {
        index,
        term: 1,
        data: vec![7; 600].into(),
        ..Default::default()
    }
}

/// Writes and applies an entry; all of it is synced.
fn work(opened: &mut OpenedMember, index: LogIndex) {
    opened
        .log
        .append(&[entry(index.0)], false, None)
        .expect("written");
    opened.log.sync().expect("synced");
    let committed = CommittedEntry {
        index,
        term: Term(1),
        payload: Payload::Empty,
    };
    opened.machine.apply(&[committed]).expect("applied");
    opened.machine.state().sync().expect("synced");
}

/// A member's directory after some work, and a state beside it that a snapshot has replaced. The log's journal ends torn:
/// who starts in it cuts that off.
fn worn(directory: &Path) {
    let mut opened = start(directory).expect("founded");
    let first = opened.recovered.cut.index.next();
    work(&mut opened, first);
    opened.log.rewrite().expect("tables");
    opened.machine.state().flush().expect("tables");
    for index in 1..4 {
        work(&mut opened, LogIndex(first.0 + index));
    }
    drop(opened);
    // The engine cuts off the room at the end.
    drop(start(directory).expect("found again"));
    let journal = directory.join("log/0.jnl");
    let mut bytes = std::fs::read(&journal).expect("readable");
    bytes.extend(&[1, 9, 0, 0, 0]);
    std::fs::write(&journal, &bytes).expect("written");
    std::fs::create_dir(directory.join("state-9")).expect("made");
    std::fs::write(directory.join("state-9/0.jnl"), b"old").expect("written");
}

/// All files below a directory, with what they hold.
fn contents(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(directory).expect("readable") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            found.insert(path.clone(), Vec::new());
            found.extend(contents(&path));
        } else {
            let bytes = std::fs::read(&path).expect("readable");
            found.insert(path, bytes);
        }
    }
    found
}

fn assert_same(before: &BTreeMap<PathBuf, Vec<u8>>, after: &BTreeMap<PathBuf, Vec<u8>>, story: &str) {
    for name in before.keys().chain(after.keys()) {
        assert!(
            before.get(name) == after.get(name),
            "{story}: {} has changed",
            name.display()
        );
    }
}

/// Breaks a worn directory and has it refused, twice, without a change.
fn refused(story: &str, break_it: impl FnOnce(&Path)) -> StartError {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path();
    worn(path);
    break_it(path);
    let before = contents(path);
    for _ in 0..2 {
        let error = refusal(path, story);
        assert_same(&before, &contents(path), &format!("{story} ({error})"));
    }
    refusal(path, story)
}

fn flip(path: &Path, place: usize) {
    let mut bytes = std::fs::read(path).expect("readable");
    bytes[place] ^= 1;
    std::fs::write(path, &bytes).expect("written");
}

/// The list of tables in use of a keyspace.
fn list_of_tables(keyspace: &Path) -> PathBuf {
    let current = std::fs::read(keyspace.join("current")).expect("readable");
    crate::storage::manifest::list_in_use(keyspace, &current).expect("a list")
}

/// Cuts the last bytes of a journal off, so many batches, as a disk does that has lost them.
fn shorten(journal: &Path, batches: usize) {
    let bytes = std::fs::read(journal).expect("readable");
    let ends: Vec<_> = (0..bytes.len())
        .filter(|at| bytes[..*at].ends_with(b"FJL\x03"))
        .collect();
    let end = ends[ends.len() - 1 - batches];
    std::fs::write(journal, &bytes[..end]).expect("written");
}

#[test]
fn what_is_refused_stays_as_it_was_found() {
    env::block_on(async {
        refused("rotten list of the log's tables", |path| {
            flip(&list_of_tables(&path.join("log/keyspaces/1")), 20);
        });
        refused("rotten list of the state's tables", |path| {
            flip(&list_of_tables(&path.join("state-1/keyspaces/4")), 20);
        });
        refused("rotten journal of the state", |path| {
            flip(&path.join("state-1/0.jnl"), 100);
        });
        refused("rotten journal of the log", |path| {
            flip(&path.join("log/0.jnl"), 100);
        });
        refused("rotten identity", |path| flip(&path.join("identity"), 9));
        refused("rotten contacts", |path| {
            Contacts::begin(path).expect("written");
            flip(&path.join("contacts"), 9);
        });
        refused("no identity", |path| {
            std::fs::remove_file(path.join("identity")).expect("removed");
        });
        refused("rotten contacts", |path| {
            std::fs::write(path.join("contacts"), b"{}\n00000000\n").expect("written");
        });
        for keyspace in [
            "log/keyspaces/0",
            "log/keyspaces/1",
            "state-1/keyspaces/0",
            "state-1/keyspaces/4",
        ] {
            refused("lost list of tables", |path| {
                std::fs::remove_file(path.join(keyspace).join("current")).expect("removed");
            });
        }
        refused("rotten name of the state", |path| {
            std::fs::write(path.join("state"), b"state-1 7\n00000000\n").expect("written");
        });
        let error = refused("log behind the state", |path| shorten(&path.join("log/0.jnl"), 2));
        assert!(matches!(error, StartError::LogBehindState { .. }), "{error}");
    });
}

#[test]
fn what_only_an_open_engine_tells_is_undone() {
    env::block_on(async {
        refused("a record of the log that does not read", |path| {
            let (log, recovered) = LogDatabase::open(&path.join("log"), None).expect("sound");
            log.spoil(recovered.cut.index.next());
            drop(log);
            tear(&path.join("log/0.jnl"));
        });
        refused("a record of the state that does not read", |path| {
            let path = path.join("state-1");
            let state = StateDatabase::open(&path, &StateOptions::production()).expect("sound");
            let mut batch = state.batch(1);
            batch.insert(StateKeyspace::Meta, APPLIED_KEY, &b"no record"[..]);
            batch.commit().expect("written");
            drop(state);
            tear(&path.join("0.jnl"));
        });
        let error = refused("state behind the log", |path| {
            let (log, recovered) = LogDatabase::open(&path.join("log"), None).expect("sound");
            let last = recovered.last().0;
            let cut = Cut {
                index: LogIndex(last),
                term: Term(1),
            };
            log.cut(cut).expect("written");
            drop(log);
            tear(&path.join("log/0.jnl"));
            shorten(&path.join("state-1/0.jnl"), 2);
            tear(&path.join("state-1/0.jnl"));
        });
        assert!(matches!(error, StartError::StateBehindLog { .. }), "{error}");
    });
}

/// An engine at work makes tables of older journals, and removes those, as soon as it is open: not before it is certain that
/// the start is not refused.
#[test]
fn older_journals_stay_when_a_start_is_refused() {
    env::block_on(async {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path();
        let (aside, early) = (path.join("aside"), path.join("early"));
        let mut opened = start(path).expect("founded");
        let first = opened.recovered.cut.index.next();
        drop(opened);
        copy(&path.join("state-1"), &early);
        opened = start(path).expect("found again");
        for index in 0..4 {
            work(&mut opened, LogIndex(first.0 + index));
        }
        let cut = Cut {
            index: first,
            term: Term(1),
        };
        opened.log.cut(cut).expect("written");
        drop(opened);
        let is_whole = || {
            let opened = start(path).expect("its own again");
            assert_eq!(opened.machine.applied_index(), LogIndex(first.0 + 3));
            assert_eq!(opened.recovered.terms.len(), 3);
        };
        is_whole();
        // The database that is refused for what it says, and the one that is changed by that; which refusal comes.
        for (other, changed) in [("state-1", "log"), ("log", "state-1")] {
            let (other, changed) = (path.join(other), path.join(changed));
            copy(&other, &aside);
            if other.ends_with("log") {
                let (log, _) = LogDatabase::open(&other, None).expect("sound");
                log.spoil(first.next());
            } else {
                std::fs::remove_dir_all(&other).expect("removed");
                copy(&early, &other);
            }
            let newest = std::fs::read_dir(&changed)
                .expect("readable")
                .flatten()
                .find_map(|entry| {
                    let name = entry.file_name().into_string().ok()?;
                    name.strip_suffix(".jnl")?.parse::<u64>().ok()
                });
            let newest = newest.expect("a journal");
            let next = changed.join(format!("{}.jnl", newest + 1));
            std::fs::write(&next, []).expect("written");
            tear(&next);
            // Tables, and lists of them, that are not in use any more go whenever a database is opened.
            let files = || {
                let mut files = contents(path);
                files.retain(|path, _| path.iter().all(|name| name != "keyspaces"));
                files
            };
            let before = files();
            for _ in 0..2 {
                let error = refusal(path, "a part of another time");
                assert_same(&before, &files(), &error.to_string());
                let expected = if other.ends_with("log") {
                    matches!(error, StartError::Log(LogError::Corrupt { .. }))
                } else {
                    matches!(error, StartError::StateBehindLog { .. })
                };
                assert!(expected, "{error}");
            }
            std::fs::remove_dir_all(&other).expect("removed");
            std::fs::rename(&aside, &other).expect("renamed");
            is_whole();
        }
    });
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).expect("made");
    for entry in std::fs::read_dir(from).expect("readable") {
        let path = entry.expect("readable").path();
        let copied = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy(&path, &copied);
        } else {
            std::fs::copy(&path, &copied).expect("copied");
        }
    }
}

const TORN: &[u8] = &[1, 9, 0, 0, 0];

/// Has a journal end with what looks like the beginning of a batch.
fn tear(journal: &Path) {
    let mut bytes = std::fs::read(journal).expect("readable");
    bytes.extend(TORN);
    std::fs::write(journal, &bytes).expect("written");
}

#[test]
fn another_members_directory_stays_as_it_was_found() {
    env::block_on(async {
        let directory = tempfile::tempdir().expect("a directory");
        worn(directory.path());
        let before = contents(directory.path());
        let other = config(directory.path(), "b", 7002);
        let Err(error) = start_with(&other) else {
            panic!("another's");
        };
        assert!(matches!(error, StartError::AnothersDirectory { .. }), "{error}");
        assert!(contents(directory.path()) == before);
        let opened = start(directory.path()).expect("its own");
        assert_eq!(opened.recovered.terms.len(), 4);
        assert!(
            !directory.path().join("state-9").exists(),
            "what is not in use goes"
        );
    });
}

#[test]
fn a_first_start_that_is_refused_makes_nothing() {
    env::block_on(async {
        let scratch = tempfile::tempdir().expect("a directory");
        let directory = scratch.path().join("data");
        let mut config = config(&directory, "a", 7001);
        config.initial_cluster_text.clear();
        assert!(start_with(&config).is_err());
        assert!(!directory.exists());
        // One that was cut short is no member's.
        let opened = start(&directory).expect("founded");
        let identity = opened.identity;
        drop(opened);
        std::fs::remove_file(directory.join("identity")).expect("removed");
        assert_ne!(start(&directory).expect("founded again").identity, identity);
    });
}

#[test]
fn a_log_whose_end_has_rotted_is_left_as_it_was_found() {
    env::block_on(async {
        let directory = tempfile::tempdir().expect("a directory");
        let mut opened = start(directory.path()).expect("founded");
        let index = opened.recovered.cut.index.next();
        work(&mut opened, index);
        drop(opened);
        let journal = directory.path().join("log/0.jnl");
        let read = || env::read_file(&journal).expect("readable").expect("a journal");
        let write = |bytes: &[u8]| env::write_file(&journal, bytes).expect("written");
        let sound = read();
        let last = sound.iter().rposition(|byte| *byte != 0).expect("a batch");
        let mut rotten = sound.clone();
        rotten[last] = 0;
        write(&rotten);
        for _ in 0..2 {
            let error = refusal(directory.path(), "rot");
            assert!(matches!(error, StartError::LogBehindState { .. }), "{error}");
            assert!(read() == rotten, "it was not put back");
        }
        write(&sound);
        assert_eq!(
            start(directory.path()).expect("sound again").recovered.terms,
            [Term(1)]
        );
    });
}

fn bare_entry(index: LogIndex, term: u64) -> Entry {
    Entry {
        index: index.0,
        term,
        ..Default::default()
    }
}

/// A member whose log has three entries of term 2, and whose state has applied an entry of `term` at the second of them.
fn with_a_tail_and_a_state(directory: &Path, term: u64, came_as_snapshot: bool) -> LogIndex {
    let mut opened = start(directory).expect("founded");
    let first = opened.recovered.cut.index.next();
    let (second, third) = (first.next(), first.next().next());
    let entries = [bare_entry(first, 2), bare_entry(second, 2), bare_entry(third, 2)];
    opened.log.append(&entries, false, None).expect("written");
    opened.log.sync().expect("synced");
    let committed = [(first, term.min(2)), (second, term)].map(|(index, term)| CommittedEntry {
        index,
        term: Term(term),
        payload: Payload::Empty,
    });
    opened.machine.apply(&committed).expect("applied");
    opened.machine.state().sync().expect("synced");
    if came_as_snapshot {
        let path = opened.directory.state_path().expect("a path");
        opened.directory.activate_state(&path, second).expect("activated");
    }
    second
}

#[test]
fn a_tail_that_conflicts_with_the_snapshot_in_front_of_it_goes() {
    // The term that the state has at the second of three entries of term 2; whether it came as a snapshot; how many
    // entries are left.
    for (term, came_as_snapshot, left) in [
        (2, false, Some(3)),
        (2, true, Some(3)),
        (3, true, Some(0)),
        (3, false, None),
    ] {
        env::block_on(async {
            let directory = tempfile::tempdir().expect("a directory");
            let applied = with_a_tail_and_a_state(directory.path(), term, came_as_snapshot);
            for _ in 0..2 {
                match (start(directory.path()), left) {
                    (Ok(opened), Some(left)) => {
                        assert_eq!(opened.recovered.terms.len(), left, "term {term}");
                        assert_eq!(term_at(&opened.recovered, applied), Some(Term(term)));
                    }
                    (Err(StartError::LogNotOfState { .. }), None) => {}
                    (started, _) => panic!("term {term}: {:?}", started.map(|opened| opened.recovered)),
                }
            }
        });
    }
}
