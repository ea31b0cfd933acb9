//! Maintenance.Snapshot of any member, and the value of all keys at a revision according to that file: what a cluster that is
//! restored from it would return.

use super::{failed, key_and_value};
use crate::history::{Answer, Outcome};
use callboard::backup::reader;
use callboard::client::Client;
use callboard::proto::etcdserverpb::SnapshotRequest;
use callboard::proto::mvccpb::KeyValue;
use prost::Message;
use std::collections::BTreeMap;

/// The length of a key in the bucket `key` that is not deleted.
const REVISION_BYTES: usize = 17;

pub async fn send(client: &Client, revision: i64) -> Outcome {
    let file = match client.snapshot(SnapshotRequest {}).await {
        Ok(file) => file,
        Err(error) => return failed(&error),
    };
    // A client has no outcome for this, so the rehearsal ends.
    range_of(&file, revision).unwrap_or_else(|reason| panic!("a backup is damaged: {reason}"))
}

fn range_of(file: &[u8], revision: i64) -> Result<Outcome, String> {
    let content = reader::read(file)?;
    let bucket = |name: &str| content.get(name).ok_or(format!("no bucket {name}"));
    let compacted = bucket("meta")?
        .iter()
        .find(|(key, _)| key == b"finishedCompactRev");
    let compacted = compacted.map_or(Ok(1), |(_, value)| main_revision(value))?;
    let (mut newest, mut held) = (compacted, BTreeMap::new());
    for (key, value) in bucket("key")? {
        let main = main_revision(key)?;
        newest = newest.max(main);
        let record = KeyValue::decode(value.as_slice()).map_err(|error| error.to_string())?;
        if main > revision || !record.key.starts_with(b"k") {
            continue;
        }
        if key.len() > REVISION_BYTES {
            held.remove(&record.key);
        } else if record.mod_revision == main {
            held.insert(record.key.clone(), record);
        } else {
            return Err(format!(
                "a change of {} is kept as one of {main}",
                record.mod_revision
            ));
        }
    }
    if revision < compacted {
        return Ok(Outcome::Refused("compacted, says the backup".into()));
    }
    if revision > newest {
        return Ok(Outcome::Refused("a future revision, says the backup".into()));
    }
    let mut values: Vec<_> = held.values().map(key_and_value).collect();
    values.sort_unstable();
    Ok(Outcome::Answered(Answer::Range {
        values,
        revision: newest,
    }))
}

fn main_revision(key: &[u8]) -> Result<i64, String> {
    let main = key.first_chunk().ok_or("a revision cut short")?;
    Ok(i64::from_be_bytes(*main))
}
