//! Observes the members while they work: the state that each serves, revision by revision, and each one's log. All members must
//! agree at all times, not only after the faults end. The observations also form the store's past, including what is compacted
//! later.

use crate::checkers::logs::{LogEntry, Logs};
use crate::checkers::membership::Membership;
use crate::checkers::{Violation, violation};
use crate::cluster::Cluster;
use crate::disk;
use crate::history::Held;
use crate::model::{Known, Past, State};
use crate::random::fingerprint;
use crate::records::{Change, RecordPast};
use crate::workloads::{APART, key_and_value, key_number};
use callboard::ids::{LogIndex, MemberId};
use callboard::proto::etcdserverpb::{AlarmType, RangeRequest};
use callboard::proto::mvccpb::KeyValue;
use callboard::state::View;
use callboard::state::mvcc::changes::ChangeKind;
use std::cell::RefCell;
use std::time::Duration;

/// Interval between checks of the logs; the state is checked every time.
const LOGS_EVERY: Duration = Duration::from_secs(1);
/// The approximate number of changes that are read from a member at once.
const CHANGES_MAX: usize = 1000;
/// The assumed cost of the largest request: a transaction of a few short puts.
const COST_MAX: u64 = 1_500;

/// See the head of the file.
#[derive(Debug, Default)]
pub struct Observer(RefCell<Seen>);

#[derive(Debug, Default)]
struct Seen {
    past: Past,
    records: RecordPast,
    logs: Logs,
    membership: Membership,
    /// The revision up to which each member's state has been compared.
    revisions: Vec<i64>,
    /// The index up to which each member's log had been applied when it was compared.
    indexes: Vec<u64>,
    logs_seen_at: Duration,
}

impl Observer {
    /// Compares what is new on every running member. A member that cannot be read now is checked later.
    pub fn look(&self, cluster: &Cluster) -> Result<(), Violation> {
        if let Some(call) = disk::forbidden_wait() {
            return violation(format!("a thread that carries raft waited for a disk: {call}"));
        }
        disk::unnoticed(|| self.look_unnoticed(cluster))
    }

    fn look_unnoticed(&self, cluster: &Cluster) -> Result<(), Violation> {
        let seen = &mut *self.0.borrow_mut();
        seen.revisions.resize(cluster.members.len(), 1);
        seen.indexes.resize(cluster.members.len(), 0);
        let now = crate::world::elapsed();
        let logs_due = now >= seen.logs_seen_at + LOGS_EVERY;
        if logs_due {
            seen.logs_seen_at = now;
        }
        for number in 0..cluster.members.len() {
            if let Some(views) = cluster.views(number) {
                let view = views.load();
                if no_space(&view, cluster.quota_bytes) {
                    cluster.world.no_space(|reasons| reasons.seen_at(now));
                }
                let name = &cluster.members[number].name;
                seen.look_at_state(number, cluster, &view)?;
                seen.membership.seen(name, &view)?;
                if logs_due {
                    let checkpointed = look_at_leases(name, &view)?;
                    cluster.world.count("leases seen with a checkpoint", checkpointed);
                }
            }
            if logs_due {
                seen.look_at_log(number, cluster)?;
            }
        }
        Ok(())
    }

    /// The past that was observed.
    pub fn past(&self) -> Past {
        self.0.borrow().past.clone()
    }

    /// The same, with complete records of all keys.
    pub fn records(&self) -> RecordPast {
        self.0.borrow().records.clone()
    }

    /// The number of log entries that were compared.
    pub fn entries(&self) -> usize {
        self.0.borrow().logs.entries()
    }
}

impl Seen {
    fn look_at_state(&mut self, number: usize, cluster: &Cluster, view: &View) -> Result<(), Violation> {
        let name = &cluster.members[number].name;
        for raised in view.alarms.of(AlarmType::Corrupt) {
            let member = view.member(MemberId(raised.member_id));
            if !member.is_some_and(|member| cluster.has_rotted(&member.name)) {
                return violation("the alarm CORRUPT is raised, and nobody's data was altered");
            }
        }
        // After a power loss a member may serve an older state again.
        let mut from = self.revisions[number].min(view.revision());
        if from < view.compact_revision() {
            let Ok(records) = records_at(view, view.compact_revision()) else {
                return Ok(());
            };
            self.compare_state(name, view.compact_revision(), records)?;
            from = view.compact_revision();
        }
        while from < view.revision() {
            let Ok(changes) = changes_after(view, from) else {
                break;
            };
            if changes.is_empty() {
                return violation(format!(
                    "{name} is at revision {}, and nothing happened there after {from}",
                    view.revision()
                ));
            }
            for (revision, changes) in changes {
                self.compare_changes(name, revision, from, changes)?;
                from = revision;
            }
        }
        self.revisions[number] = from;
        Ok(())
    }

    fn compare_changes(
        &mut self,
        name: &str,
        revision: i64,
        before: i64,
        changes: Vec<Change>,
    ) -> Result<(), Violation> {
        if revision != before + 1 {
            return violation(format!("revision {revision} of {name} comes after {before}"));
        }
        if revision > self.past.revision() {
            self.past.push(clients_changes(&changes));
            self.records.push(changes);
            return Ok(());
        }
        match self.records.changes(revision) {
            Some(seen) if seen != changes => violation(format!(
                "revision {revision} of {name} is {changes:?}, and was seen to be {seen:?}"
            )),
            _ => Ok(()),
        }
    }

