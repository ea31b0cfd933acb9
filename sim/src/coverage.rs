//! What rehearsals have reached: every kind of fault, every call with every outcome, and the code paths that log records reveal.
//! Points that were never reached are reported too, since they are untested.

use crate::fault_kind::FaultKind;
use crate::history::{Answer, Input, Operation, Outcome};
use crate::record::Record;
use std::collections::BTreeMap;

/// The counters of a rehearsal, by name.
pub type Counters = BTreeMap<String, u64>;

/// How often each point was reached; 0 for those that were not.
pub type Points = BTreeMap<String, u64>;

/// Every outcome of each call. A failed read has changed nothing, so its outcome is never unknown.
const OUTCOMES: &[(&str, &[&str])] = &[
    ("get", &["found", "absent"]),
    ("serializable get", &["found", "absent"]),
    ("past range", &["found", "absent", "compacted", "future"]),
    ("put", &["written", "unknown"]),
    ("delete", &["existed", "absent", "unknown"]),
    ("swap", &["swapped", "not swapped", "unknown"]),
    ("read-modify-write", &["swapped", "not swapped", "unknown"]),
    ("compact", &["done", "compacted", "future", "unknown"]),
];

/// Events on disks, and work of the storage engines.
const DISKS: &[&str] = &[
    "unsynced writes lost",
    "torn writes",
    "files with later writes than those lost",
    "names lost",
    "crashes within a start",
    "crashes within work",
    "engines that met an error",
    "errors that only an engine knew",
    "synced sectors lost",
    "bit rot noticed",
    "state tables made",
    "log tables made",
    "tables made by engines",
    "tables removed",
    "journals sealed",
    "journals removed",
];

/// Log records that show a state of a member, and the name of that state here.
const STATES: &[(&str, &str)] = &[
    ("raft leadership", "leadership changed"),
    ("compacted the raft log", "log cut"),
    ("receiving a snapshot", "snapshot begun"),
    ("sending the snapshot goes on", "snapshot resumed"),
    ("a snapshot did not arrive", "snapshot failed"),
    ("applied snapshot", "snapshot applied"),
    ("successfully sent database snapshot to client", "backup sent"),
    ("established a peer connection", "peer connected"),
    ("peer connection ended", "peer connection ended"),
    ("lost or failed to make a peer connection", "peer connection lost"),
    ("refused a peer", "peer refused"),
    (
        "enough members were heard; this one takes part",
        "members heard after a start",
    ),
    ("dropped a raft message", "raft message dropped"),
    ("enabled capabilities for version", "cluster version set"),
    ("finished peer corruption check", "hashes compared"),
    (
        "initial corruption checking passed; no corruption",
        "hashes compared at start",
    ),
    ("finished reading all data back from disk", "scrubbed"),
    ("failed to send a snapshot", "transfer failed for good"),
    ("cut a torn batch off a journal", "journal cut"),
    (
        "cut a torn batch off a journal, and sound ones that follow it",
        "journal cut before sound batches",
    ),
    ("this member cannot go on", "member stopped on its own"),
];

/// Points that workloads, checkers and phases count, and that a swarm must reach.
const COUNTED: &[&str] = &[
    "asked: as JSON",
    "asked: limit",
    "asked: limit in the past",
    "asked: sorted",
    "asked: keys only",
    "asked: count only",
    "asked: count only in the past",
    "asked: revision filters",
    "asked: prev_kv of a put",
    "asked: prev_kv of a delete",
    "asked: ignore value",
    "asked: ignore lease",
    "asked: long value",
    "asked: delete of several keys",
    "asked: nested transaction",
    "asked: deep transaction",
    "asked: wide transaction",
    "asked: too deep transaction",
    "asked: too deep",
    "asked: too wide",
    "asked: compare version",
    "asked: compare create revision",
    "asked: compare mod revision",
    "asked: compare value",
    "asked: compare lease",
    "asked: compare of a range",
    "keys moved between leases",
    "lease ids used again",
    "leases seen with a checkpoint",
    "leases of waiting contenders revoked",
    "locks refused without a lease",
    "writes tried under an alarm",
    "transfers cut",
    "learners promoted",
    "members replaced",
    "members moved",
    "certificates renewed",
    "certificate authorities replaced",
    "revoked certificates tried",
    "processes of no member ended",
    "leadership moved",
    "downgrade requests judged",
    "clusters with TLS between members",
    "trial: follower apart",
    "trial: leader apart",
    "trial: lease ends under load",
    "trial: late connection",
    "trial: transfer fails",
    "trial: transfer resumes",
    "trial: chunk vanishes",
    "trial: transfer overtaken",
    "trial: transfer repacked",
    "trial: slow links",
    "trial: newcomer never starts",
    "trial: promoted apart",
    "trial: stranger needs a vote",
    "trial: removed and gone",
    "trial: survivor",
];

