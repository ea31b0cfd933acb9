//! The pure lessor: which leases there are, and on a leader when each of them ends. No clock: time comes in as
//! milliseconds on any steady clock of the caller's.

use super::queue::DeadlineQueue;
use crate::ids::Term;
use crate::limits::sizes;
use crate::proto::log::{ExpiredLease, LeaseCheckpoint};
use crate::state::leases::LeaseChange;
use crate::storage::state::leases::LeaseRecord;
use std::collections::BTreeMap;

/// How a lessor counts.
#[derive(Clone, Copy, Debug)]
pub struct LessorOptions {
    /// What a new leader gives each lease on top: clients could not keep it alive meanwhile (etcd: `Promote`).
    pub extension_ms: u64,
    /// A lease that lives longer has what is left of it written down so often (etcd: `CheckpointInterval`).
    pub checkpoint_interval_ms: u64,
    /// An expiry that has not come through is proposed again after so long (etcd: `defaultExpiredleaseRetryInterval`).
    pub expiry_retry_ms: u64,
}

impl LessorOptions {
    pub fn new(election_timeout_ms: u64) -> Self {
        Self {
            extension_ms: election_timeout_ms,
            checkpoint_interval_ms: sizes().lease_checkpoint_interval_ms,
            expiry_retry_ms: 3_000,
        }
    }
}

/// What came of keeping a lease alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// For so many seconds from now.
    Renewed {
        ttl: i64,
    },
    NotFound,
    /// Its time is up: whether it is gone is known once the expiry has been applied, or another leads.
    Expired,
    /// A checkpoint says that little is left of it. That must be taken back through the log first: see
    /// [`Lessor::clear_checkpoint`].
    Checkpointed,
    NotLeading,
}

/// What is left of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remaining {
    /// In seconds, rounded towards zero as etcd does.
    pub ttl: i64,
    pub granted_ttl: i64,
}

#[derive(Clone, Copy, Debug)]
struct Lease {
    record: LeaseRecord,
    /// When it ends; on a leader only.
    deadline_ms: u64,
    /// Which entries of the queues are its own.
    expiry_queued_ms: u64,
    checkpoint_queued_ms: u64,
    /// A checkpoint of it may be in the log or on its way there.
    checkpointed: bool,
    /// The checkpoint is being taken back: no new one meanwhile.
    clearing: bool,
}

impl Lease {
    fn new(record: LeaseRecord) -> Self {
        Self {
            record,
            deadline_ms: u64::MAX,
            expiry_queued_ms: 0,
            checkpoint_queued_ms: 0,
            checkpointed: record.remaining_ttl > 0,
            clearing: false,
        }
    }

    fn ttl_ms(&self) -> u64 {
        (self.record.ttl.max(0) as u64).saturating_mul(1000)
    }

    fn expired_lease(&self, id: i64) -> ExpiredLease {
        ExpiredLease {
            id,
            granted_at: self.record.granted_at,
        }
    }
}

/// See the head of the file.
#[derive(Debug)]
pub struct Lessor {
    options: LessorOptions,
    leases: BTreeMap<i64, Lease>,
    leading: Option<Term>,
    expiries: DeadlineQueue,
    checkpoints: DeadlineQueue,
}

impl Lessor {
    pub fn new(options: LessorOptions) -> Self {
        Self {
            options,
            leases: BTreeMap::new(),
            leading: None,
            expiries: DeadlineQueue::default(),
            checkpoints: DeadlineQueue::default(),
        }
    }

    pub fn leading(&self) -> Option<Term> {
        self.leading
    }

    pub fn len(&self) -> usize {
        self.leases.len()
    }

    pub fn is_empty(&self) -> bool {
        self.leases.is_empty()
    }

    /// Forgets all leases and takes these.
    pub fn replace(&mut self, leases: impl IntoIterator<Item = (i64, LeaseRecord)>, now_ms: u64) {
        let leases = leases.into_iter();
        self.leases = leases.map(|(id, record)| (id, Lease::new(record))).collect();
        if self.leading.is_some() {
            self.begin(now_ms);
        }
    }

    /// Leads from now on, or does not any more. True if that is news.
    pub fn lead(&mut self, term: Option<Term>, now_ms: u64) -> bool {
        if self.leading == term {
            return false;
        }
        self.leading = term;
        self.expiries.clear();
        self.checkpoints.clear();
        if term.is_some() {
            self.begin(now_ms);
        }
        true
    }

