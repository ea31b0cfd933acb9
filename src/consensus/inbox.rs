//! Everything that reaches the consensus actor, in one place, taken all at once.

use super::handle::Reader;
use crate::ids::{LogIndex, MemberId};
use crate::limits::ENTRY_BYTES_MAX;
use crate::proto::log::Command;
use crate::proto::peer;
use crate::storage::state::StateDatabase;
use bytes::Bytes;
use prost::Message;
use std::sync::Arc;

/// What came in since the actor last looked.
#[derive(Debug, Default)]
pub struct Incoming {
    pub commands: CommandQueue,
    /// Command batches that followers forwarded, for the leader to propose.
    pub forwarded: Vec<Bytes>,
    pub reads: Vec<Reader>,
    pub messages: Vec<peer::Message>,
    pub snapshots: Vec<ArrivedSnapshot>,
    pub snapshot_reports: Vec<(MemberId, bool)>,
    pub unreachable: Vec<MemberId>,
    /// The newest write that the log's disk has.
    pub persisted_write: u64,
    /// The newest index that the state has.
    pub applied: LogIndex,
    /// The newest index that the state's disk has.
    pub state_synced: LogIndex,
    /// The state of an accepted snapshot is in use.
    pub state_replaced: bool,
    pub hand_over_leadership: bool,
    /// Time passed: at most one tick counts, however long the actor was busy, as time that it could not see.
    pub ticked: bool,
}

/// A snapshot whose state has been written and synced beside the one in use.
#[derive(Debug)]
pub struct ArrivedSnapshot {
    pub announcement: peer::Message,
    pub state: Arc<StateDatabase>,
}

/// Encoded commands, cut into pieces that each fit one entry. The bytes of a piece are those of a
/// `callboard.log.CommandBatch`: commands are encoded once, here, and travel as they are.
#[derive(Debug, Default)]
pub struct CommandQueue {
    pieces: std::collections::VecDeque<Vec<u8>>,
    bytes: usize,
}

/// Field 1, length-delimited: a command within its batch.
const COMMAND_TAG: u8 = 0x0a;

impl CommandQueue {
    /// Adds a command; false where the queue holds `bytes_max` already.
    pub fn push(&mut self, command: &Command, bytes_max: usize) -> bool {
        if self.bytes >= bytes_max {
            return false;
        }
        let command_bytes = command.encoded_len();
        let piece = self.piece(command_bytes + 12);
        let before = piece.len();
        piece.push(COMMAND_TAG);
        command.encode_length_delimited(piece).expect("a vector grows");
        let added = piece.len() - before;
        self.bytes += added;
        true
    }

    /// Adds a batch that is encoded already; false where the queue holds `bytes_max` already.
    pub fn push_batch(&mut self, batch: &[u8], bytes_max: usize) -> bool {
        if self.bytes >= bytes_max {
            return false;
        }
        self.piece(batch.len()).extend_from_slice(batch);
        self.bytes += batch.len();
        true
    }

    /// Adds everything of another queue behind.
    pub fn append(&mut self, mut other: Self) {
        self.bytes += other.bytes;
        if let (Some(last), Some(first)) = (self.pieces.back_mut(), other.pieces.front())
            && last.len() + first.len() <= ENTRY_BYTES_MAX
        {
            last.extend_from_slice(first);
            other.pieces.pop_front();
        }
        self.pieces.append(&mut other.pieces);
    }

    /// Takes what makes the next entry.
    pub fn pop(&mut self) -> Option<Vec<u8>> {
        let piece = self.pieces.pop_front()?;
        self.bytes -= piece.len();
        Some(piece)
    }

    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    fn piece(&mut self, more: usize) -> &mut Vec<u8> {
        if self
            .pieces
            .back()
            .is_none_or(|last| last.len() + more > ENTRY_BYTES_MAX)
        {
            self.pieces.push_back(Vec::with_capacity(more.max(4096)));
        }
        self.pieces.back_mut().expect("a piece was just added")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::log::CommandBatch;

    #[test]
    fn queued_commands_decode_as_batches() {
        let mut queue = CommandQueue::default();
        let commands: Vec<_> = (0..100)
            .map(|id| Command {
                origin: 7,
                id,
                request: None,
            })
            .collect();
        for command in &commands[..60] {
            assert!(queue.push(command, usize::MAX));
        }
        let mut other = CommandQueue::default();
        for command in &commands[60..] {
            assert!(other.push(command, usize::MAX));
        }
        queue.append(other);
        let forwarded = CommandBatch {
            commands: commands[..3].to_vec(),
        }
        .encode_to_vec();
        assert!(queue.push_batch(&forwarded, usize::MAX));
        let bytes = queue.pop().expect("a piece");
        let decoded = CommandBatch::decode(bytes.as_slice()).expect("a batch");
        assert_eq!(decoded.commands[..100], commands);
        assert_eq!(decoded.commands[100..], commands[..3]);
        assert!(queue.is_empty());
        assert_eq!(queue.bytes, 0);
    }

    #[test]
    fn pieces_fit_an_entry_and_the_queue_is_bounded() {
        let mut queue = CommandQueue::default();
        let batch = vec![0; ENTRY_BYTES_MAX / 2 + 1];
        assert!(queue.push_batch(&batch, ENTRY_BYTES_MAX));
        assert!(queue.push_batch(&batch, ENTRY_BYTES_MAX));
        assert!(!queue.push_batch(&batch, ENTRY_BYTES_MAX));
        assert_eq!(queue.pop().map(|piece| piece.len()), Some(batch.len()));
        assert_eq!(queue.pop().map(|piece| piece.len()), Some(batch.len()));
    }
}
