//! Commands before they are in the log: they are encoded once, gathered into entries, and proposed as fast as the number of
//! in-flight entries allows.

use crate::ids::LogIndex;
use crate::limits::sizes;
use crate::proto::log::Command;
use crate::state::entry::ReadableCommands;
use std::collections::VecDeque;

/// Encoded commands, cut into pieces that each fit one entry. The bytes of a piece are a `callboard.log.CommandBatch`, so they
/// go into an entry or a message as they are. All commands in it can be decoded.
#[derive(Debug, Default)]
pub struct CommandQueue {
    pieces: VecDeque<Vec<u8>>,
    bytes: usize,
}

impl CommandQueue {
    /// Adds commands of this member. Their number is bounded by the limit on waiting requests.
    pub fn push(&mut self, commands: &ReadableCommands) {
        self.piece(commands.len()).extend_from_slice(commands.as_bytes());
        self.bytes += commands.len();
    }

    /// Adds commands that another member forwarded. Returns false if the queue already holds `bytes_max`.
    pub fn push_forwarded(&mut self, commands: &ReadableCommands, bytes_max: usize) -> bool {
        if self.bytes >= bytes_max {
            return false;
        }
        self.push(commands);
        true
    }

    /// Appends another queue.
    pub fn append(&mut self, mut other: Self) {
        self.bytes += other.bytes;
        if let (Some(last), Some(first)) = (self.pieces.back_mut(), other.pieces.front())
            && last.len() + first.len() <= sizes().entry_bytes_max
        {
            last.extend_from_slice(first);
            other.pieces.pop_front();
        }
        self.pieces.append(&mut other.pieces);
    }

    /// Removes the commands for which `keep` returns false.
    pub fn retain(&mut self, keep: impl Fn(&Command) -> bool) {
        for piece in std::mem::take(self).pieces {
            let (kept, _) = ReadableCommands::filter(piece.into(), &keep);
            if !kept.is_empty() {
                self.push(&kept);
            }
        }
    }

    /// Takes the commands for the next entry.
    pub fn pop(&mut self) -> Option<Vec<u8>> {
        let piece = self.pieces.pop_front()?;
        self.bytes -= piece.len();
        Some(piece)
    }

    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Whether no more commands fit into the next entry.
    fn is_next_full(&self) -> bool {
        self.pieces.len() > 1
    }

    fn piece(&mut self, more: usize) -> &mut Vec<u8> {
        if self
            .pieces
            .back()
            .is_none_or(|last| last.len() + more > sizes().entry_bytes_max)
        {
            self.pieces.push_back(Vec::with_capacity(more.max(4096)));
        }
        self.pieces.back_mut().expect("a piece was just added")
    }
}

/// In-flight entries: those that this leader has proposed and that are not yet committed.
#[derive(Debug, Default)]
pub struct UnderWay {
    entries: VecDeque<(LogIndex, usize)>,
    bytes: usize,
}

impl UnderWay {
    pub fn add(&mut self, index: LogIndex, bytes: usize) {
        // A new leader's log may have lost in-flight entries of an earlier term.
        while self.entries.back().is_some_and(|(last, _)| *last >= index) {
            self.bytes -= self.entries.pop_back().map_or(0, |(_, bytes)| bytes);
        }
        self.entries.push_back((index, bytes));
        self.bytes += bytes;
    }

    pub fn committed(&mut self, index: LogIndex) {
        while self.entries.front().is_some_and(|(first, _)| *first <= index) {
            self.bytes -= self.entries.pop_front().map_or(0, |(_, bytes)| bytes);
        }
    }

