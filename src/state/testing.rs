//! For tests: a member's state in a scratch directory, and shorthands for requests.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;

use crate::ids::{LogIndex, Term};
use crate::proto::etcdserverpb::request_op;
use crate::proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest, RangeResponse, RequestOp,
    ResponseHeader, TxnRequest,
};
use crate::proto::log::command::Request;
use crate::proto::log::member_change::Change;
use crate::proto::log::{Command, CommandBatch, Member, MemberChange};
use crate::proto::peer::ConfState;
use crate::state::ApplyError;
use crate::state::Payload;
use crate::state::machine::{CommittedEntry, InitialState, Machine, MachineOptions, Outcome, Reply};
use crate::state::{View, Views};
use crate::storage::state::{StateDatabase, StateOptions};

pub(crate) const ORIGIN: u64 = 7;

pub(crate) struct TestMember {
    // Before the directory, so that the database is closed before it is removed.
    pub(crate) machine: Machine,
    pub(crate) views: Views,
    pub(crate) index: u64,
    directory: tempfile::TempDir,
}

/// A cache for one or two headers, so that most reads reach the database.
fn options() -> MachineOptions {
    MachineOptions {
        header_cache_bytes: 256,
    }
}

impl TestMember {
    pub(crate) fn new() -> Self {
        Self::with(&StateOptions::simulator())
    }

    pub(crate) fn with(engine: &StateOptions) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDatabase::open(&directory.path().join("state"), engine).unwrap();
        let (mut machine, views) = Machine::open(state, ORIGIN, options()).unwrap();
        let members = vec![Member {
            id: 5,
            ..Default::default()
        }];
        machine
            .initialize(InitialState {
                applied_index: LogIndex(1),
                members,
                conf_state: ConfState {
                    voters: vec![5],
                    ..Default::default()
                },
                ..Default::default()
            })
            .unwrap();
        Self {
            machine,
            views,
            index: 1,
            directory,
        }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    /// Closes the database and opens it again, as a restart does.
    pub(crate) fn reopen(self) -> Self {
        let path = self.path();
        let Self {
            machine,
            views,
            index,
            directory,
        } = self;
        drop((machine, views));
        let state = StateDatabase::open(&path, &StateOptions::simulator()).unwrap();
        let (machine, views) = Machine::open(state, ORIGIN, options()).unwrap();
        Self {
            machine,
            views,
            index,
            directory,
        }
    }

    pub(crate) fn state(&self) -> &Arc<StateDatabase> {
        self.machine.state()
    }

    pub(crate) fn view(&self) -> Arc<View> {
        self.views.load()
    }

    pub(crate) fn entry(&mut self, requests: impl IntoIterator<Item = Request>) -> CommittedEntry {
        self.index += 1;
        entry(self.index, requests)
    }

    /// Applies all commands in one entry.
    pub(crate) fn run_all(&mut self, requests: Vec<Request>) -> Vec<Result<Outcome, ApplyError>> {
        let entry = self.entry(requests);
        let replies = self.machine.apply(&[entry]).unwrap();
        for (number, reply) in replies.iter().enumerate() {
            assert_eq!(reply.id, number as u64);
        }
        replies.into_iter().map(|Reply { outcome, .. }| outcome).collect()
    }

    pub(crate) fn run(&mut self, request: impl ToCommand) -> Result<Outcome, ApplyError> {
        self.run_all(vec![request.command()]).pop().unwrap()
    }

    /// Applies a membership change as an entry of its own.
    pub(crate) fn change_members(&mut self, change: Change) -> Result<Outcome, ApplyError> {
        let change = MemberChange {
            change: Some(change),
            learners_max: 1,
            ..Default::default()
        };
        self.change_members_by(change)
    }

    pub(crate) fn change_members_by(&mut self, change: MemberChange) -> Result<Outcome, ApplyError> {
        let mut entry = self.entry([Request::MemberChange(change)]);
        let Payload::Commands(data) = entry.payload else {
            panic!("an entry of commands");
        };
        entry.payload = Payload::Configuration(data);
        let replies = self.machine.apply(&[entry]).unwrap();
        let [reply] = replies.try_into().expect("one reply");
        let Reply { outcome, .. } = reply;
        outcome
    }

    pub(crate) fn range(&self, request: &RangeRequest) -> RangeResponse {
        let reply = self.view().range(request).unwrap().run().unwrap();
        let header = ResponseHeader {
            revision: reply.header_revision,
            ..Default::default()
        };
        reply.into_response(Some(header))
    }
}

pub(crate) fn entry(index: u64, requests: impl IntoIterator<Item = Request>) -> CommittedEntry {
    let commands = requests
        .into_iter()
        .enumerate()
        .map(|(id, request)| Command {
            origin: ORIGIN,
            id: id as u64,
            caller: None,
            request: Some(request),
        })
        .collect();
    let data = CommandBatch { commands }.encode_to_vec();
    CommittedEntry {
        index: LogIndex(index),
        term: Term(3),
        payload: Payload::Commands(data.into()),
    }
}

/// A transaction with this many levels and a put in the innermost.
pub(crate) fn nested(levels: usize) -> TxnRequest {
    let operation = |request| RequestOp {
        request: Some(request),
    };
    let mut request = TxnRequest {
        success: vec![operation(request_op::Request::RequestPut(put("deep", "value")))],
        ..TxnRequest::default()
    };
    for _ in 1..levels {
        request = TxnRequest {
            success: vec![operation(request_op::Request::RequestTxn(request))],
            ..TxnRequest::default()
        };
    }
    request
}

pub(crate) fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub(crate) fn put(key: &str, value: &str) -> PutRequest {
    PutRequest {
        key: bytes(key),
        value: bytes(value),
        ..Default::default()
    }
}

pub(crate) fn delete(key: &str, range_end: &str) -> DeleteRangeRequest {
    DeleteRangeRequest {
        key: bytes(key),
        range_end: bytes(range_end),
        prev_kv: false,
    }
}

pub(crate) fn range(key: &str, range_end: &str) -> RangeRequest {
    RangeRequest {
        key: bytes(key),
        range_end: bytes(range_end),
        ..Default::default()
    }
}

pub(crate) fn everything() -> RangeRequest {
    range("\0", "\0")
}

pub(crate) fn compact(revision: i64) -> CompactionRequest {
    CompactionRequest {
        revision,
        physical: true,
    }
}

/// What can be a command.
pub(crate) trait ToCommand {
    fn command(self) -> Request;
}

/// What can be an operation of a transaction.
pub(crate) trait ToOperation {
    fn operation(self) -> RequestOp;
}

impl ToCommand for Request {
    fn command(self) -> Request {
        self
    }
}

impl ToCommand for CompactionRequest {
    fn command(self) -> Request {
        Request::Compaction(self)
    }
}

macro_rules! requests {
    ($($request:ident: $command:ident, $operation:ident;)*) => {$(
        impl ToCommand for $request {
            fn command(self) -> Request {
                Request::$command(self)
            }
        }

        impl ToOperation for $request {
            fn operation(self) -> RequestOp {
                RequestOp { request: Some(request_op::Request::$operation(self)) }
            }
        }
    )*};
}

requests! {
    PutRequest: Put, RequestPut;
    DeleteRangeRequest: DeleteRange, RequestDeleteRange;
    TxnRequest: Txn, RequestTxn;
}

impl ToOperation for RangeRequest {
    fn operation(self) -> RequestOp {
        RequestOp {
            request: Some(request_op::Request::RequestRange(self)),
        }
    }
}
