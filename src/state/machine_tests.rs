//! The machine apart from its commands: replay, restart, membership, damage, snapshots.

use bytes::Bytes;

use crate::ids::{LogIndex, Term};
use crate::proto::log::command::Request;
use crate::proto::log::member_change::Change;
use crate::proto::log::{ClusterVersion, Member, MemberAttributes, PeerUrls};
use crate::proto::peer::ConfState;
use crate::state::machine::{CommittedEntry, InitialState, Machine, MachineOptions, Outcome};
use crate::state::mvcc::MvccError;
use crate::state::testing::{ORIGIN, TestMember, ToCommand, compact, delete, entry, everything, nested, put};
use crate::state::{ApplyError, MachineError, Payload};
use crate::storage::state::error::StateError;
use crate::storage::state::snapshot::{Cursor, StateImport};
use crate::storage::state::{StateDatabase, StateKeyspace, StateOptions};

#[test]
fn a_restart_goes_on_where_it_stopped() {
    let mut member = TestMember::new();
    for number in 0..200 {
        member
            .run(put(&format!("key{}", number % 50), &format!("value{number}")))
            .unwrap();
    }
    member.run(delete("key1", "key2")).unwrap();
    member.run(compact(100)).unwrap();
    let before = (
        member.range(&everything()),
        member.view().applied.clone(),
        member.view().hash_kv(0).unwrap(),
    );
    let member = member.reopen();
    let after = (
        member.range(&everything()),
        member.view().applied.clone(),
        member.view().hash_kv(0).unwrap(),
    );
    assert_eq!(before, after);
    assert_eq!(member.machine.applied_index(), LogIndex(member.index));
}

#[test]
fn entries_are_applied_once_and_without_holes() {
    let mut member = TestMember::new();
    let entries: Vec<CommittedEntry> = (2..6)
        .map(|index| entry(index, [put("k", &format!("{index}")).command()]))
        .collect();
    assert_eq!(member.machine.apply(&entries[..2]).unwrap().len(), 2);
    assert_eq!(
        member.machine.apply(&entries).unwrap().len(),
        2,
        "two of four were new"
    );
    assert_eq!(member.machine.apply(&entries).unwrap(), []);
    assert_eq!(member.view().revision(), 5);
    let error = member.machine.apply(&[entry(9, [])]).unwrap_err();
    assert!(matches!(
        error,
        MachineError::Hole {
            expected: 6,
            found: 9
        }
    ));
    let empty = CommittedEntry {
        index: LogIndex(6),
        term: Term(8),
        payload: Payload::Empty,
    };
    assert_eq!(member.machine.apply(&[empty]).unwrap(), []);
    assert_eq!((member.view().applied.index, member.view().applied.term), (6, 8));
    let broken = CommittedEntry {
        index: LogIndex(7),
        term: Term(8),
        payload: Payload::Commands(Bytes::from_static(b"\xff\xff")),
    };
    assert!(matches!(
        member.machine.apply(&[broken]),
        Err(MachineError::Entry { index: 7, .. })
    ));
    let of_another_kind = [
        Payload::Configuration(Bytes::new()),
        Payload::Unknown {
            context: Bytes::from_static(&[2]),
            data: Bytes::new(),
        },
    ];
    for payload in of_another_kind {
        let entry = CommittedEntry {
            index: LogIndex(7),
            term: Term(8),
            payload,
        };
        let refused = member.machine.apply(&[entry]).expect_err("it is not empty");
        assert!(refused.to_string().contains("upgrade this member"), "{refused}");
    }
}

#[test]
fn a_command_that_cannot_be_read_is_refused_and_changes_nothing() {
    let mut member = TestMember::new();
    let outcomes = member.run_all(vec![
        put("a", "1").command(),
        nested(60).command(),
        put("b", "2").command(),
    ]);
    assert!(matches!(outcomes[0], Ok(Outcome::Put(_))));
    assert_eq!(outcomes[1], Err(ApplyError::Unreadable));
    assert!(matches!(outcomes[2], Ok(Outcome::Put(_))));
    let found = member.reopen().range(&everything());
    let keys: Vec<_> = found.kvs.iter().map(|kv| kv.key.clone()).collect();
    assert_eq!(
        (keys, found.header.unwrap().revision),
        (vec!["a".into(), "b".into()], 3)
    );
}

#[test]
fn only_own_commands_are_answered() {
    let mut member = TestMember::new();
    let (mut other, _) =
        Machine::open(member.state().clone(), ORIGIN + 1, MachineOptions::default()).unwrap();
    assert_eq!(
        other.apply(&[member.entry([put("a", "1").command()])]).unwrap(),
        []
    );
    assert!(matches!(
        other.initialize(InitialState::default()),
        Err(MachineError::AlreadyInitialized)
    ));
}

