//! Backup files, checked with a strict reader.

use super::bolt::PAGE_BYTES;
use super::reader::{Content, read};
use super::{BackupFile, buckets::Bucket, file::BackupError};
use crate::proto::etcdserverpb::{LeaseGrantRequest, PutRequest, TxnRequest};
use crate::proto::log::command::Request;
use crate::proto::mvccpb::KeyValue;
use crate::state::View;
use crate::state::testing::{TestMember, ToOperation, compact, delete, put};
use prost::Message;
use std::sync::Arc;

fn file(view: &Arc<View>) -> Vec<u8> {
    let mut backup = BackupFile::lay_out(Arc::clone(view), || true).expect("laid out");
    let mut file = vec![];
    while let Some(pages) = backup.next_pages().expect("readable") {
        file.extend(pages);
    }
    assert_eq!(file.len() as u64, backup.bytes());
    file
}

fn content(member: &TestMember) -> Content {
    read(&file(&member.view())).expect("in order")
}

/// The bucket `key` in short: revisions, `t` for a delete, keys and values.
fn keys(member: &TestMember) -> Vec<String> {
    let entries = content(member).remove("key").expect("a bucket");
    let told = entries.iter().map(|(revision, value)| {
        let number = |range: std::ops::Range<usize>| u64::from_be_bytes(revision[range].try_into().unwrap());
        let value = KeyValue::decode(value.as_slice()).expect("a key and a value");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (main, sub, mark) = (number(0..8), number(9..17), text(&revision[17..]));
        format!("{main}.{sub}{mark} {}={}", text(&value.key), text(&value.value))
    });
    told.collect()
}

#[test]
fn a_file_of_nothing_has_all_buckets() {
    let member = TestMember::new();
    let content = content(&member);
    // Two meta pages, and one that holds everything.
    assert_eq!(file(&member.view()).len(), 3 * PAGE_BYTES);
    let names: Vec<_> = Bucket::ALL.map(Bucket::name).into();
    assert_eq!(content.keys().collect::<Vec<_>>(), names);
    assert!(content["key"].is_empty() && content["lease"].is_empty() && content["alarm"].is_empty());
    assert_eq!(content["members"][0].0, b"5");
}

#[test]
fn revisions_are_there_until_they_are_compacted() {
    let mut member = TestMember::new();
    for (key, value) in [("a", "1"), ("b", "2"), ("a", "3")] {
        member.run(put(key, value)).unwrap();
    }
    member.run(delete("b", "")).unwrap();
    let operations = vec![put("x", "4").operation(), put("y", "5").operation()];
    let txn = TxnRequest {
        success: operations,
        ..Default::default()
    };
    member.run(txn).unwrap();
    let all = ["2.0 a=1", "3.0 b=2", "4.0 a=3", "5.0t b=", "6.0 x=4", "6.1 y=5"];
    assert_eq!(keys(&member), all);
    assert!(
        content(&member)["meta"]
            .iter()
            .all(|(key, _)| key != b"finishedCompactRev")
    );

    // Versions visible at revision 3 are kept, replaced or not.
    member.run(compact(3)).unwrap();
    assert_eq!(keys(&member), all);
    member.run(compact(4)).unwrap();
    assert_eq!(keys(&member), all[1..]);
    // A watch may begin at the compact revision.
    member.run(compact(5)).unwrap();
    let left = ["4.0 a=3", "5.0t b=", "6.0 x=4", "6.1 y=5"];
    assert_eq!(keys(&member), left);
    let meta = content(&member).remove("meta").unwrap();
    let compacted = (
        b"finishedCompactRev".to_vec(),
        b"\0\0\0\0\0\0\0\x05_\0\0\0\0\0\0\0\0".to_vec(),
    );
    assert!(meta.contains(&compacted), "{meta:?}");
    member.state().reclaim().unwrap();
    assert_eq!(keys(&member), left);
}