    /// Gives each lease its time. One pass and no sorting: a million leases take a fraction of a second.
    fn begin(&mut self, now_ms: u64) {
        let extension_ms = self.options.extension_ms;
        let mut expiries = Vec::with_capacity(self.leases.len());
        let mut checkpoints = Vec::new();
        for (id, lease) in &mut self.leases {
            let left_ms = match lease.record.remaining_ttl {
                ..=0 => lease.ttl_ms(),
                left => (left as u64).saturating_mul(1000),
            };
            lease.deadline_ms = deadline(now_ms, left_ms.saturating_add(extension_ms));
            lease.expiry_queued_ms = lease.deadline_ms;
            lease.clearing = false;
            lease.checkpointed = lease.record.remaining_ttl > 0;
            expiries.push((lease.deadline_ms, *id));
            if left_ms > self.options.checkpoint_interval_ms {
                lease.checkpoint_queued_ms = now_ms.saturating_add(self.options.checkpoint_interval_ms);
                checkpoints.push((lease.checkpoint_queued_ms, *id));
            }
        }
        self.expiries = DeadlineQueue::of(expiries);
        self.checkpoints = DeadlineQueue::of(checkpoints);
    }

    /// Takes note of what the log has done.
    pub fn apply(&mut self, change: LeaseChange, now_ms: u64) {
        match change {
            LeaseChange::Granted { id, record } => {
                self.leases.insert(id, Lease::new(record));
                if self.leading.is_some() {
                    self.start(id, now_ms);
                }
            }
            LeaseChange::Revoked { id } => {
                self.leases.remove(&id);
                self.sweep();
            }
            LeaseChange::Checkpointed { id, remaining_ttl } => {
                if let Some(lease) = self.leases.get_mut(&id) {
                    lease.record.remaining_ttl = remaining_ttl;
                    lease.checkpointed = remaining_ttl > 0 || (lease.checkpointed && !lease.clearing);
                }
            }
        }
    }

    /// The time of a lease begins anew.
    fn start(&mut self, id: i64, now_ms: u64) {
        let Some(lease) = self.leases.get_mut(&id) else {
            return;
        };
        lease.deadline_ms = deadline(now_ms, lease.ttl_ms());
        lease.expiry_queued_ms = lease.deadline_ms;
        self.expiries.push(lease.expiry_queued_ms, id);
        if lease.ttl_ms() > self.options.checkpoint_interval_ms {
            lease.checkpoint_queued_ms = now_ms.saturating_add(self.options.checkpoint_interval_ms);
            self.checkpoints.push(lease.checkpoint_queued_ms, id);
        }
    }

    fn sweep(&mut self) {
        let leases = &self.leases;
        self.expiries.sweep(leases.len(), |at_ms, id| {
            leases
                .get(&id)
                .is_some_and(|lease| lease.expiry_queued_ms == at_ms)
        });
        self.checkpoints.sweep(leases.len(), |at_ms, id| {
            leases
                .get(&id)
                .is_some_and(|lease| lease.checkpoint_queued_ms == at_ms)
        });
    }

    /// Keeps a lease alive. The caller has just made sure that this member leads.
    pub fn renew(&mut self, id: i64, now_ms: u64) -> Renewal {
        if self.leading.is_none() {
            return Renewal::NotLeading;
        }
        let Some(lease) = self.leases.get_mut(&id) else {
            return Renewal::NotFound;
        };
        if lease.deadline_ms <= now_ms {
            return Renewal::Expired;
        }
        if lease.checkpointed {
            return Renewal::Checkpointed;
        }
        lease.deadline_ms = deadline(now_ms, lease.ttl_ms());
        if lease.deadline_ms < lease.expiry_queued_ms {
            // Sooner than with what a new leader gave it on top.
            lease.expiry_queued_ms = lease.deadline_ms;
            self.expiries.push(lease.expiry_queued_ms, id);
        }
        Renewal::Renewed {
            ttl: lease.record.ttl,
        }
    }

