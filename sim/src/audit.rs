//! Compares the members' stores byte by byte at the end of a rehearsal: everything that a reader can see, with all revisions,
//! versions and leases, back to the compaction, and the membership. Also checks what else is on their disks.

use crate::checkers::{Violation, violation};
use crate::cluster::Cluster;
use crate::observer::records_at;
use crate::world::elapsed;
use callboard::state::View;
use callboard::storage::directory::state_number;
use prost::Message;
use std::collections::BTreeSet;
use std::time::Duration;

/// Checks that all members hold the same. Returns the revision that they are compacted to.
pub fn equal_stores(cluster: &Cluster) -> Result<i64, Violation> {
    let mut first: Option<Vec<(String, Vec<u8>)>> = None;
    let mut compacted = 0;
    for number in 0..cluster.members.len() {
        let name = &cluster.members[number].name;
        let Some(views) = cluster.views(number) else {
            return violation(format!("{name} does not run at the end"));
        };
        let view = views.load();
        compacted = view.compact_revision();
        let store = match contents(&view) {
            Ok(store) => store,
            Err(error) => return violation(format!("{name} cannot be read at the end: {error}")),
        };
        let Some(first) = &first else {
            first = Some(store);
            continue;
        };
        if *first != store {
            let length = first.len().max(store.len());
            let place = (0..length).find(|place| first.get(*place) != store.get(*place));
            let at = |store: &[(String, Vec<u8>)]| place.and_then(|place| store.get(place).cloned());
            return violation(format!(
                "the stores of {} and {name} differ: {:?} and {:?}",
                cluster.members[0].name,
                at(first),
                at(&store)
            ));
        }
    }
    Ok(compacted)
}

/// A state that a snapshot has replaced is removed within this time: a receiver of a snapshot from it may be slow, and there are
/// retries.
const REPLACED_GOES_MAX: Duration = Duration::from_secs(300);

/// Waits until the states that snapshots have replaced are removed from the disks.
pub async fn replaced_states_go(cluster: &Cluster) -> Result<(), Violation> {
    let deadline = elapsed() + REPLACED_GOES_MAX;
    while let Some(still_there) = replaced_state(cluster)? {
        if elapsed() > deadline {
            return violation(format!("not gone within {REPLACED_GOES_MAX:?}: {still_there}"));
        }
        madsim::time::sleep(Duration::from_secs(1)).await;
    }
    Ok(())
}

/// A state on a member's disk that is older than the one in use. A newer one may be left from an interrupted transfer, for its
/// next attempt.
fn replaced_state(cluster: &Cluster) -> Result<Option<String>, Violation> {
    for (number, member) in cluster.members.iter().enumerate() {
        let Some(views) = cluster.views(number) else {
            return violation(format!("{} does not run at the end", member.name));
        };
        let in_use = views.load().state.path().to_owned();
        let in_use = in_use
            .file_name()
            .and_then(|name| state_number(&name.to_string_lossy()));
        let found = callboard::env::list_directory(&member.directory);
        let found = found.map_err(|error| Violation(format!("{}: {error}", member.name)))?;
        let mut replaced = found
            .iter()
            .filter(|name| state_number(name).is_some_and(|found| Some(found) < in_use));
        if let Some(name) = replaced.next() {
            return Ok(Some(format!("{name} of {}, which uses {in_use:?}", member.name)));
        }
    }
    Ok(None)
}

/// The revisions at which all keys are read: the first, the last, and some in between. Only there are replaced records visible.
fn looked_at(first: i64, last: i64) -> BTreeSet<i64> {
    const STEPS: i64 = 40;
    (0..=STEPS)
        .map(|step| first + (last - first) * step / STEPS)
        .collect()
}

/// The content of a store, named and encoded.
fn contents(view: &View) -> Result<Vec<(String, Vec<u8>)>, callboard::state::mvcc::MvccError> {
    let compacted = view.compact_revision();
    let mut contents = vec![
        ("revision".to_owned(), view.revision().to_be_bytes().to_vec()),
        ("compaction".to_owned(), compacted.to_be_bytes().to_vec()),
        ("usage".to_owned(), view.applied.usage.encode_to_vec()),
        ("alarms".to_owned(), view.alarms.encode_to_vec()),
    ];
    for member in &view.cluster.members {
        contents.push((format!("member {:x}", member.id), member.encode_to_vec()));
    }
    for lease in view.leases() {
        let (id, record) = lease?;
        contents.push((format!("lease {id:x}"), record.encode_to_vec()));
    }
    for revision in looked_at(compacted.max(1), view.revision()) {
        for record in records_at(view, revision)? {
            let name = String::from_utf8_lossy(&record.key).into_owned();
            contents.push((format!("{name} at {revision}"), record.encode_to_vec()));
        }
    }
    for change in view.changes(compacted.max(1) + 1, usize::MAX)? {
        let what = format!("{:?} {:?}", change.place, change.kind);
        contents.push((what, change.kv.encode_to_vec()));
    }
    Ok(contents)
}
