//! Random histories, compared with a model that keeps all changes in a list and scans it for each answer.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message;

use crate::proto::etcdserverpb::compare::TargetUnion;
use crate::proto::etcdserverpb::request_op::Request as Op;
use crate::proto::etcdserverpb::response_op::Response;
use crate::proto::etcdserverpb::{
    CompactionResponse, Compare, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse,
    RangeRequest, RangeResponse, RequestOp, ResponseHeader, ResponseOp, TxnRequest, TxnResponse,
};
use crate::proto::log::command::Request;
use crate::proto::mvccpb::KeyValue;
use crate::state::ApplyError;
use crate::state::machine::Outcome;
use crate::state::model_strategies::{Action, actions, ranges};
use crate::state::mvcc::hash::KeyValueHash;
use crate::state::mvcc::range::RangeScan;
use crate::state::testing::TestMember;
use crate::state::usage_tests::live_bytes;

#[derive(Clone, Debug)]
struct Entry {
    main: i64,
    sub: i64,
    key: Bytes,
    kv: Option<KeyValue>,
}

#[derive(Clone, Debug)]
struct Model {
    entries: Vec<Entry>,
    revision: i64,
    compact_revision: i64,
    changes: i64,
}

fn header(revision: i64) -> ResponseHeader {
    ResponseHeader {
        revision,
        ..Default::default()
    }
}

fn inside(key: &[u8], start: &[u8], end: &[u8]) -> bool {
    match end {
        [] => key == start,
        [0] => key >= start,
        _ => key >= start && key < end,
    }
}

impl Model {
    fn new() -> Self {
        Self {
            entries: vec![],
            revision: 1,
            compact_revision: -1,
            changes: 0,
        }
    }

    fn now(&self) -> i64 {
        self.revision + i64::from(self.changes > 0)
    }

    fn live(&self, revision: i64) -> BTreeMap<Bytes, Entry> {
        let mut live = BTreeMap::new();
        for entry in self.entries.iter().filter(|entry| entry.main <= revision) {
            if entry.kv.is_some() {
                live.insert(entry.key.clone(), entry.clone());
            } else {
                live.remove(&entry.key);
            }
        }
        live
    }

    fn list(&self, key: &[u8], end: &[u8], revision: i64) -> Vec<KeyValue> {
        let live = self.live(revision).into_values();
        live.filter(|entry| inside(&entry.key, key, end))
            .filter_map(|entry| entry.kv)
            .collect()
    }

    fn range(&self, request: &RangeRequest) -> Result<RangeResponse, ApplyError> {
        let now = self.now();
        if request.revision > now {
            return Err(ApplyError::FutureRevision);
        }
        let revision = if request.revision <= 0 {
            now
        } else {
            request.revision
        };
        if revision < self.compact_revision {
            return Err(ApplyError::Compacted);
        }
        let mut kvs = self.list(&request.key, &request.range_end, revision);
        let count = kvs.len() as i64;
        if request.count_only {
            return Ok(RangeResponse {
                header: Some(header(now)),
                kvs: vec![],
                more: false,
                count,
            });
        }
        if request.keys_only && request.sort_target != 4 {
            for kv in &mut kvs {
                kv.lease = 0;
            }
        }
        let filters = [
            request.min_mod_revision,
            request.max_mod_revision,
            request.min_create_revision,
            request.max_create_revision,
        ];
        let key_order = request.sort_order == 0 || (request.sort_target == 0 && request.sort_order == 1);
        let limit = usize::try_from(request.limit).unwrap_or(0);
        if limit > 0 && key_order && filters == [0; 4] {
            kvs.truncate(limit + 1);
        }
        kvs.retain(|kv| {
            let high = |bound, value| bound == 0 || value <= bound;
            kv.mod_revision >= filters[0]
                && high(filters[1], kv.mod_revision)
                && kv.create_revision >= filters[2]
                && high(filters[3], kv.create_revision)
        });
        match request.sort_target {
            0 => {}
            1 => kvs.sort_by_key(|kv| kv.version),
            2 => kvs.sort_by_key(|kv| kv.create_revision),
            3 => kvs.sort_by_key(|kv| kv.mod_revision),
            _ => kvs.sort_by_key(|kv| kv.value.clone()),
        }
        if request.sort_order == 2 {
            // Ties stay in key order.
            kvs.reverse();
            let sorted_by = |kv: &KeyValue| match request.sort_target {
                0 => kv.key.to_vec(),
                1 => kv.version.to_be_bytes().to_vec(),
                2 => kv.create_revision.to_be_bytes().to_vec(),
                3 => kv.mod_revision.to_be_bytes().to_vec(),
                _ => kv.value.to_vec(),
            };
            let mut ties: Vec<Vec<KeyValue>> = vec![];
            for kv in kvs {
                match ties.last_mut() {
                    Some(tie) if sorted_by(&tie[0]) == sorted_by(&kv) => tie.push(kv),
                    _ => ties.push(vec![kv]),
                }
            }
            kvs = ties.into_iter().flat_map(|tie| tie.into_iter().rev()).collect();
        }
        let more = limit > 0 && kvs.len() > limit;
        if more {
            kvs.truncate(limit);
        }
        if request.keys_only {
            for kv in &mut kvs {
                kv.value = Bytes::new();
            }
        }
        Ok(RangeResponse {
            header: Some(header(now)),
            kvs,
            more,
            count,
        })
    }

