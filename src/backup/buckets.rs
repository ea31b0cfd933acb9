//! The content of each bucket of etcd's file (etcd: server/storage/schema), from a view of the state.
//!
//! Data that only etcd has, such as the remains of a downgrade, is missing. Buckets that stay empty here exist, since etcd
//! expects all of them.

use crate::limits::sizes;
use crate::state::View;
use crate::state::mvcc::MvccError;
use crate::state::mvcc::entries::{EntryScan, EntryStep, put_revision};
use bytes::Bytes;
use prost::Message;
use serde::Serialize;

/// Entries of a bucket, in order.
pub type Entries = Box<dyn Iterator<Item = Result<(Bytes, Bytes), MvccError>> + Send>;

/// One of etcd's buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bucket {
    Alarm,
    Auth,
    AuthRoles,
    AuthUsers,
    Cluster,
    Key,
    Lease,
    Members,
    MembersRemoved,
    Meta,
}

impl Bucket {
    /// In the order of their names.
    pub const ALL: [Self; 10] = [
        Self::Alarm,
        Self::Auth,
        Self::AuthRoles,
        Self::AuthUsers,
        Self::Cluster,
        Self::Key,
        Self::Lease,
        Self::Members,
        Self::MembersRemoved,
        Self::Meta,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Alarm => "alarm",
            Self::Auth => "auth",
            Self::AuthRoles => "authRoles",
            Self::AuthUsers => "authUsers",
            Self::Cluster => "cluster",
            Self::Key => "key",
            Self::Lease => "lease",
            Self::Members => "members",
            Self::MembersRemoved => "members_removed",
            Self::Meta => "meta",
        }
    }

    /// The entries of the bucket.
    pub fn entries(self, view: &View) -> Result<Entries, MvccError> {
        let few = match self {
            Self::AuthRoles | Self::AuthUsers => vec![],
            Self::MembersRemoved => members_removed(view),
            Self::Alarm => alarms(view),
            // No user or role can have been changed yet.
            Self::Auth => vec![(Bytes::from_static(b"authRevision"), number(1))],
            Self::Cluster => cluster_version(view),
            Self::Members => members(view),
            Self::Meta => meta(view),
            Self::Key => return Ok(Box::new(Keys::new(view)?)),
            Self::Lease => return Ok(leases(view)),
        };
        Ok(Box::new(few.into_iter().map(Ok)))
    }
}

/// The bucket `key`.
struct Keys {
    scan: EntryScan,
    buffer: Vec<u8>,
}

impl Keys {
    fn new(view: &View) -> Result<Self, MvccError> {
        Ok(Self {
            scan: view.entries(sizes().backup_pass_keys)?,
            buffer: vec![],
        })
    }
}

impl Iterator for Keys {
    type Item = Result<(Bytes, Bytes), MvccError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.scan.step(&mut self.buffer) {
                Err(error) => return Some(Err(error)),
                Ok(EntryStep::Done) => return None,
                Ok(EntryStep::Looked) => {}
                Ok(EntryStep::Entry { key_bytes }) => {
                    let mut key = Bytes::copy_from_slice(&self.buffer);
                    let value = key.split_off(key_bytes);
                    return Some(Ok((key, value)));
                }
            }
        }
    }
}

fn number(number: u64) -> Bytes {
    Bytes::copy_from_slice(&number.to_be_bytes())
}

/// A lease in etcd's form (server/lease/leasepb/lease.proto).
#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct StoredLease {
    #[prost(int64, tag = "1")]
    id: i64,
    #[prost(int64, tag = "2")]
    ttl: i64,
    #[prost(int64, tag = "3")]
    remaining_ttl: i64,
}

/// Leases with negative ids come last in etcd, as here.
fn leases(view: &View) -> Entries {
    Box::new(view.leases().map(|lease| {
        let (id, record) = lease?;
        let stored = StoredLease {
            id,
            ttl: record.ttl,
            remaining_ttl: record.remaining_ttl,
        };
        Ok((number(id as u64), stored.encode_to_vec().into()))
    }))
}

