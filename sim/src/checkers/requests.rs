//! Whole replies against the store's past: the reply that the reference model predicts for a request at its revision, and its
//! changes, to the last field. Every change of these keys was requested: by an answered request at its revision, by one with an
//! unknown outcome, or by the expiry of a lease, which deletes exactly the keys attached to it. Revisions never decrease with
//! time.
//!
//! Revisions order all writes, and each state follows from the one before, so together this is linearizability.

use super::{Judged, Violation, violation};
use crate::records::{Change, RecordPast, Records, States};
use crate::reference::{Store, Unpredicted};
use callboard::proto::etcdserverpb::request_op::Request as Operation;
use callboard::proto::etcdserverpb::response_op::Response;
use callboard::proto::etcdserverpb::{
    DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, RangeRequest, RangeResponse,
    ResponseHeader, ResponseOp, TxnRequest, TxnResponse,
};
use std::collections::{BTreeMap, BTreeSet};

/// The prefix of the keys of these requests.
pub const KEY_PREFIX: &[u8] = b"q";

/// The request of a client.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    Range(RangeRequest),
    Put(PutRequest),
    DeleteRange(DeleteRangeRequest),
    Txn(TxnRequest),
    /// The revocation of a lease.
    Revoke(i64),
}

/// The reply.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Range(RangeResponse),
    Put(PutResponse),
    DeleteRange(DeleteRangeResponse),
    Txn(TxnResponse),
    Revoked(ResponseHeader),
}

/// How a request ended for its client.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    Answered(Answer),
    /// It certainly changed nothing.
    Refused(String),
    /// It may have changed something, then or later.
    Unknown(String),
}

/// One request of one client. Moments are numbers that go up with every call and every return.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    pub id: u64,
    pub request: Request,
    pub called: u64,
    pub returned: Option<(u64, End)>,
}

impl Asked {
    fn answer(&self) -> Option<&Answer> {
        match &self.returned {
            Some((_, End::Answered(answer))) => Some(answer),
            _ => None,
        }
    }

    fn is_open(&self) -> bool {
        matches!(&self.returned, None | Some((_, End::Unknown(_))))
    }
}

impl Request {
    fn is_linearizable(&self) -> bool {
        match self {
            Self::Range(range) => !range.serializable,
            Self::Txn(txn) => !is_serializable(txn),
            Self::Put(_) | Self::DeleteRange(_) | Self::Revoke(_) => true,
        }
    }
}

impl Answer {
    fn revision(&self) -> i64 {
        let header = match self {
            Self::Range(answer) => answer.header.as_ref(),
            Self::Put(answer) => answer.header.as_ref(),
            Self::DeleteRange(answer) => answer.header.as_ref(),
            Self::Txn(answer) => answer.header.as_ref(),
            Self::Revoked(header) => Some(header),
        };
        header.map_or(0, |header| header.revision)
    }

    /// Whether it reports a change.
    fn changed(&self) -> bool {
        match self {
            Self::Range(_) | Self::Revoked(_) => false,
            Self::Put(_) => true,
            Self::DeleteRange(answer) => answer.deleted > 0,
            Self::Txn(answer) => changed(&answer.responses),
        }
    }

    /// The same without the fields that depend on the member that replied.
    fn plain(mut self) -> Self {
        let header = match &mut self {
            Self::Range(answer) => &mut answer.header,
            Self::Put(answer) => &mut answer.header,
            Self::DeleteRange(answer) => &mut answer.header,
            Self::Txn(answer) => &mut answer.header,
            Self::Revoked(header) => {
                header.cluster_id = 0;
                header.member_id = 0;
                header.raft_term = 0;
                return self;
            }
        };
        *header = header.take().map(|header| ResponseHeader {
            revision: header.revision,
            ..ResponseHeader::default()
        });
        self
    }
}

