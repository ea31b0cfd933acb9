//! From the bytes of a request to the state: what the API's checks let through is encoded as a command, read back from a log
//! entry, and applied. Nothing on the way may stop the member: a command that was accepted decodes. The first byte chooses the
//! request.

#![no_main]

use bytes::Bytes;
use callboard::api::bounds::TxnBounds;
use callboard::api::check;
use callboard::state::entry::{self, EntryCommand, ReadableCommands};
use callboard::state::machine::{InitialState, MachineOptions};
use callboard::state::{CommittedEntry, Machine, Payload};
use callboard::ids::{LogIndex, Term};
use callboard::proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest, PutRequest,
};
use callboard::proto::log::Command;
use callboard::proto::log::command::Request;
use callboard::storage::state::{StateDatabase, StateOptions};
use libfuzzer_sys::fuzz_target;
use prost::Message;
use std::cell::RefCell;

const OPS_MAX: usize = 128;
const ORIGIN: u64 = 7;

thread_local! {
    static MACHINE: RefCell<Machine> = RefCell::new(machine());
}

fn machine() -> Machine {
    let directory = std::env::temp_dir().join(format!("callboard-fuzz-{}", std::process::id()));
    // What an earlier process of this number has left.
    let _ = std::fs::remove_dir_all(&directory);
    let state = StateDatabase::open(&directory, &StateOptions::simulator()).expect("an empty directory");
    let (mut machine, _) = Machine::open(state, ORIGIN, MachineOptions::default()).expect("an empty state");
    let initial = InitialState {
        applied_index: LogIndex(1),
        ..InitialState::default()
    };
    machine.initialize(initial).expect("an empty state");
    machine
}

/// What the API proposes, if it proposes anything.
fn accepted(choice: u8, body: Bytes) -> Option<Request> {
    Some(match choice % 6 {
        0 => {
            let request = PutRequest::decode(body).ok()?;
            check::put(&request).ok()?;
            Request::Put(request)
        }
        1 => {
            let request = DeleteRangeRequest::decode(body).ok()?;
            check::delete_range(&request).ok()?;
            Request::DeleteRange(request)
        }
        2 => Request::Compaction(CompactionRequest::decode(body).ok()?),
        3 => Request::LeaseGrant(LeaseGrantRequest::decode(body).ok()?),
        4 => Request::LeaseRevoke(LeaseRevokeRequest::decode(body).ok()?),
        _ => Request::Txn(check::read_txn(body, TxnBounds::of(OPS_MAX)).ok()?),
    })
}

fuzz_target!(|data: &[u8]| {
    let Some((choice, body)) = data.split_first() else {
        return;
    };
    // A batch from another member, too: what is let in decodes.
    let (forwarded, _) = ReadableCommands::within(Bytes::copy_from_slice(body));
    let read = entry::commands(Bytes::copy_from_slice(forwarded.as_bytes())).expect("what was let in can be told apart");
    assert!(read.iter().all(|command| matches!(command, EntryCommand::Read(_))));

    let Some(request) = accepted(*choice, Bytes::copy_from_slice(body)) else {
        return;
    };
    let command = Command {
        origin: ORIGIN,
        id: 1,
        caller: None,
        request: Some(request),
    };
    let commands = ReadableCommands::of(&command).expect("what was accepted can be read back");
    MACHINE.with_borrow_mut(|machine| {
        let entry = CommittedEntry {
            index: LogIndex(machine.applied_index().get() + 1),
            term: Term(1),
            payload: Payload::Commands(Bytes::copy_from_slice(commands.as_bytes())),
        };
        let replies = machine.apply(&[entry]).expect("what was accepted can be applied");
        assert_eq!(replies.len(), 1);
    });
});
