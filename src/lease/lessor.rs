//! The pure lessor: which leases exist, and on a leader when each expires. It reads no clock: the caller passes the time in
//! milliseconds of any monotonic clock.

use super::queue::DeadlineQueue;
use crate::ids::Term;
use crate::limits::sizes;
use crate::proto::log::{ExpiredLease, LeaseCheckpoint};
use crate::state::leases::LeaseChange;
use crate::storage::state::leases::LeaseRecord;
use std::collections::BTreeMap;

/// The times that a lessor uses.
#[derive(Clone, Copy, Debug)]
pub struct LessorOptions {
    /// What a new leader adds to each lease, since clients could not keep it alive meanwhile (etcd: `Promote`).
    pub extension_ms: u64,
    /// Interval between checkpoints of the remaining TTL, for leases that live longer than this (etcd: `CheckpointInterval`).
    pub checkpoint_interval_ms: u64,
    /// An expiry that was not applied is proposed again after this long (etcd: `defaultExpiredleaseRetryInterval`).
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

/// The result of keeping a lease alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// The lease lives for so many seconds from now.
    Renewed {
        ttl: i64,
    },
    NotFound,
    /// Its time is up. Whether it still exists is known once the expiry is applied, or another member leads.
    Expired,
    /// A checkpoint has recorded a shorter remaining TTL. It must be cleared through the log first: see
    /// [`Lessor::clear_checkpoint`].
    Checkpointed,
    NotLeading,
}

/// The remaining time of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remaining {
    /// In seconds, rounded towards zero as etcd does.
    pub ttl: i64,
    pub granted_ttl: i64,
}

#[derive(Clone, Copy, Debug)]
struct Lease {
    record: LeaseRecord,
    /// When it expires; on a leader only.
    deadline_ms: u64,
    /// The entries of the queues that belong to this lease.
    expiry_queued_ms: u64,
    checkpoint_queued_ms: u64,
    /// A checkpoint of it may be in the log or on its way there.
    checkpointed: bool,
    /// The checkpoint is being cleared. No new one is made meanwhile.
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

    /// Replaces all leases by these.
    pub fn replace(&mut self, leases: impl IntoIterator<Item = (i64, LeaseRecord)>, now_ms: u64) {
        let leases = leases.into_iter();
        self.leases = leases.map(|(id, record)| (id, Lease::new(record))).collect();
        if self.leading.is_some() {
            self.begin(now_ms);
        }
    }

    /// Sets the term in which this member leads, if it does. Returns true if that has changed.
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

    /// Starts the time of each lease. One pass without sorting: a million leases take a fraction of a second.
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

    /// Takes in a change from the log.
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

    /// Starts the full time of a lease.
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
            // Earlier than with the new leader's extension.
            lease.expiry_queued_ms = lease.deadline_ms;
            self.expiries.push(lease.expiry_queued_ms, id);
        }
        Renewal::Renewed {
            ttl: lease.record.ttl,
        }
    }

    /// What to propose before a lease with a checkpoint can be kept alive; none if that is under way or not needed.
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

    /// The proposal has succeeded or failed.
    pub fn checkpoint_cleared(&mut self, id: i64) {
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.clearing = false;
        }
    }

    /// The remaining time of a lease; none if there is no such lease. Only a leader knows it.
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

    /// All leases: on a leader in the order of expiry, elsewhere by ID.
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

    /// Takes at most `count_max` leases whose time is up, to be proposed. They are due again later if that fails.
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

    /// At most `count_max` checkpoints that are due, to be proposed.
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
            // A remaining TTL of 0 would mean the full TTL.
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
                // It was kept alive since. A lease that is kept alive often never needs a checkpoint.
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

/// The clock rounds milliseconds down. One is added, so that nothing expires too early.
fn deadline(now_ms: u64, left_ms: u64) -> u64 {
    now_ms.saturating_add(left_ms).saturating_add(1)
}