    /// Nothing is in flight any more: this member does not lead.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Whether the next entry should be proposed now.
    pub fn takes(&self, commands: &CommandQueue) -> bool {
        !commands.is_empty()
            && self.entries.len() < sizes().entries_in_flight_max
            && (commands.is_next_full() || self.bytes < sizes().in_flight_bytes_small)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{ENTRIES_IN_FLIGHT_MAX, ENTRY_BYTES_MAX, IN_FLIGHT_BYTES_SMALL};
    use crate::proto::etcdserverpb::LeaseRevokeRequest;
    use crate::proto::log::CommandBatch;
    use crate::proto::log::command::Request;
    use prost::Message;

    fn readable(command: &Command) -> ReadableCommands {
        ReadableCommands::of(command).expect("it is flat")
    }

    /// A batch of one command that is `bytes` long.
    fn sized(bytes: usize) -> ReadableCommands {
        use crate::proto::etcdserverpb::PutRequest;
        let put = |value_bytes: usize| {
            readable(&Command {
                request: Some(crate::proto::log::command::Request::Put(PutRequest {
                    value: vec![0; value_bytes].into(),
                    ..PutRequest::default()
                })),
                ..Command::default()
            })
        };
        let overhead = put(bytes).len() - bytes;
        put(bytes - overhead)
    }

    #[test]
    fn queued_commands_decode_as_batches() {
        let mut queue = CommandQueue::default();
        let commands: Vec<_> = (0..100)
            .map(|id| Command {
                origin: 7,
                id,
                request: Some(Request::LeaseRevoke(LeaseRevokeRequest { id: 1 })),
                ..Command::default()
            })
            .collect();
        for command in &commands[..60] {
            queue.push(&readable(command));
        }
        let mut other = CommandQueue::default();
        for command in &commands[60..] {
            other.push(&readable(command));
        }
        queue.append(other);
        let forwarded = CommandBatch {
            commands: commands[..3].to_vec(),
        };
        let (forwarded, _) = ReadableCommands::within(forwarded.encode_to_vec().into());
        assert!(queue.push_forwarded(&forwarded, usize::MAX));
        let bytes = queue.pop().expect("a piece");
        let decoded = CommandBatch::decode(bytes.as_slice()).expect("a batch");
        assert_eq!(decoded.commands[..100], commands);
        assert_eq!(decoded.commands[100..], commands[..3]);
        assert!(queue.is_empty());
        assert_eq!(queue.bytes, 0);
    }

    #[test]
    fn commands_that_are_not_kept_are_gone() {
        let mut queue = CommandQueue::default();
        for id in 0..100 {
            queue.push(&readable(&Command {
                origin: 7,
                id,
                request: Some(Request::LeaseRevoke(LeaseRevokeRequest { id: 1 })),
                ..Command::default()
            }));
        }
        let before = queue.bytes;
        queue.retain(|command| command.id % 3 == 0);
        assert!(queue.bytes < before / 2);
        let bytes = queue.pop().expect("a piece");
        let decoded = CommandBatch::decode(bytes.as_slice()).expect("a batch");
        let ids: Vec<u64> = decoded.commands.iter().map(|command| command.id).collect();
        assert_eq!(ids, (0..100).step_by(3).collect::<Vec<_>>());
        assert!(queue.is_empty());
        assert_eq!(queue.bytes, 0);
    }

    #[test]
    fn pieces_fit_an_entry_and_the_queue_is_bounded() {
        let mut queue = CommandQueue::default();
        let batch = sized(ENTRY_BYTES_MAX / 2 + 1);
        assert!(queue.push_forwarded(&batch, ENTRY_BYTES_MAX));
        assert!(queue.push_forwarded(&batch, ENTRY_BYTES_MAX));
        assert!(!queue.push_forwarded(&batch, ENTRY_BYTES_MAX));
        assert_eq!(queue.pop().map(|piece| piece.len()), Some(batch.len()));
        assert_eq!(queue.pop().map(|piece| piece.len()), Some(batch.len()));
    }

    #[test]
    fn small_entries_overlap_and_large_ones_gather() {
        let mut queue = CommandQueue::default();
        let mut under_way = UnderWay::default();
        assert!(!under_way.takes(&queue), "nothing to propose");
        queue.push(&sized(100));
        under_way.add(LogIndex(4), 100);
        assert!(under_way.takes(&queue));
        under_way.add(LogIndex(5), IN_FLIGHT_BYTES_SMALL);
        assert!(
            !under_way.takes(&queue),
            "much is under way and the next entry has room"
        );
        queue.push(&sized(ENTRY_BYTES_MAX));
        assert!(under_way.takes(&queue), "the next entry is full");
        for index in 6..4 + ENTRIES_IN_FLIGHT_MAX as u64 {
            under_way.add(LogIndex(index), 1);
        }
        assert!(!under_way.takes(&queue), "too many are under way");
        under_way.committed(LogIndex(5));
        assert!(under_way.takes(&queue));
        under_way.add(LogIndex(6), 1);
        assert_eq!(
            under_way.entries.len(),
            1,
            "an entry takes the place of those that were lost"
        );
    }
}