    fn write(&mut self, key: &Bytes, kv: Option<KeyValue>) {
        self.entries.push(Entry {
            main: self.revision + 1,
            sub: self.changes,
            key: key.clone(),
            kv,
        });
        self.changes += 1;
    }

    fn previous(&self, key: &[u8]) -> Option<KeyValue> {
        self.list(key, b"", i64::MAX).pop()
    }

    fn check_put(&self, request: &PutRequest) -> Result<(), ApplyError> {
        if request.lease != 0 {
            return Err(ApplyError::LeaseNotFound);
        }
        if (request.ignore_value || request.ignore_lease) && self.previous(&request.key).is_none() {
            return Err(ApplyError::KeyNotFound);
        }
        Ok(())
    }

    fn put(&mut self, request: &PutRequest) -> PutResponse {
        let previous = self.previous(&request.key);
        let mut kv = KeyValue {
            key: request.key.clone(),
            create_revision: self.revision + 1,
            mod_revision: self.revision + 1,
            version: 1,
            value: request.value.clone(),
            lease: 0,
        };
        if let Some(previous) = &previous {
            kv.create_revision = previous.create_revision;
            kv.version = previous.version + 1;
            if request.ignore_value {
                kv.value = previous.value.clone();
            }
        }
        self.write(&request.key, Some(kv));
        PutResponse {
            header: Some(header(self.now())),
            prev_kv: previous.filter(|_| request.prev_kv),
        }
    }

    fn delete(&mut self, request: &DeleteRangeRequest) -> DeleteRangeResponse {
        let kvs = self.list(&request.key, &request.range_end, i64::MAX);
        for kv in &kvs {
            self.write(&kv.key, None);
        }
        let deleted = kvs.len() as i64;
        DeleteRangeResponse {
            header: Some(header(self.now())),
            deleted,
            prev_kvs: if request.prev_kv { kvs } else { vec![] },
        }
    }

    /// Supports only the conditions that [`conditions`] makes.
    fn holds(&self, compare: &Compare) -> bool {
        let kvs = self.list(&compare.key, &compare.range_end, i64::MAX);
        let one = |version: i64| match (compare.result, &compare.target_union) {
            (0, Some(TargetUnion::Version(number))) => version == *number,
            (1, Some(TargetUnion::Version(number))) => version > *number,
            _ => panic!("not made"),
        };
        if kvs.is_empty() {
            one(0)
        } else {
            kvs.iter().all(|kv| one(kv.version))
        }
    }

