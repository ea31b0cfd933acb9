//! The commands of a log entry: the one decoder, for the applier and for what lets commands into the log.
//!
//! The invariant: a command that reaches the log decodes. [`ReadableCommands`] is the only way in, and it decodes what it is made
//! of exactly as the applier does later, unless its type alone says that it decodes. Should a command in the log not decode all
//! the same, for example because a member with other bounds proposed it, every member refuses it alike and goes on: decoding
//! depends on nothing but the bytes, and stopping would stop every member, at each start again. An entry of which not even the
//! frames of its commands can be told apart is damaged; there the member stops, since the others may have read what it cannot.

use crate::mutants::{self, Mutant};
use crate::proto::etcdserverpb::request_op::Request as Operation;
use crate::proto::log::{Command, CommandBatch, CommandHead, command};
use bytes::{Buf, Bytes};
use prost::{DecodeError, Message};

/// Field 1 of `callboard.log.CommandBatch`, length-delimited: a command within its batch.
pub const COMMAND_TAG: u8 = 0x0a;

/// One command of an entry.
#[derive(Debug, PartialEq)]
pub enum EntryCommand {
    Read(Command),
    /// It does not decode. Its head says who waits for it, if even that can be told.
    Unreadable(CommandHead, DecodeError),
}

/// The commands of an entry, in order. An error means that they cannot be told apart.
pub fn commands(data: Bytes) -> Result<Vec<EntryCommand>, DecodeError> {
    match CommandBatch::decode(data.clone()) {
        Ok(batch) => Ok(batch.commands.into_iter().map(EntryCommand::Read).collect()),
        Err(error) => {
            let frames = frames(data).collect::<Option<Vec<_>>>().ok_or(error)?;
            Ok(frames.into_iter().map(read_command).collect())
        }
    }
}

/// The command in a frame of its own.
fn read_command(frame: Bytes) -> EntryCommand {
    match CommandBatch::decode(frame.clone()) {
        Ok(mut batch) => EntryCommand::Read(batch.commands.pop().unwrap_or_default()),
        Err(error) => {
            let head = body(frame).and_then(|body| CommandHead::decode(body).ok());
            EntryCommand::Unreadable(head.unwrap_or_default(), error)
        }
    }
}

/// A command without its frame.
fn body(mut frame: Bytes) -> Option<Bytes> {
    frame.advance(1);
    prost::decode_length_delimiter(&mut frame).ok()?;
    Some(frame)
}

/// The commands of a batch, each with its tag and length; `None`, and then no more, where they cannot be told apart.
fn frames(mut data: Bytes) -> impl Iterator<Item = Option<Bytes>> {
    let next = move || {
        if data.is_empty() {
            return None;
        }
        let mut rest = data.clone();
        let frame = (|| {
            if rest.get_u8() != COMMAND_TAG {
                return None;
            }
            let bytes = prost::decode_length_delimiter(&mut rest).ok()?;
            let head_bytes = data.len() - rest.len();
            (bytes <= rest.len()).then(|| data.split_to(head_bytes + bytes))
        })();
        if frame.is_none() {
            data.clear();
        }
        Some(frame)
    };
    std::iter::from_fn(next)
}

/// Encoded commands that decode as the applier decodes them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadableCommands(Bytes);

impl ReadableCommands {
    /// A single command.
    pub fn of(command: &Command) -> Result<Self, DecodeError> {
        let bytes = command.encoded_len();
        let mut frame = Vec::with_capacity(bytes + 12);
        frame.push(COMMAND_TAG);
        command
            .encode_length_delimited(&mut frame)
            .expect("a vector grows");
        let frame = Bytes::from(frame);
        if nests(command) && !mutants::active(Mutant::DepthUnchecked) {
            CommandBatch::decode(frame.clone())?;
        }
        Ok(Self(frame))
    }

    /// What of a batch from another member decodes, and how many commands of it do not. Where they cannot be told apart the rest of
    /// the batch counts as one.
    pub fn within(batch: Bytes) -> (Self, usize) {
        if mutants::active(Mutant::DepthUnchecked) || CommandBatch::decode(batch.clone()).is_ok() {
            return (Self(batch), 0);
        }
        Self::filter(batch, |_| true)
    }