    /// What to propose before a lease with a checkpoint can be kept alive; nothing if that is under way or not due.
    /// [`Self::checkpoint_cleared`] must follow.
    pub fn clear_checkpoint(&mut self, id: i64) -> Option<LeaseCheckpoint> {
        let lease = self.leases.get_mut(&id)?;
        if !lease.checkpointed || std::mem::replace(&mut lease.clearing, true) {
            return None;
        }
        Some(LeaseCheckpoint {
            id,
            granted_at: lease.record.granted_at,
            remaining_ttl: 0,
        })
    }

    /// The proposal has been decided, one way or the other.
    pub fn checkpoint_cleared(&mut self, id: i64) {
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.clearing = false;
        }
    }

    /// What is left of a lease; nothing if there is none. Only a leader knows.
    pub fn remaining(&self, id: i64, now_ms: u64) -> Option<Remaining> {
        let lease = self.leases.get(&id)?;
        let ttl = if lease.deadline_ms >= now_ms {
            i64::try_from((lease.deadline_ms - now_ms) / 1000).unwrap_or(i64::MAX)
        } else {
            -i64::try_from((now_ms - lease.deadline_ms) / 1000).unwrap_or(i64::MAX)
        };
        Some(Remaining {
            ttl,
            granted_ttl: lease.record.ttl,
        })
    }

    /// All leases: on a leader those first that end first, elsewhere by id.
    pub fn ids(&self) -> Vec<i64> {
        let mut ids: Vec<(u64, i64)> = self
            .leases
            .iter()
            .map(|(id, lease)| (lease.deadline_ms, *id))
            .collect();
        if self.leading.is_some() {
            ids.sort_unstable();
        }
        ids.into_iter().map(|(_, id)| id).collect()
    }

    /// Takes out leases whose time is up, at most `count_max`: to be proposed. They come again later if that fails.
    pub fn expired(&mut self, now_ms: u64, count_max: usize) -> Vec<ExpiredLease> {
        let mut expired = vec![];
        while expired.len() < count_max
            && let Some((at_ms, id)) = self.expiries.pop(now_ms)
        {
            let Some(lease) = self.leases.get_mut(&id) else {
                continue;
            };
            if lease.expiry_queued_ms != at_ms {
                continue;
            }
            if lease.deadline_ms <= now_ms {
                expired.push(lease.expired_lease(id));
                lease.expiry_queued_ms = now_ms + self.options.expiry_retry_ms;
            } else {
                lease.expiry_queued_ms = lease.deadline_ms;
            }
            self.expiries.push(lease.expiry_queued_ms, id);
        }
        expired
    }

    /// Checkpoints that are due, at most `count_max`: to be proposed.
    pub fn due_checkpoints(&mut self, now_ms: u64, count_max: usize) -> Vec<LeaseCheckpoint> {
        let interval_ms = self.options.checkpoint_interval_ms;
        let mut due = vec![];
        while due.len() < count_max
            && let Some((at_ms, id)) = self.checkpoints.pop(now_ms)
        {
            let Some(lease) = self.leases.get_mut(&id) else {
                continue;
            };
            if lease.checkpoint_queued_ms != at_ms {
                continue;
            }
            let left_ms = lease.deadline_ms.saturating_sub(now_ms);
            // Nothing left would mean all of its time.
            if left_ms == 0 {
                continue;
            }
            let renewed_ms = lease.deadline_ms.saturating_sub(deadline(0, lease.ttl_ms()));
            let next_ms = if !lease.clearing && renewed_ms.saturating_add(interval_ms) <= now_ms {
                due.push(LeaseCheckpoint {
                    id,
                    granted_at: lease.record.granted_at,
                    remaining_ttl: i64::try_from(left_ms.div_ceil(1000)).unwrap_or(i64::MAX),
                });
                lease.checkpointed = true;
                now_ms + interval_ms
            } else {
                // It was kept alive since: a lease that is kept alive often never needs one.
                renewed_ms.saturating_add(interval_ms).max(now_ms + 1)
            };
            lease.checkpoint_queued_ms = next_ms;
            self.checkpoints.push(next_ms, id);
        }
        due
    }

    #[cfg(test)]
    pub(super) fn queued(&self) -> usize {
        self.expiries.len()
    }
}

/// The clock's milliseconds are rounded down: one more, so that nothing ends too early.
fn deadline(now_ms: u64, left_ms: u64) -> u64 {
    now_ms.saturating_add(left_ms).saturating_add(1)
}
