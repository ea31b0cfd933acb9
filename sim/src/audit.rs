//! The store's whole past, read from the members' own state when a rehearsal has ended.

use crate::checkers::{Violation, violation};
use crate::cluster::Cluster;
use crate::history::{Key, Value};
use crate::model::{Change, Past};
use crate::workloads::key_and_value;
use callboard::mvcc::view::View;
use callboard::proto::etcdserverpb::RangeRequest;
use std::collections::BTreeMap;

/// The past, which must be the same on all members.
pub fn past(cluster: &Cluster) -> Result<Past, Violation> {
    let mut first: Option<Past> = None;
    for number in 0..cluster.members.len() {
        let name = &cluster.members[number].name;
        let Some(views) = cluster.views(number) else {
            return violation(format!("{name} does not run at the end"));
        };
        let past = past_of(&views.load(), name)?;
        match &first {
            None => first = Some(past),
            Some(first) if *first == past => {}
            Some(first) => {
                let differs = (2..=first.revision().max(past.revision()))
                    .find(|revision| first.changes(*revision) != past.changes(*revision));
                return violation(format!(
                    "the pasts of {} and {name} differ from revision {differs:?} on",
                    cluster.members[0].name
                ));
            }
        }
    }
    Ok(first.unwrap_or_default())
}

fn past_of(view: &View, name: &str) -> Result<Past, Violation> {
    let mut past = Past::default();
    let mut before: BTreeMap<Key, Value> = BTreeMap::new();
    for revision in 2..=view.revision() {
        let now = match state(view, revision) {
            Ok(now) => now,
            Err(error) => return violation(format!("{name} cannot read revision {revision}: {error}")),
        };
        let put = now.iter().filter(|(key, value)| before.get(*key) != Some(*value));
        let mut changes: Vec<Change> = put.map(|(key, value)| (*key, Some(*value))).collect();
        let deleted = before.keys().filter(|key| !now.contains_key(*key));
        changes.extend(deleted.map(|key| (*key, None)));
        if changes.is_empty() {
            return violation(format!("revision {revision} of {name} changes nothing"));
        }
        past.push(changes);
        before = now;
    }
    Ok(past)
}

fn state(view: &View, revision: i64) -> Result<BTreeMap<Key, Value>, callboard::mvcc::MvccError> {
    let request = RangeRequest {
        key: "k".into(),
        range_end: "l".into(),
        revision,
        ..RangeRequest::default()
    };
    let records = view.range(&request)?.run()?.into_response(None).kvs;
    Ok(records.iter().map(key_and_value).collect())
}