fn changed(responses: &[ResponseOp]) -> bool {
    responses.iter().any(|response| match &response.response {
        Some(Response::ResponsePut(_)) => true,
        Some(Response::ResponseDeleteRange(answer)) => answer.deleted > 0,
        Some(Response::ResponseTxn(answer)) => changed(&answer.responses),
        Some(Response::ResponseRange(_)) | None => false,
    })
}

/// Whether one of these changes has a value of this request: such values begin with its number.
fn wrote(changes: &[Change], id: u64) -> bool {
    let own = format!("{id}.");
    let mut values = changes.iter().filter_map(|change| change.record.as_ref());
    values.any(|record| record.value.starts_with(own.as_bytes()))
}

/// Whether a transaction may be served from any member's own state, as in etcd: it has only ranges, and all of them are
/// serializable.
fn is_serializable(txn: &TxnRequest) -> bool {
    let mut all = txn.success.iter().chain(&txn.failure);
    all.all(
        |operation| matches!(&operation.request, Some(Operation::RequestRange(range)) if range.serializable),
    )
}

/// Checks all requests. Returns how many replies and revisions could be judged.
pub fn check(asked: &[Asked], past: &RecordPast) -> Result<Judged, Violation> {
    let states = past.states();
    let mut judged = Judged::default();
    for request in asked {
        if let Some(answer) = request.answer() {
            judged.add(check_answer(request, answer, past, &states)?);
        }
    }
    judged += check_origin(asked, past, &states)?;
    check_time(asked)?;
    Ok(judged)
}

/// Executes a request on the model, and returns the expected reply.
fn carry_out(request: &Request, store: &mut Store<'_>) -> Result<Answer, Unpredicted> {
    Ok(match request {
        Request::Range(range) => Answer::Range(store.range(range)?),
        Request::Put(put) => Answer::Put(store.put(put)?),
        Request::DeleteRange(delete) => Answer::DeleteRange(store.delete_range(delete)),
        Request::Txn(txn) => Answer::Txn(store.txn(txn)?),
        Request::Revoke(_) => return Err(Unpredicted::Hidden),
    })
}

/// Checks a reply; false if it could not be judged.
fn check_answer(
    asked: &Asked,
    answer: &Answer,
    past: &RecordPast,
    states: &States,
) -> Result<bool, Violation> {
    let revision = answer.revision();
    if revision > states.revision() {
        return violation(format!(
            "request {} was answered at revision {revision}, and the store ends at {}",
            asked.id,
            states.revision()
        ));
    }
    if let Request::Revoke(lease) = asked.request {
        return check_revoked(asked.id, lease, states.at(revision));
    }
    let before = revision - i64::from(answer.changed());
    let Some(mut store) = Store::at(states, before) else {
        return Ok(false);
    };
    let expected = match carry_out(&asked.request, &mut store) {
        Ok(expected) => expected,
        Err(Unpredicted::Hidden) => return Ok(false),
        Err(Unpredicted::Refused) => {
            return violation(format!(
                "request {} ({:?}) was answered {answer:?}, and should have been refused",
                asked.id, asked.request
            ));
        }
    };
    let answer = answer.clone().plain();
    if answer != expected {
        return violation(format!(
            "request {} ({:?}) was answered {answer:?}, which should be {expected:?}",
            asked.id, asked.request
        ));
    }
    if answer.changed() {
        let Some(changes) = past.changes(revision) else {
            return Ok(false);
        };
        if changes != store.changes {
            return violation(format!(
                "request {} ({:?}) was acknowledged at revision {revision}, where the store has {changes:?}",
                asked.id, asked.request
            ));
        }
    }
    Ok(true)
}

fn check_revoked(id: u64, lease: i64, held: Option<&Records>) -> Result<bool, Violation> {
    let Some(held) = held else { return Ok(false) };
    match held.values().find(|record| record.lease == lease) {
        Some(left) => violation(format!(
            "request {id} revoked lease {lease:x}, which still holds {left:?}"
        )),
        None => Ok(true),
    }
}

