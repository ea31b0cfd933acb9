//! What log entries hold, and the only decoder of their commands, for the applier and for the code that admits commands to the
//! log.
//!
//! Invariant: a command that reaches the log can be decoded. [`ReadableCommands`] is the only way in, and decodes its input
//! exactly as the applier does later, unless the command's type alone guarantees success. If a command in the log cannot be
//! decoded all the same, for example because a member with other limits proposed it, every member refuses it alike and
//! continues: decoding depends on nothing but the bytes, and a member that stopped would stop again at each start. If not even
//! the frames of an entry's commands can be told apart, the entry is damaged and the member stops, since the others may have
//! read it. The member also stops at a command of an unknown kind: members of a newer version carry it out.

use crate::mutants::{self, Mutant};
use crate::proto::etcdserverpb::request_op::Request as Operation;
use crate::proto::log::{Command, CommandBatch, CommandHead, command};
use bytes::{Buf, Bytes};
use prost::{DecodeError, Message};

/// The format of an entry's data, stored in the entry's `context`. A member that meets another format stops: it cannot do with
/// the entry what the other members do.
pub const FORMAT: u8 = 1;

/// The content of a log entry. Code that uses it names each kind, so that none is taken for an empty one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Nothing: the first entry of a leader's term.
    Empty,
    /// An encoded `callboard.log.CommandBatch`.
    Commands(Bytes),
    /// A change of raft's configuration: an encoded `callboard.log.CommandBatch` of one `MemberChange`.
    Configuration(Bytes),
    /// Data that this version cannot read. The context names its format.
    Unknown { context: Bytes, data: Bytes },
}

impl Payload {
    /// The payload of an entry that does not change raft's configuration.
    pub fn of_normal(context: Bytes, data: Bytes) -> Self {
        match (&context[..], data.is_empty()) {
            ([], true) => Self::Empty,
            ([FORMAT], _) => Self::Commands(data),
            _ => Self::Unknown { context, data },
        }
    }

    /// The payload of an entry that changes raft's configuration. Raft's own data repeats part of the command in the context;
    /// only the command counts.
    pub fn of_configuration(mut context: Bytes, data: Bytes) -> Self {
        if context.first() != Some(&FORMAT) {
            return Self::Unknown { context, data };
        }
        context.advance(1);
        Self::Configuration(context)
    }

    /// The context of an entry that is to be read as [`Self::Configuration`].
    pub fn configuration_context(commands: &ReadableCommands) -> Vec<u8> {
        [&[FORMAT], commands.as_bytes()].concat()
    }

    /// The data as it is in the log.
    pub fn data(&self) -> &[u8] {
        match self {
            Self::Empty => &[],
            Self::Commands(data) | Self::Configuration(data) | Self::Unknown { data, .. } => data,
        }
    }
}

/// Field 1 of `callboard.log.CommandBatch`, length-delimited: a command within its batch.
pub const COMMAND_TAG: u8 = 0x0a;

/// One command of an entry.
#[derive(Debug, PartialEq)]
pub enum EntryCommand {
    Read(Command),
    /// A command that cannot be decoded. Its head names its proposer, if even the head can be decoded.
    Unreadable(CommandHead, DecodeError),
}

/// Why this member cannot carry out the commands of an entry.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum EntryError {
    #[error("its commands cannot be told apart: {0}")]
    Frames(DecodeError),
    #[error("it has a command of a kind that this version does not know")]
    UnknownCommand,
}

/// The commands of an entry, in order.
pub fn commands(data: Bytes) -> Result<Vec<EntryCommand>, EntryError> {
    let commands: Vec<_> = match CommandBatch::decode(data.clone()) {
        Ok(batch) => batch.commands.into_iter().map(EntryCommand::Read).collect(),
        Err(error) => {
            let frames = frames(data).collect::<Option<Vec<_>>>();
            let frames = frames.ok_or(EntryError::Frames(error))?;
            frames.into_iter().map(read_command).collect()
        }
    };
    let is_unknown = |command: &EntryCommand| matches!(command, EntryCommand::Read(read) if !is_known(read));
    if commands.iter().any(is_unknown) {
        return Err(EntryError::UnknownCommand);
    }
    Ok(commands)
}

/// Whether this version knows the command's kind. An unknown kind decodes as none.
fn is_known(command: &Command) -> bool {
    command.request.is_some()
}

