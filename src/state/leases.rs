//! The replicated part of leases: grant, revoke, remaining TTL, and which keys they hold.
//!
//! Mirrors the replicated half of etcd's server/lease/lessor.go. Nothing here knows the time. The leader reports that a lease
//! has expired, in a command that carries its term. The command counts only in an entry of that term, since a later leader has
//! extended all leases. It applies only to the lease that the leader meant, not to a later one with the same ID.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use crate::ids::Term;
use crate::mutants::{self, Mutant};
use crate::proto::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseRevokeRequest, LeaseRevokeResponse,
};
use crate::proto::log::{LeaseCheckpoints, LeaseExpiry};
use crate::state::components::State;
use crate::state::mvcc::records::stored_range;
use crate::state::{ApplyError, ApplyFailure};
use crate::storage::state::error::StateError;
use crate::storage::state::leases::{
    LeaseRecord, attachment_key, attachment_value, attachments_of, decode_attachment, decode_lease,
    encode_lease, lease_key,
};
use crate::storage::state::meta::{Applied, DigestChange};
use crate::storage::state::{StateBatch, StateDatabase, StateKeyspace};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseChange {
    Granted { id: i64, record: LeaseRecord },
    Revoked { id: i64 },
    Checkpointed { id: i64, remaining_ttl: i64 },
}

/// The leases, with changes that are not yet written.
#[derive(Debug)]
pub(crate) struct Leases {
    database: Arc<StateDatabase>,
    /// Changed leases; none if revoked.
    records: BTreeMap<i64, Option<LeaseRecord>>,
    /// Changed attachments: whether the lease holds the key.
    attachments: BTreeMap<i64, BTreeMap<Bytes, bool>>,
    /// Changes since the last view.
    pub(crate) noted: Vec<LeaseChange>,
}

impl Leases {
    pub(crate) fn new(database: Arc<StateDatabase>) -> Self {
        Self {
            database,
            records: BTreeMap::new(),
            attachments: BTreeMap::new(),
            noted: vec![],
        }
    }

    pub(crate) fn get(&self, id: i64) -> Result<Option<LeaseRecord>, StateError> {
        if let Some(record) = self.records.get(&id) {
            return Ok(*record);
        }
        let key = lease_key(id);
        let stored = self.database.get(StateKeyspace::Leases, &key)?;
        let lease = stored.map(|stored| decode_lease(&key, &stored)).transpose()?;
        Ok(lease.map(|(_, record)| record))
    }

    fn set(&mut self, applied: &mut Applied, id: i64, record: LeaseRecord) {
        let numbers = [id, record.ttl, record.remaining_ttl].map(|number| number as u64);
        applied.digest(DigestChange::Lease, &numbers);
        applied.digest(DigestChange::Lease, &[record.granted_at]);
        self.records.insert(id, Some(record));
    }

    /// Attaches `key` to the lease `id`, which is not 0, or detaches it.
    pub(crate) fn attach(&mut self, id: i64, key: &Bytes, holds: bool) -> Result<(), StateError> {
        if holds
            && let Some(lease) = self.get(id)?
            && lease.keyless
        {
            let keyless = false;
            self.records.insert(id, Some(LeaseRecord { keyless, ..lease }));
        }
        let keys = self.attachments.entry(id).or_default();
        keys.insert(key.clone(), holds);
        Ok(())
    }

    /// The keys that a lease holds, in order.
    fn keys(&self, id: i64) -> Result<BTreeSet<Bytes>, StateError> {
        let mut keys = BTreeSet::new();
        for stored in stored_range(
            &self.database,
            &self.database.snapshot(),
            StateKeyspace::Leases,
            attachments_of(id),
        ) {
            let (key, value) = stored?;
            keys.insert(decode_attachment(&key, &value)?);
        }
        for (key, holds) in self.attachments.get(&id).into_iter().flatten() {
            if *holds {
                keys.insert(key.clone());
            } else {
                keys.remove(key);
            }
        }
        Ok(keys)
    }