/// Every change of these keys was requested, and made once.
fn check_origin(asked: &[Asked], past: &RecordPast, states: &States) -> Result<Judged, Violation> {
    let answered: BTreeSet<i64> = asked
        .iter()
        .filter_map(Asked::answer)
        .filter(|answer| answer.changed())
        .map(Answer::revision)
        .collect();
    let open: Vec<&Asked> = asked.iter().filter(|asked| asked.is_open()).collect();
    let mut made: BTreeMap<u64, i64> = BTreeMap::new();
    let mut judged = Judged::default();
    for revision in 2..=past.revision() {
        let Some(changes) = past.changes(revision) else {
            judged.add(false);
            continue;
        };
        let own = changes.iter().any(|change| change.key.starts_with(KEY_PREFIX));
        if !own || answered.contains(&revision) {
            continue;
        }
        let Some(before) = states.at(revision - 1) else {
            judged.add(false);
            continue;
        };
        judged.add(true);
        if is_end_of_lease(changes, before) {
            continue;
        }
        let explains = |asked: &&&Asked| {
            let store = Store::at(states, revision - 1);
            store.is_some_and(|mut store| {
                carry_out(&asked.request, &mut store).is_ok() && store.changes == changes
            })
        };
        let writers: Vec<u64> = open.iter().filter(explains).map(|asked| asked.id).collect();
        check_writers(&writers, changes, revision, &mut made)?;
    }
    Ok(judged)
}

/// Checks that one of these requests made the changes. Two requests may have made the same change if nothing is written, or if a
/// value is kept.
fn check_writers(
    writers: &[u64],
    changes: &[Change],
    revision: i64,
    made: &mut BTreeMap<u64, i64>,
) -> Result<(), Violation> {
    if writers.is_empty() {
        return violation(format!(
            "revision {revision} is {changes:?}, which nobody asked for"
        ));
    }
    let Some(writer) = writers.iter().find(|id| wrote(changes, **id)) else {
        return Ok(());
    };
    match made.get(writer) {
        Some(before) if writers.len() == 1 => violation(format!(
            "applied twice: request {writer}, at revisions {before} and {revision}"
        )),
        _ => {
            made.entry(*writer).or_insert(revision);
            Ok(())
        }
    }
}

/// Whether these changes are the expiry of one lease: all its keys are deleted, in order.
fn is_end_of_lease(changes: &[Change], before: &Records) -> bool {
    let Some(lease) = changes.first().and_then(|change| before.get(&change.key)) else {
        return false;
    };
    let held = before.values().filter(|record| record.lease == lease.lease);
    lease.lease != 0
        && changes.iter().all(|change| change.record.is_none())
        && held
            .map(|record| &record.key)
            .eq(changes.iter().map(|change| &change.key))
}

/// A reply that was received before a call has no higher revision than that call's own reply.
fn check_time(asked: &[Asked]) -> Result<(), Violation> {
    let mut returns: Vec<(u64, i64, u64)> = Vec::new();
    for request in asked {
        if let Some((moment, End::Answered(answer))) = &request.returned {
            returns.push((*moment, answer.revision(), request.id));
        }
    }
    returns.sort_unstable();
    let mut returns = returns.into_iter().peekable();
    let mut newest = (0, 0);
    for request in asked.iter().filter(|asked| asked.request.is_linearizable()) {
        while let Some((_, revision, id)) = returns.next_if(|(moment, ..)| *moment < request.called) {
            newest = newest.max((revision, id));
        }
        let Some(answer) = request.answer() else { continue };
        let revision = answer.revision() - i64::from(answer.changed());
        if revision < newest.0 {
            return violation(format!(
                "request {} was answered at revision {}, after request {} had been at {}",
                request.id,
                answer.revision(),
                newest.1,
                newest.0
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "requests_tests.rs"]
mod tests;