#[test]
fn the_newest_revision_is_told_where_nothing_is_left() {
    let mut member = TestMember::new();
    for key in ["a", "b", "c"] {
        member.run(put(key, "1")).unwrap();
    }
    let operations = vec![
        delete("c", "").operation(),
        put("d", "2").operation(),
        delete("a", "").operation(),
    ];
    let txn = TxnRequest {
        success: operations,
        ..Default::default()
    };
    member.run(txn).unwrap();
    member.run(compact(5)).unwrap();
    member.state().reclaim().unwrap();
    assert_eq!(keys(&member), ["3.0 b=1", "5.0t c=", "5.1 d=2", "5.2t a="]);
    let hash = member.view().hash_kv(0).unwrap().hash;
    member.run(delete("a", "z")).unwrap();
    member.run(compact(6)).unwrap();
    member.state().reclaim().unwrap();
    assert_eq!(keys(&member), ["6.0t b=", "6.1t d="]);
    assert!(member.view().hash_kv(0).unwrap().hash != hash);
}

#[test]
fn leases_are_there_with_what_they_hold() {
    let mut member = TestMember::new();
    for (id, ttl) in [(300, 60), (7, 9), (-1, 5)] {
        let grant = LeaseGrantRequest { id, ttl };
        member.run(Request::LeaseGrant(grant)).expect("a lease");
    }
    let held = PutRequest {
        lease: 300,
        ..put("a", "1")
    };
    member.run(Request::Put(held)).unwrap();
    let content = content(&member);
    let ids: Vec<_> = content["lease"].iter().map(|(id, _)| id.as_slice()).collect();
    assert_eq!(
        ids,
        [7_i64.to_be_bytes(), 300_i64.to_be_bytes(), (-1_i64).to_be_bytes()]
    );
    // Field 1 is the id, field 2 the TTL.
    assert_eq!(content["lease"][0].1, [8, 7, 16, 9]);
    let value = KeyValue::decode(content["key"][0].1.as_slice()).unwrap();
    assert_eq!(value.lease, 300);
}

#[test]
fn large_trees_are_in_order() {
    let mut member = TestMember::new();
    let value = "v".repeat(100);
    for number in 0..20_000 {
        member.run(put(&format!("key{number}"), &value)).unwrap();
    }
    // Among them, an entry that needs pages of its own.
    let long = "l".repeat(5 * PAGE_BYTES);
    member.run(put("long", &long)).unwrap();
    member.run(put("after", "it")).unwrap();
    let (content, hash) = (content(&member), member.view().hash_kv(0).unwrap().hash);
    assert_eq!(content["key"].len(), 20_002);
    // The same as etcd's HashKV over this bucket.
    let sum = content["key"]
        .iter()
        .fold(crc32c::crc32c(b"key"), |sum, (key, value)| {
            crc32c::crc32c_append(crc32c::crc32c_append(sum, key), value)
        });
    assert_eq!(sum, hash);
}

#[test]
fn a_file_is_of_one_moment_and_ends_with_whoever_wants_it() {
    let mut member = TestMember::new();
    member.run(put("a", "1")).unwrap();
    let (view, before) = (member.view(), file(&member.view()));
    member.run(put("a", "2")).unwrap();
    member.run(compact(3)).unwrap();
    member.state().reclaim().unwrap();
    assert!(file(&view) == before, "a later change shows");
    let abandoned = BackupFile::lay_out(view, || false);
    assert!(matches!(abandoned, Err(BackupError::Abandoned)));
}

#[test]
fn the_reader_notices_what_is_not_in_order() {
    let mut member = TestMember::new();
    member.run(put("a", "1")).unwrap();
    let sound = file(&member.view());
    read(&sound).expect("in order");
    let broken = |at: usize| {
        let mut broken = sound.clone();
        broken[at] ^= 1;
        read(&broken)
    };
    // The root leaf is the last page: its number, its kind, the offset of a key.
    let root = sound.len() - PAGE_BYTES;
    for at in [16 + 20, root, root + 8, root + 20] {
        assert!(broken(at).is_err(), "byte {at}");
    }
    assert!(read(&sound[..sound.len() - PAGE_BYTES]).is_err());
    assert!(read(&[&sound[..], &[0; PAGE_BYTES]].concat()).is_err());
}