/// The alarm is the key; the value is empty.
fn alarms(view: &View) -> Vec<(Bytes, Bytes)> {
    let encoded = view.alarms.iter().map(|alarm| alarm.to_member().encode_to_vec());
    let mut keys: Vec<Bytes> = encoded.map(Bytes::from).collect();
    keys.sort_unstable();
    keys.into_iter().map(|key| (key, Bytes::new())).collect()
}

/// None until the members have agreed on a version.
fn cluster_version(view: &View) -> Vec<(Bytes, Bytes)> {
    let version = Some(&view.cluster.version).filter(|version| !version.is_empty());
    let entry = version.map(|version| (Bytes::from_static(b"clusterVersion"), version.clone().into()));
    entry.into_iter().collect()
}

/// A member in etcd's form (server/etcdserver/api/membership/member.go).
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StoredMember<'a> {
    id: u64,
    #[serde(rename = "peerURLs")]
    peer_urls: &'a [String],
    #[serde(skip_serializing_if = "is_false")]
    is_learner: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(rename = "clientURLs", skip_serializing_if = "<[String]>::is_empty")]
    client_urls: &'a [String],
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde asks in this form
fn is_false(value: &bool) -> bool {
    !value
}

fn members(view: &View) -> Vec<(Bytes, Bytes)> {
    let stored = view.cluster.members.iter().map(|member| {
        let value = StoredMember {
            id: member.id,
            peer_urls: &member.peer_urls,
            is_learner: member.is_learner,
            name: &member.name,
            client_urls: &member.client_urls,
        };
        (Bytes::from(format!("{:x}", member.id)), json(&value))
    });
    let mut all: Vec<_> = stored.collect();
    // By their names, which differ in length.
    all.sort_unstable();
    all
}

fn members_removed(view: &View) -> Vec<(Bytes, Bytes)> {
    let removed = view.cluster.removed.iter();
    let mut all: Vec<_> = removed
        .map(|id| (Bytes::from(format!("{id:x}")), Bytes::from_static(b"removed")))
        .collect();
    all.sort_unstable();
    all
}

/// Raft's configuration in etcd's form (raft: raftpb/raft.proto).
#[derive(Serialize)]
struct StoredConfState<'a> {
    #[serde(skip_serializing_if = "<[u64]>::is_empty")]
    voters: &'a [u64],
    #[serde(skip_serializing_if = "<[u64]>::is_empty")]
    learners: &'a [u64],
    #[serde(skip_serializing_if = "<[u64]>::is_empty")]
    voters_outgoing: &'a [u64],
    #[serde(skip_serializing_if = "<[u64]>::is_empty")]
    learners_next: &'a [u64],
    auto_leave: bool,
}

fn meta(view: &View) -> Vec<(Bytes, Bytes)> {
    let conf_state = &view.cluster.conf_state;
    let conf_state = StoredConfState {
        voters: &conf_state.voters,
        learners: &conf_state.learners,
        voters_outgoing: &conf_state.voters_outgoing,
        learners_next: &conf_state.learners_next,
        auto_leave: conf_state.auto_leave,
    };
    let compacted = (view.compact_revision() > 0).then(|| {
        let mut revision = vec![];
        put_revision(view.compact_revision(), 0, &mut revision);
        Bytes::from(revision)
    });
    let all = [
        ("confState", Some(json(&conf_state))),
        ("consistent_index", Some(number(view.applied.index))),
        ("finishedCompactRev", compacted.clone()),
        ("scheduledCompactRev", compacted),
        (
            "storageVersion",
            Some(view.cluster.storage_version().to_owned().into()),
        ),
        ("term", Some(number(view.applied.term))),
    ];
    let all = all.into_iter();
    all.filter_map(|(key, value)| Some((Bytes::from_static(key.as_bytes()), value?)))
        .collect()
}

fn json(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value)
        .expect("names and numbers have a JSON form")
        .into()
}
