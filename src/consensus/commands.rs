//! Commands on their way into the log: encoded once, gathered into entries, and proposed as fast as the entries under
//! way allow.

use crate::ids::LogIndex;
use crate::limits::{LONE_ENTRIES_MIN, sizes};
use crate::proto::log::{Command, CommandBatch};
use prost::Message;
use std::collections::VecDeque;

/// Encoded commands, cut into pieces that each fit one entry. The bytes of a piece are those of a
/// `callboard.log.CommandBatch`: commands are encoded once, here, and travel as they are.
#[derive(Debug, Default)]
pub struct CommandQueue {
    pieces: VecDeque<Vec<u8>>,
    bytes: usize,
}

/// Field 1, length-delimited: a command within its batch.
const COMMAND_TAG: u8 = 0x0a;

impl CommandQueue {
    /// Adds a command of this member, which has counted it among those that wait.
    pub fn push(&mut self, command: &Command) {
        let command_bytes = command.encoded_len();
        let piece = self.piece(command_bytes + 12);
        let before = piece.len();
        piece.push(COMMAND_TAG);
        command.encode_length_delimited(piece).expect("a vector grows");
        let added = piece.len() - before;
        self.bytes += added;
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
            && last.len() + first.len() <= sizes().entry_bytes_max
        {
            last.extend_from_slice(first);
            other.pieces.pop_front();
        }
        self.pieces.append(&mut other.pieces);
    }

    /// Takes out the commands that are not to be kept, and whatever does not decode.
    pub fn retain(&mut self, keep: impl Fn(&Command) -> bool) {
        for piece in std::mem::take(self).pieces {
            let decoded = CommandBatch::decode(piece.as_slice());
            let commands = decoded.map(|batch| batch.commands).unwrap_or_default();
            for command in commands.iter().filter(|command| keep(command)) {
                self.push(command);
            }
        }
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

    /// Whether the next entry has no room for more.
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

/// The entries that a leader has proposed and that are not committed yet.
#[derive(Debug, Default)]
pub struct UnderWay {
    entries: VecDeque<(LogIndex, usize)>,
    bytes: usize,
    /// The newest entries that were small, each proposed when nothing else was under way.
    lone_in_a_row: u32,
}

impl UnderWay {
    pub fn add(&mut self, index: LogIndex, bytes: usize) {
        let is_lone = self.entries.is_empty() && bytes <= sizes().lone_entry_bytes_max;
        self.lone_in_a_row = if is_lone {
            self.lone_in_a_row.saturating_add(1)
        } else {
            0
        };
        // A new leader's log may have lost what an earlier term had under way.
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

    /// Whether entries come one at a time, so that nothing is gained by going on beside the sync of one.
    pub fn are_lone(&self) -> bool {
        self.lone_in_a_row >= LONE_ENTRIES_MIN
    }

    /// Nothing is under way any more: this member does not lead.
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
    use crate::limits::{ENTRIES_IN_FLIGHT_MAX, ENTRY_BYTES_MAX, IN_FLIGHT_BYTES_SMALL, LONE_ENTRY_BYTES_MAX};

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
            queue.push(command);
        }
        let mut other = CommandQueue::default();
        for command in &commands[60..] {
            other.push(command);
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
    fn commands_that_are_not_kept_are_gone() {
        let mut queue = CommandQueue::default();
        for id in 0..100 {
            queue.push(&Command {
                origin: 7,
                id,
                request: None,
            });
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
        let batch = vec![0; ENTRY_BYTES_MAX / 2 + 1];
        assert!(queue.push_batch(&batch, ENTRY_BYTES_MAX));
        assert!(queue.push_batch(&batch, ENTRY_BYTES_MAX));
        assert!(!queue.push_batch(&batch, ENTRY_BYTES_MAX));
        assert_eq!(queue.pop().map(|piece| piece.len()), Some(batch.len()));
        assert_eq!(queue.pop().map(|piece| piece.len()), Some(batch.len()));
    }

    #[test]
    fn entries_are_lone_if_each_is_small_and_comes_after_the_last() {
        let mut under_way = UnderWay::default();
        let alone = |under_way: &mut UnderWay, index| {
            under_way.add(LogIndex(index), LONE_ENTRY_BYTES_MAX);
            under_way.committed(LogIndex(index));
        };
        for index in 1..u64::from(LONE_ENTRIES_MIN) {
            alone(&mut under_way, index);
            assert!(!under_way.are_lone());
        }
        alone(&mut under_way, 10);
        assert!(under_way.are_lone());
        under_way.add(LogIndex(11), 1);
        under_way.add(LogIndex(12), 1);
        assert!(!under_way.are_lone(), "two at a time");
        under_way.committed(LogIndex(12));
        for index in 20..30 {
            alone(&mut under_way, index);
        }
        assert!(under_way.are_lone());
        under_way.add(LogIndex(30), LONE_ENTRY_BYTES_MAX + 1);
        assert!(!under_way.are_lone(), "a large one");
    }

    #[test]
    fn small_entries_overlap_and_large_ones_gather() {
        let mut queue = CommandQueue::default();
        let mut under_way = UnderWay::default();
        assert!(!under_way.takes(&queue), "nothing to propose");
        assert!(queue.push_batch(&[0; 100], usize::MAX));
        under_way.add(LogIndex(4), 100);
        assert!(under_way.takes(&queue));
        under_way.add(LogIndex(5), IN_FLIGHT_BYTES_SMALL);
        assert!(
            !under_way.takes(&queue),
            "much is under way and the next entry has room"
        );
        assert!(queue.push_batch(&vec![0; ENTRY_BYTES_MAX], usize::MAX));
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