    /// Those commands that are to be kept, and how many were taken out because they do not decode.
    pub fn filter(batch: Bytes, keep: impl Fn(&Command) -> bool) -> (Self, usize) {
        let mut kept = Vec::with_capacity(batch.len());
        let mut unreadable = 0;
        for frame in frames(batch) {
            match frame.map(|frame| (read_command(frame.clone()), frame)) {
                Some((EntryCommand::Read(command), frame)) => {
                    if keep(&command) {
                        kept.extend_from_slice(&frame);
                    }
                }
                Some((EntryCommand::Unreadable(..), _)) | None => unreadable += 1,
            }
        }
        (Self(kept.into()), unreadable)
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Whether how deep a command is depends on what it holds. All others are as deep as their type, and what was encoded here then
/// decodes.
fn nests(command: &Command) -> bool {
    let Some(command::Request::Txn(txn)) = &command.request else {
        return false;
    };
    let mut branches = txn.success.iter().chain(&txn.failure);
    branches.any(|operation| matches!(operation.request, Some(Operation::RequestTxn(_))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::TXN_LEVELS_MAX;
    use crate::proto::etcdserverpb::{Compare, RequestOp, TxnRequest};
    use crate::proto::log::command::Request;
    use crate::proto::log::{ExpiredLease, LeaseExpiry, MemberAttributes};
    use crate::state::testing::{nested, put};
    use proptest::prelude::*;

    /// More levels than the decoder takes.
    const TOO_DEEP: usize = 60;

    fn numbered(id: u64, request: Request) -> Command {
        Command {
            origin: 7,
            id,
            request: Some(request),
        }
    }

    /// Three commands; the one in the middle is nested too deeply.
    fn batch() -> (Vec<Command>, Bytes) {
        let commands = vec![
            numbered(1, Request::Put(put("a", "1"))),
            numbered(2, Request::Txn(nested(TOO_DEEP))),
            numbered(3, Request::Put(put("b", "2"))),
        ];
        let batch = CommandBatch { commands };
        let bytes = batch.encode_to_vec().into();
        (batch.commands, bytes)
    }

    #[test]
    fn commands_as_deep_as_the_api_lets_through_are_readable_and_deeper_ones_are_not_let_in() {
        let deepest = numbered(1, Request::Txn(nested(TXN_LEVELS_MAX)));
        assert!(ReadableCommands::of(&deepest).is_ok());
        let too_deep = numbered(1, Request::Txn(nested(TOO_DEEP)));
        assert!(ReadableCommands::of(&too_deep).is_err());
    }

    #[test]
    fn what_does_not_nest_decodes_without_a_look() {
        let flat = TxnRequest {
            compare: vec![Compare::default()],
            success: vec![RequestOp {
                request: Some(Operation::RequestPut(put("a", "1"))),
            }],
            failure: vec![RequestOp::default()],
        };
        let requests = [
            Request::Put(put("a", "1")),
            Request::Txn(flat),
            Request::LeaseExpiry(LeaseExpiry {
                term: 1,
                leases: vec![ExpiredLease::default()],
            }),
            Request::MemberAttributes(MemberAttributes {
                name: "\u{fffd}".into(),
                ..MemberAttributes::default()
            }),
        ];
        for request in requests {
            let command = numbered(1, request);
            assert!(!nests(&command));
            let let_in = ReadableCommands::of(&command).expect("nobody looks");
            let read = CommandBatch::decode(let_in.as_bytes()).expect("it decodes");
            assert_eq!(read.commands, [command]);
        }
        assert!(nests(&numbered(1, Request::Txn(nested(2)))));
        assert!(!nests(&numbered(1, Request::Txn(nested(1)))));
    }

    #[test]
    fn an_unreadable_command_leaves_its_neighbours_alone() {
        let (commands, bytes) = batch();
        let read = super::commands(bytes.clone()).expect("frames are sound");
        assert_eq!(read.len(), 3);
        assert_eq!(read[0], EntryCommand::Read(commands[0].clone()));
        assert!(matches!(&read[1], EntryCommand::Unreadable(head, _) if (head.origin, head.id) == (7, 2)));
        assert_eq!(read[2], EntryCommand::Read(commands[2].clone()));

        let (kept, unreadable) = ReadableCommands::within(bytes);
        let kept = CommandBatch::decode(kept.as_bytes()).expect("what is left decodes");
        assert_eq!(
            (kept.commands, unreadable),
            (vec![commands[0].clone(), commands[2].clone()], 1)
        );
    }

    #[test]
    fn what_cannot_be_told_apart_ends_a_batch_and_is_no_entry() {
        let (commands, bytes) = batch();
        let cut = bytes.slice(..bytes.len() - 1);
        assert!(super::commands(cut.clone()).is_err());
        let (kept, unreadable) = ReadableCommands::within(cut);
        let kept = CommandBatch::decode(kept.as_bytes()).expect("what is left decodes");
        assert_eq!((kept.commands, unreadable), (vec![commands[0].clone()], 2));
    }

    proptest! {
        #[test]
        fn whatever_comes_in_decodes_once_it_is_let_in(
            pieces in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..20)), 0..6),
        ) {
            let mut bytes = vec![];
            for (framed, piece) in pieces {
                if framed {
                    bytes.extend_from_slice(&[COMMAND_TAG, piece.len() as u8]);
                }
                bytes.extend_from_slice(&piece);
            }
            let (kept, _) = ReadableCommands::within(bytes.into());
            prop_assert!(CommandBatch::decode(kept.as_bytes()).is_ok());
        }
    }
}