    fn branch<'r>(before: &Self, request: &'r TxnRequest) -> (bool, &'r [RequestOp]) {
        let succeeded = request.compare.iter().all(|compare| before.holds(compare));
        (
            succeeded,
            if succeeded {
                &request.success
            } else {
                &request.failure
            },
        )
    }

    fn check(&self, request: &TxnRequest) -> Result<(), ApplyError> {
        for operation in Self::branch(self, request).1 {
            match operation.request.as_ref().unwrap() {
                Op::RequestRange(range) if range.revision > self.revision => {
                    return Err(ApplyError::FutureRevision);
                }
                Op::RequestRange(range) if range.revision != 0 && range.revision < self.compact_revision => {
                    return Err(ApplyError::Compacted);
                }
                Op::RequestPut(put) => self.check_put(put)?,
                Op::RequestTxn(nested) => self.check(nested)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn execute(&mut self, before: &Self, request: &TxnRequest) -> TxnResponse {
        let (succeeded, operations) = Self::branch(before, request);
        let mut responses = vec![];
        for operation in operations {
            let response = match operation.request.as_ref().unwrap() {
                Op::RequestRange(range) => Response::ResponseRange(self.range(range).unwrap()),
                Op::RequestPut(put) => Response::ResponsePut(self.put(put)),
                Op::RequestDeleteRange(delete) => Response::ResponseDeleteRange(self.delete(delete)),
                Op::RequestTxn(nested) => Response::ResponseTxn(TxnResponse {
                    header: Some(ResponseHeader::default()),
                    ..self.execute(before, nested)
                }),
            };
            responses.push(ResponseOp {
                response: Some(response),
            });
        }
        TxnResponse {
            header: Some(header(self.now())),
            succeeded,
            responses,
        }
    }

    fn apply(&mut self, request: &Request) -> Result<Outcome, ApplyError> {
        let outcome = match request {
            Request::Put(put) => self.check_put(put).map(|()| Outcome::Put(self.put(put))),
            Request::DeleteRange(delete) => Ok(Outcome::DeleteRange(self.delete(delete))),
            Request::Txn(txn) => self
                .check(txn)
                .map(|()| Outcome::Txn(self.execute(&self.clone(), txn))),
            Request::Compaction(compaction) if compaction.revision <= self.compact_revision => {
                Err(ApplyError::Compacted)
            }
            Request::Compaction(compaction) if compaction.revision > self.revision => {
                Err(ApplyError::FutureRevision)
            }
            Request::Compaction(compaction) => {
                self.compact_revision = compaction.revision;
                Ok(Outcome::Compaction(CompactionResponse {
                    header: Some(header(self.revision)),
                }))
            }
            _ => panic!("not made"),
        };
        self.revision = self.now();
        self.changes = 0;
        outcome
    }

    fn hash(&self, revision: i64) -> KeyValueHash {
        let seen = |at| {
            self.live(at)
                .into_values()
                .map(|entry| (entry.main, entry.sub))
                .collect::<Vec<_>>()
        };
        let mut keep = seen(revision);
        if keep.is_empty() {
            keep = seen(self.compact_revision);
        }
        let mut sum = b"key".to_vec();
        for entry in self.entries.iter().filter(|entry| entry.main <= revision) {
            if entry.main <= self.compact_revision && !keep.contains(&(entry.main, entry.sub)) {
                continue;
            }
            sum.extend_from_slice(&entry.main.to_be_bytes());
            sum.push(b'_');
            sum.extend_from_slice(&entry.sub.to_be_bytes());
            if let Some(kv) = &entry.kv {
                kv.encode(&mut sum).unwrap();
            } else {
                sum.push(b't');
                KeyValue {
                    key: entry.key.clone(),
                    ..Default::default()
                }
                .encode(&mut sum)
                .unwrap();
            }
        }
        let hash = crc32c::crc32c(&sum);
        KeyValueHash {
            hash,
            compact_revision: self.compact_revision,
            hash_revision: revision,
        }
    }
}

fn check_reads(member: &TestMember, model: &Model, requests: &[RangeRequest]) {
    let view = member.view();
    assert_eq!(
        (view.revision(), view.compact_revision()),
        (model.revision, model.compact_revision)
    );
    let all = RangeRequest {
        key: Bytes::from_static(b"\0"),
        range_end: Bytes::from_static(b"\0"),
        count_only: true,
        ..RangeRequest::default()
    };
    let count = model.range(&all).expect("nothing newer is asked for").count;
    assert_eq!(view.applied.keys, count as u64);
    let happened = model.entries.iter().map(|entry| {
        let value_bytes = entry.kv.as_ref().map(|kv| kv.value.len());
        (entry.main, &*entry.key, value_bytes)
    });
    assert_eq!(
        view.applied.usage.live_bytes(),
        live_bytes(happened, model.compact_revision)
    );
    for request in requests {
        let read = view.range(request).and_then(RangeScan::run);
        let read = read.map(|reply| {
            let revision = reply.header_revision;
            reply.into_response(Some(header(revision)))
        });
        match (read, model.range(request)) {
            (Ok(read), Ok(expected)) => assert_eq!(read, expected, "{request:?}"),
            (Err(_), Err(_)) => {}
            (read, expected) => panic!("{request:?}: {read:?} instead of {expected:?}"),
        }
    }
    for revision in model.compact_revision.max(1)..=model.revision {
        assert_eq!(
            view.hash_kv(revision).unwrap(),
            model.hash(revision),
            "hash at {revision}"
        );
    }
    let from = model.compact_revision.max(1) + 1;
    let changes = view.changes(from, usize::MAX).unwrap();
    let expected: Vec<_> = model.entries.iter().filter(|entry| entry.main >= from).collect();
    assert_eq!(changes.len(), expected.len());
    for (change, entry) in changes.iter().zip(expected) {
        assert_eq!(
            (change.place.main, i64::from(change.place.sub)),
            (entry.main, entry.sub)
        );
        let deleted = KeyValue {
            key: entry.key.clone(),
            mod_revision: entry.main,
            ..Default::default()
        };
        assert_eq!(&change.kv, entry.kv.as_ref().unwrap_or(&deleted));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_histories_agree_with_the_model(
        actions in prop::collection::vec(actions(), 1..25),
        requests in prop::collection::vec(ranges(), 8),
    ) {
        let mut member = TestMember::new();
        let mut model = Model::new();
        for action in actions {
            match action {
                Action::Apply(requests) => {
                    let expected: Vec<_> = requests.iter().map(|request| model.apply(request)).collect();
                    prop_assert_eq!(member.run_all(requests), expected);
                }
                Action::Flush => member.state().flush().unwrap(),
                Action::Reclaim => member.state().reclaim().unwrap(),
                Action::Reopen => member = member.reopen(),
            }
            check_reads(&member, &model, &requests);
        }
    }
}