#[test]
fn large_entries_are_split_over_engine_batches() {
    let mut member = TestMember::new();
    let value = "v".repeat(300_000);
    let entries: Vec<CommittedEntry> = (0..12)
        .map(|number| member.entry([put(&format!("{}", number % 3), &value).command()]))
        .collect();
    assert_eq!(member.machine.apply(&entries).unwrap().len(), 12);
    assert_eq!(member.view().revision(), 13);
    let member = member.reopen();
    assert_eq!(
        member
            .range(&everything())
            .kvs
            .iter()
            .map(|kv| kv.version)
            .collect::<Vec<_>>(),
        [4, 4, 4]
    );
}

#[test]
fn members_are_kept_with_the_state() {
    let mut member = TestMember::new();
    let attributes = |member_id, incarnation| {
        let client_urls = vec!["http://a:1".to_owned()];
        Request::MemberAttributes(MemberAttributes {
            member_id,
            name: "m1".to_owned(),
            client_urls,
            incarnation,
        })
    };
    assert_eq!(member.run(attributes(5, 11)), Ok(Outcome::Done));
    assert_eq!(
        member.run(attributes(5, 12)),
        Err(ApplyError::IncarnationConflict)
    );
    assert_eq!(member.run(attributes(6, 12)), Err(ApplyError::MemberNotFound));
    assert_eq!(
        member.run(Request::ClusterVersion(ClusterVersion {
            version: "3.7.0".to_owned()
        })),
        Ok(Outcome::Done)
    );
    let moved = |member_id, url: &str| {
        Request::PeerUrls(PeerUrls {
            member_id,
            peer_urls: vec![url.to_owned()],
        })
    };
    assert_eq!(
        member.run(moved(6, "http://b:2")),
        Err(ApplyError::MemberNotFound)
    );
    let Ok(Outcome::MemberUpdate(update)) = member.run(moved(5, "http://b:2")) else {
        panic!("it is a member");
    };
    assert_eq!(update.members[0].peer_ur_ls, ["http://b:2"]);
    assert_eq!(member.view().cluster.members[0].peer_urls, ["http://b:2"]);
    assert_eq!(member.view().revision(), 1);
    let index = LogIndex(member.index + 1);
    let added = Change::Add(Member {
        id: 9,
        ..Default::default()
    });
    member.change_members(added).unwrap();
    let conf_state = ConfState {
        voters: vec![5, 9],
        ..Default::default()
    };
    let member = member.reopen();
    let cluster = member.view().cluster.clone();
    assert_eq!(
        (cluster.version.as_str(), &cluster.conf_state),
        ("3.7.0", &conf_state)
    );
    assert_eq!(
        cluster
            .members
            .iter()
            .map(|member| (member.id, member.incarnation))
            .collect::<Vec<_>>(),
        [(5, 11), (9, 0)]
    );
    assert_eq!(member.machine.applied_index(), index);
}

#[test]
fn compaction_gives_space_back_only_behind_a_sync() {
    let mut member = TestMember::new();
    for number in 0..100 {
        member.run(put("k", &format!("{number:0100}"))).unwrap();
    }
    member.state().flush().unwrap();
    let bytes_before = member.state().disk_bytes();
    member.run(compact(90)).unwrap();
    assert_eq!(member.state().floor(), -1);
    member.state().reclaim().unwrap();
    assert_eq!(member.state().floor(), 90);
    member.machine.republish();
    assert!(matches!(member.view().changes(89, 10), Err(MvccError::Compacted)));
    assert_eq!(member.view().changes(90, 3).unwrap().len(), 3);
    // Replacements after revision 90 still refer to older history, until they are compacted too.
    let mut at_91 = everything();
    at_91.revision = 91;
    assert_eq!(member.range(&at_91).kvs[0].value, format!("{:0100}", 89));
    member.run(compact(101)).unwrap();
    member.state().reclaim().unwrap();
    // Until now the published view has kept the old tables.
    member.machine.republish();
    member.state().remove_retired_tables().unwrap();
    assert!(
        member.state().disk_bytes() < bytes_before / 4,
        "{} of {bytes_before}",
        member.state().disk_bytes()
    );
}

#[test]
fn whole_tables_of_compacted_revisions_go_at_once_and_not_for_who_still_reads_them() {
    // Merging is off, as with large amounts of data.
    let mut member = TestMember::with(&StateOptions {
        merge_bytes_max: 0,
        ..StateOptions::simulator()
    });
    for number in 0..100 {
        member.run(put("k", &format!("{number:01000}"))).unwrap();
        if number % 10 == 9 {
            member.state().flush().unwrap();
        }
    }
    let tables = |member: &TestMember, keyspace| {
        let tables = member.state().tables().into_iter();
        tables.filter(|table| table.keyspace == keyspace).count()
    };
    assert_eq!(
        (tables(&member, "replaced"), tables(&member, "history")),
        (10, 10)
    );
    let before = member.view();
    let (hash, changes) = (before.hash_kv(0).unwrap(), before.changes(2, 1000).unwrap().len());
    let mut at_96 = everything();
    at_96.revision = 96;
    let as_it_was = member.range(&at_96);
    member.run(compact(95)).unwrap();
    member.state().drop_compacted().unwrap();
    assert_eq!(
        tables(&member, "replaced"),
        10,
        "the compaction is not on disk yet"
    );
    member.state().sync().unwrap();
    member.state().drop_compacted().unwrap();
    // The removed tables held revisions 2 to 91. Their history is still referred to.
    assert_eq!((tables(&member, "replaced"), tables(&member, "history")), (1, 10));
    assert_eq!(member.range(&at_96), as_it_was);
    member.run(compact(101)).unwrap();
    member.state().reclaim().unwrap();
    member.machine.republish();
    assert!(tables(&member, "replaced") <= 1 && tables(&member, "history") <= 3);
    assert_eq!(member.range(&everything()).kvs[0].value, format!("{:01000}", 99));
    assert_eq!(member.view().changes(101, 9).unwrap().len(), 1);
    // A view that was taken before still reads what it saw.
    assert_eq!(before.hash_kv(0).unwrap(), hash);
    assert_eq!(before.changes(2, 1000).unwrap().len(), changes);
}