/// The points that one rehearsal has reached.
pub fn points(counters: &Counters, record: &Record) -> Points {
    let mut points = Points::new();
    for kind in FaultKind::ALL {
        points.insert(kind.counter().to_owned(), 0);
    }
    points.extend(DISKS.iter().map(|name| ((*name).to_owned(), 0)));
    for (call, ends) in OUTCOMES {
        points.extend(ends.iter().map(|end| (format!("{call}: {end}"), 0)));
    }
    points.extend(COUNTED.iter().map(|name| ((*name).to_owned(), 0)));
    for (message, name) in STATES {
        let count = record.messages.get(*message).copied().unwrap_or(0);
        points.insert(format!("state: {name}"), count);
    }
    for (name, count) in counters {
        *points.entry(name.clone()).or_default() += count;
    }
    for operation in &record.history.operations {
        *points.entry(reached(operation)).or_default() += 1;
    }
    points
}

/// The call and its outcome.
fn reached(operation: &Operation) -> String {
    let call = match &operation.input {
        Input::Get {
            serializable: false, ..
        } => "get",
        Input::Get {
            serializable: true, ..
        } => "serializable get",
        Input::PastRange { .. } => "past range",
        Input::Put { .. } => "put",
        Input::DeleteRange { .. } => "delete",
        Input::Swap { expected } if expected.len() == 1 => "swap",
        Input::Swap { .. } => "read-modify-write",
        Input::Compact { .. } => "compact",
    };
    let end = match operation.returned.as_ref().map(|(_, outcome)| outcome) {
        Some(Outcome::Answered(answer)) => match answer {
            Answer::Got { value: Some(_), .. } => "found",
            Answer::Range { values, .. } if !values.is_empty() => "found",
            Answer::Got { .. } | Answer::Range { .. } | Answer::Deleted { existed: false, .. } => "absent",
            Answer::Written { .. } => "written",
            Answer::Deleted { .. } => "existed",
            Answer::Swapped { swapped: true, .. } => "swapped",
            Answer::Swapped { .. } => "not swapped",
            Answer::Compacted { .. } => "done",
        },
        Some(Outcome::Refused(reason)) if reason.contains("compacted") => "compacted",
        Some(Outcome::Refused(reason)) if reason.contains("future") => "future",
        Some(Outcome::Refused(_)) => "refused otherwise",
        Some(Outcome::Unknown(_)) => "unknown",
        None => "under way at the end",
    };
    format!("{call}: {end}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn what_is_reached_is_counted_and_what_is_not_is_named() {
        let mut record = Record::default();
        record.messages.insert("applied snapshot".into(), 3);
        let id = record.history.call(0, Duration::ZERO, Input::Put { key: 1 });
        let written = Outcome::Answered(Answer::Written { revision: 2 });
        record.history.returned(id, Duration::ZERO, written);
        let points = points(&BTreeMap::from([("fault: kill".to_owned(), 2)]), &record);
        let reached: Vec<_> = points.iter().filter(|(_, count)| **count > 0).collect();
        let expected = [
            ("fault: kill", 2),
            ("put: written", 1),
            ("state: snapshot applied", 3),
        ];
        assert_eq!(reached.len(), expected.len(), "{reached:?}");
        for (name, count) in expected {
            assert_eq!(points[name], count);
        }
        assert_eq!(points["put: unknown"], 0);
    }
}