    pub(crate) fn write(&mut self, batch: &mut StateBatch<'_>) {
        for (id, record) in std::mem::take(&mut self.records) {
            match record {
                Some(record) => batch.insert(StateKeyspace::Leases, lease_key(id), encode_lease(id, &record)),
                None => batch.remove(StateKeyspace::Leases, lease_key(id)),
            }
        }
        for (id, keys) in std::mem::take(&mut self.attachments) {
            for (user_key, holds) in keys {
                let key = attachment_key(id, &user_key);
                if holds {
                    let value = attachment_value(&key);
                    batch.insert(StateKeyspace::Leases, key, value);
                } else {
                    batch.remove(StateKeyspace::Leases, key);
                }
            }
        }
    }
}

pub(super) fn grant(
    state: &mut State,
    request: &LeaseGrantRequest,
    index: u64,
) -> Result<LeaseGrantResponse, ApplyFailure> {
    let (id, ttl) = (request.id, request.ttl);
    if id == 0 {
        return Err(ApplyError::LeaseNotFound.into());
    }
    if state.leases.get(id)?.is_some() {
        return Err(ApplyError::LeaseExists.into());
    }
    let record = LeaseRecord {
        ttl,
        remaining_ttl: 0,
        granted_at: index,
        keyless: true,
    };
    state.leases.set(&mut state.applied, id, record);
    state.applied.usage.lease_granted();
    state.leases.noted.push(LeaseChange::Granted { id, record });
    Ok(LeaseGrantResponse {
        header: Some(state.header()),
        id,
        ttl,
        error: String::new(),
    })
}

pub(super) fn revoke(
    state: &mut State,
    request: LeaseRevokeRequest,
) -> Result<LeaseRevokeResponse, ApplyFailure> {
    let Some(lease) = state.leases.get(request.id)? else {
        return Err(ApplyError::LeaseNotFound.into());
    };
    end(state, request.id, lease)?;
    Ok(LeaseRevokeResponse {
        header: Some(state.header()),
    })
}

/// Deletes a lease and all keys that it holds, in key order.
fn end(state: &mut State, id: i64, lease: LeaseRecord) -> Result<(), StateError> {
    let before = state.keys.done;
    let keys = if lease.keyless {
        BTreeSet::new()
    } else {
        state.leases.keys(id)?
    };
    for key in keys {
        let missing = || StateError::corrupt("leases", &key, "a lease holds a key that is not there");
        let newest = state.keys.newest_header(&key)?.ok_or_else(missing)?;
        state.keys.done.deletes += 1;
        state.delete(&key, &newest)?;
    }
    state.keys.done.end_request(&before);
    state.applied.digest(DigestChange::LeaseEnd, &[id as u64]);
    state.leases.records.insert(id, None);
    state.applied.usage.lease_ended();
    state.leases.noted.push(LeaseChange::Revoked { id });
    Ok(())
}

fn check_term(term: u64, entry_term: Term) -> Result<(), ApplyError> {
    if term == entry_term.get() {
        Ok(())
    } else {
        Err(ApplyError::StaleTerm)
    }
}

/// Each lease ends in a revision of its own, as if it had been revoked alone.
pub(super) fn expire(state: &mut State, expiry: &LeaseExpiry, entry_term: Term) -> Result<(), ApplyFailure> {
    if !mutants::active(Mutant::ExpiryOfAnyTerm) {
        check_term(expiry.term, entry_term)?;
    }
    for expired in &expiry.leases {
        let lease = state.leases.get(expired.id)?;
        if let Some(lease) = lease.filter(|lease| lease.granted_at == expired.granted_at) {
            end(state, expired.id, lease)?;
            state.end_command();
        }
    }
    Ok(())
}

pub(super) fn checkpoint(
    state: &mut State,
    request: &LeaseCheckpoints,
    entry_term: Term,
) -> Result<(), ApplyFailure> {
    check_term(request.term, entry_term)?;
    for checkpoint in &request.checkpoints {
        let (id, remaining_ttl) = (checkpoint.id, checkpoint.remaining_ttl);
        let Some(lease) = state.leases.get(id)? else {
            continue;
        };
        if lease.granted_at != checkpoint.granted_at {
            continue;
        }
        let record = LeaseRecord {
            remaining_ttl,
            ..lease
        };
        state.leases.set(&mut state.applied, id, record);
        let change = LeaseChange::Checkpointed { id, remaining_ttl };
        state.leases.noted.push(change);
    }
    Ok(())
}