/// Decodes one framed command.
fn read_command(frame: Bytes) -> EntryCommand {
    match CommandBatch::decode(frame.clone()) {
        Ok(mut batch) => EntryCommand::Read(batch.commands.pop().unwrap_or_default()),
        Err(error) => {
            let head = body(frame).and_then(|body| CommandHead::decode(body).ok());
            EntryCommand::Unreadable(head.unwrap_or_default(), error)
        }
    }
}

/// Removes the frame of a command.
fn body(mut frame: Bytes) -> Option<Bytes> {
    frame.advance(1);
    prost::decode_length_delimiter(&mut frame).ok()?;
    Some(frame)
}

/// The commands of a batch, each with its tag and length. `None`, as the last item, where they cannot be told apart.
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

/// Encoded commands that the applier can decode.
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

    /// The readable commands of another member's batch, and the number of unreadable ones. If commands cannot be told apart,
    /// the rest of the batch counts as one.
    pub fn within(batch: Bytes) -> (Self, usize) {
        let is_readable = |batch: &CommandBatch| batch.commands.iter().all(is_known);
        if mutants::active(Mutant::DepthUnchecked)
            || CommandBatch::decode(batch.clone()).is_ok_and(|batch| is_readable(&batch))
        {
            return (Self(batch), 0);
        }
        Self::filter(batch, |_| true)
    }

    /// The commands for which `keep` returns true, and the number of unreadable ones, which are removed too.
    pub fn filter(batch: Bytes, keep: impl Fn(&Command) -> bool) -> (Self, usize) {
        let mut kept = Vec::with_capacity(batch.len());
        let mut unreadable = 0;
        for frame in frames(batch) {
            match frame.map(|frame| (read_command(frame.clone()), frame)) {
                Some((EntryCommand::Read(command), frame)) if is_known(&command) => {
                    if keep(&command) {
                        kept.extend_from_slice(&frame);
                    }
                }
                Some(_) | None => unreadable += 1,
            }
        }
        (Self(kept.into()), unreadable)
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The command, if there is exactly one.
    pub fn single(&self) -> Option<Command> {
        let mut commands = CommandBatch::decode(self.0.clone()).ok()?.commands;
        commands.pop().filter(|_| commands.is_empty())
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Whether a command's depth depends on its content. The depth of all other commands follows from their type, so what was
/// encoded here can be decoded.
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

    /// More levels than the decoder accepts.
    const TOO_DEEP: usize = 60;

    fn numbered(id: u64, request: Request) -> Command {
        Command {
            origin: 7,
            id,
            caller: None,
            request: Some(request),
        }
    }

    /// Three commands, of which the second is nested too deeply.
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
    fn no_entry_is_taken_for_another_kind() {
        let data = Bytes::from_static(b"x");
        let of = |context: &'static [u8], data: &Bytes| {
            Payload::of_normal(Bytes::from_static(context), data.clone())
        };
        assert_eq!(of(&[], &Bytes::new()), Payload::Empty);
        assert_eq!(of(&[FORMAT], &data), Payload::Commands(data.clone()));
        for context in [&[][..], &[FORMAT + 1], &[FORMAT, 0]] {
            assert!(matches!(of(context, &data), Payload::Unknown { .. }));
        }
        assert!(matches!(of(&[0], &Bytes::new()), Payload::Unknown { .. }));
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

    #[test]
    fn a_command_of_an_unknown_kind_is_not_let_in_and_never_taken_for_an_empty_one() {
        let (commands, _) = batch();
        // Field 999, as a later version may define it.
        let unknown = [
            &numbered(4, Request::Put(put("c", "3"))).encode_to_vec()[..9],
            &[0xba, 0x3e, 0],
        ]
        .concat();
        let known = CommandBatch {
            commands: vec![commands[0].clone()],
        };
        let mut bytes = known.encode_to_vec();
        bytes.extend_from_slice(&[COMMAND_TAG, unknown.len() as u8]);
        bytes.extend_from_slice(&unknown);
        let decoded = CommandBatch::decode(&bytes[..]).expect("it decodes");
        assert_eq!(
            decoded.commands[1].request, None,
            "which is why it has to be looked at"
        );
        assert_eq!(
            super::commands(bytes.clone().into()),
            Err(EntryError::UnknownCommand)
        );
        let (kept, unreadable) = ReadableCommands::within(bytes.into());
        assert_eq!((kept.as_bytes(), unreadable), (&known.encode_to_vec()[..], 1));
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
            prop_assert!(super::commands(Bytes::copy_from_slice(kept.as_bytes())).is_ok());
        }
    }
}