    fn compare_state(&mut self, name: &str, revision: i64, records: Vec<KeyValue>) -> Result<(), Violation> {
        let own = records.iter().filter(|record| is_of_history(&record.key));
        let state: State = own.map(key_and_value).collect();
        if revision > self.past.revision() {
            self.past.leap(revision, state);
            self.records.leap(revision, records);
            return Ok(());
        }
        match self.past.states().at(revision) {
            Known::State(seen) if *seen != state => violation(format!(
                "{name} holds {state:?} at revision {revision}, where it was seen to be {seen:?}"
            )),
            _ => Ok(()),
        }
    }

    fn look_at_log(&mut self, number: usize, cluster: &Cluster) -> Result<(), Violation> {
        let Some((log, status)) = cluster.log(number) else {
            return Ok(());
        };
        // Begins at the last entry that could not change any more, so that each part overlaps the previous one.
        let low = self.indexes[number].max(1);
        // Who is the only voter leads before its term is on disk. A power loss may take the term with all entries written in it,
        // and the term is then led again. Only applied entries are sure to be synced.
        let views = cluster.views(number);
        let is_alone = views.is_some_and(|views| views.load().cluster.conf_state.voters.len() == 1);
        let last = if is_alone {
            status.applied_index
        } else {
            status.last_index
        };
        let Ok(entries) = log.read(LogIndex(low), last.next(), u64::MAX) else {
            // Entries that arrived in a snapshot, or were cut since, are not in the log.
            self.indexes[number] = status.applied_index.0.max(low);
            return Ok(());
        };
        let stretch: Vec<LogEntry> = entries
            .iter()
            .map(|entry| LogEntry {
                index: entry.index,
                term: entry.term,
                sum: fingerprint(&entry.data),
            })
            .collect();
        let name = &cluster.members[number].name;
        self.logs.seen(name, &stretch, status.applied_index.0)?;
        self.indexes[number] = status.applied_index.0.max(low);
        Ok(())
    }
}

/// Checks that every lease holds exactly the keys that name it. Returns the number of leases with a checkpoint.
fn look_at_leases(name: &str, view: &View) -> Result<u64, Violation> {
    let Ok(records) = records_at(view, 0) else {
        return Ok(0);
    };
    let mut checkpointed = 0;
    for lease in view.leases() {
        let Ok((id, record)) = lease else {
            return Ok(checkpointed);
        };
        checkpointed += u64::from(record.remaining_ttl > 0);
        let Ok(held) = view.lease_keys(id).collect::<Result<Vec<_>, _>>() else {
            return Ok(checkpointed);
        };
        let of_lease = records.iter().filter(|record| record.lease == id);
        let expected: Vec<_> = of_lease.map(|record| record.key.clone()).collect();
        if held != expected {
            return violation(format!(
                "lease {id:x} of {name} holds {held:?}, and the keys that are bound to it are {expected:?}"
            ));
        }
    }
    Ok(checkpointed)
}

/// Whether the largest request could be refused.
fn no_space(view: &View, quota_bytes: Option<u64>) -> bool {
    let live_bytes = view.applied.usage.live_bytes();
    let is_near = quota_bytes.is_some_and(|quota| live_bytes + COST_MAX >= quota);
    is_near || view.alarms.any(AlarmType::Nospace)
}

fn is_of_history(key: &[u8]) -> bool {
    !APART.iter().any(|prefix| key.starts_with(prefix.as_bytes()))
}

/// The changes of the keys in the clients' history.
fn clients_changes(changes: &[Change]) -> Vec<Held> {
    let own = changes.iter().filter(|change| is_of_history(&change.key));
    let mut held: Vec<Held> = own
        .map(|change| match &change.record {
            Some(record) => {
                let (key, value) = key_and_value(record);
                (key, Some(value))
            }
            None => (key_number(&change.key), None),
        })
        .collect();
    held.sort_unstable();
    held
}

/// The content at a revision.
pub fn records_at(view: &View, revision: i64) -> Result<Vec<KeyValue>, callboard::state::mvcc::MvccError> {
    let everything = RangeRequest {
        key: vec![0].into(),
        range_end: vec![0].into(),
        revision,
        ..RangeRequest::default()
    };
    Ok(view.range(&everything)?.run()?.into_response(None).kvs)
}

/// The next revisions after one, with their changes.
fn changes_after(
    view: &View,
    revision: i64,
) -> Result<Vec<(i64, Vec<Change>)>, callboard::state::mvcc::MvccError> {
    let mut revisions: Vec<(i64, Vec<Change>)> = Vec::new();
    for change in view.changes(revision + 1, CHANGES_MAX)? {
        let (main, is_put) = (change.place.main, change.kind == ChangeKind::Put);
        let change = Change {
            key: change.kv.key.clone(),
            record: is_put.then_some(change.kv),
        };
        match revisions.last_mut() {
            Some((last, changes)) if *last == main => changes.push(change),
            _ => revisions.push((main, vec![change])),
        }
    }
    Ok(revisions)
}