#[test]
fn damaged_records_are_reported() {
    let mut member = TestMember::new();
    member.run(put("k", "1")).unwrap();
    member.run(put("k", "2")).unwrap();
    let mut stored = member
        .state()
        .get(StateKeyspace::Current, b"k")
        .unwrap()
        .unwrap()
        .to_vec();
    *stored.last_mut().unwrap() ^= 1;
    let mut batch = member.state().batch(1);
    batch.insert(StateKeyspace::Current, Bytes::from_static(b"k"), stored);
    batch.commit().unwrap();
    // A member that opens the database starts with an empty cache.
    let mut member = member.reopen();
    let view = member.view();
    assert!(matches!(
        view.get(&Bytes::from_static(b"k")),
        Err(StateError::Corrupt {
            keyspace: "current",
            ..
        })
    ));
    assert!(view.range(&everything()).unwrap().run().is_err());
    let mut batch = member.state().batch(2);
    for keyspace in [StateKeyspace::History, StateKeyspace::Replaced] {
        let (key, value) = view.stored::<_, Bytes>(keyspace, ..).next().unwrap().unwrap();
        let mut damaged = value.to_vec();
        *damaged.last_mut().unwrap() ^= 1;
        batch.insert(keyspace, key, damaged);
    }
    batch.commit().unwrap();
    member.machine.republish();
    let view = member.view();
    let mut at_2 = everything();
    at_2.revision = 2;
    assert!(view.range(&at_2).unwrap().run().is_err());
    assert!(matches!(
        view.hash_kv(0),
        Err(MvccError::State(StateError::Corrupt { .. }))
    ));
    assert!(view.changes(2, 1).is_err());
    let put = member.entry([put("k", "3").command()]);
    assert!(matches!(
        member.machine.apply(&[put]),
        Err(MachineError::State(StateError::Corrupt { .. }))
    ));
}

#[test]
fn a_snapshot_rebuilds_the_state_elsewhere() {
    let mut member = TestMember::new();
    for number in 0..300 {
        member
            .run(put(&format!("key{}", number % 70), &format!("value{number}")))
            .unwrap();
    }
    member.run(compact(150)).unwrap();
    member.state().reclaim().unwrap();
    let view = member.view();
    let expected = (
        member.range(&everything()),
        view.applied.clone(),
        view.cluster.clone(),
        view.hash_kv(200).unwrap(),
    );
    member.run(put("later", "1")).unwrap();

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state");
    let mut import = StateImport::begin(&path, &StateOptions::simulator()).unwrap();
    let mut cursor = None;
    loop {
        // Each chunk comes from a new stream, as after an interrupted transfer.
        let records = view.records(cursor.as_ref()).unwrap().next_chunk(2000).unwrap();
        let Some(last) = records.last() else { break };
        cursor = Some(Cursor {
            keyspace: last.keyspace,
            key: last.key.clone(),
        });
        import.write(records).unwrap();
    }
    let imported = import.finish().unwrap();
    let mut other = TestMember::new();
    other.machine.replace(imported).unwrap();
    let view = other.view();
    let read = (
        other.range(&everything()),
        view.applied.clone(),
        view.cluster.clone(),
        view.hash_kv(200).unwrap(),
    );
    assert_eq!(read, expected);
    other.index = view.applied.index;
    other.run(put("later", "1")).unwrap();
    assert_eq!(
        other.view().hash_kv(0).unwrap(),
        member.view().hash_kv(0).unwrap()
    );
    drop(view);

    let again = StateImport::begin(other.state().path(), &StateOptions::simulator());
    assert!(again.is_err(), "locked, or not empty");
    let elsewhere = directory.path().join("other");
    let empty = StateImport::begin(&elsewhere, &StateOptions::simulator()).unwrap();
    assert!(matches!(empty.finish(), Err(StateError::ImportIncomplete)));
    let state = StateDatabase::open(&elsewhere, &StateOptions::simulator()).unwrap();
    assert!(
        !Machine::open(state, ORIGIN, MachineOptions::default())
            .unwrap()
            .0
            .is_initialized()
    );
}
