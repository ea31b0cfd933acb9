//! Decides about a journal that cannot be read further: was it a torn write, or bit rot?
//!
//! A power loss may take any of the pages that were not synced, in any order (out-of-order writeback), and may tear one between
//! two sectors. So a torn write differs from what was written in one way only: whole sectors, or the rest of a sector from the
//! start of a write call on, are zero. And nothing that was synced is torn. It follows:
//!
//! * A broken batch that a later, sound one knew to be synced has rotted ([`Mark::synced`] is taken before that batch is begun,
//!   from a sync that had returned by then).
//! * A broken batch in which no sector is missing, and which is followed by a sound one or ends as it should, has rotted.
//! * Anything else is torn, even if sound batches follow.
//!
//! A client can store bytes that look like a batch. They do not count unless they name the right position, and positions start
//! from a random number.

use crate::mutants::{self, Mutant};
use crate::storage::journal::batch::{Batch, Mark, Outline, START, TRAILER};

/// A disk writes a sector completely or not at all.
pub(super) const SECTOR_BYTES: usize = 512;

/// The content of a journal from the first byte that is not part of a sound batch, without the zeros at its end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Remains<'a> {
    pub bytes: &'a [u8],
    /// Where they begin in the file.
    pub offset: u64,
    /// Their position in terms of marks, if an earlier mark tells.
    pub position: Option<u64>,
}

impl Remains<'_> {
    /// Why a power loss cannot have left these bytes; none if it can.
    pub fn why_rotten(&self) -> Option<&'static str> {
        if self.bytes.is_empty() {
            return None;
        }
        let mut followed_at = None;
        for (at, mark) in self.sound_batches() {
            let was_synced = mark.is_none_or(|mark| mark.position - mark.synced < at as u64);
            if was_synced && !mutants::active(Mutant::MarksIgnored) {
                return Some(
                    "a later batch was written when this one was on the disk, which it is not any more",
                );
            }
            if mutants::active(Mutant::OutOfOrderTakenForRot) {
                return Some("a sound batch follows a broken one");
            }
            followed_at = followed_at.or(Some(at));
        }
        let outline = Outline::of(self.bytes);
        let seems_whole = followed_at.is_some() || outline.end.is_some() || self.ends_like_a_batch();
        (seems_whole && !self.lacks_something(outline, followed_at))
            .then_some("a batch was written in full, and is not what was written")
    }

    /// Why these bytes cannot be a write in progress in a journal that is in use, where batches are written in order; none if
    /// they can.
    pub fn why_unsound(&self) -> Option<&'static str> {
        if self.sound_batches().next().is_some() {
            Some("a sound batch follows a broken one")
        } else if self.ends_like_a_batch() && !self.lacks_something(Outline::of(self.bytes), None) {
            Some("the last batch was written in full, and is not what was written")
        } else {
            None
        }
    }

    /// Whether sound batches follow.
    pub fn is_followed(&self) -> bool {
        self.sound_batches().next().is_some()
    }

    /// Sound batches behind the beginning: the offset and the mark of each.
    fn sound_batches(&self) -> impl Iterator<Item = (usize, Option<Mark>)> {
        let mut at = 1;
        std::iter::from_fn(move || {
            while let Some(step) = self.bytes.get(at..)?.iter().position(|byte| *byte == START) {
                let place = at + step;
                at = place + 1;
                let Some(batch) = Batch::at_start_of(&self.bytes[place..]) else {
                    continue;
                };
                if self.is_in_place(place, batch.mark) {
                    at = place + batch.bytes as usize;
                    return Some((place, batch.mark));
                }
            }
            None
        })
    }

    /// Whether bytes that look like a batch were written as one, and are not the content of a batch.
    fn is_in_place(&self, at: usize, mark: Option<Mark>) -> bool {
        match (mark, self.position) {
            (Some(mark), Some(position)) => {
                mark.position == position.wrapping_add(at as u64) && mark.synced <= mark.position
            }
            (Some(mark), None) => mark.synced <= mark.position && mark.position >= at as u64,
            // Once a batch has a mark, all later ones have one.
            (None, position) => position.is_none(),
        }
    }

    /// Whether the last bytes are a trailer, rotten or not. A torn write ends with something else, or with half a trailer.
    fn ends_like_a_batch(&self) -> bool {
        let Some(last) = self.bytes.last_chunk::<4>() else {
            return false;
        };
        (u32::from_le_bytes(*last) ^ u32::from_le_bytes(*TRAILER)).count_ones() <= 2
    }

    /// Whether a sector, or the rest of one, is missing from the first batch here.
    fn lacks_something(&self, outline: Outline, followed_at: Option<usize>) -> bool {
        let end = outline.end.or(followed_at).unwrap_or(self.bytes.len());
        let batch = &self.bytes[..end.min(followed_at.unwrap_or(end))];
        lacks_sector(batch, self.offset) || lacks_end_of_sector(batch, self.offset, outline.boundary)
    }
}

/// Whether one of the sectors that these bytes span is all zero.
fn lacks_sector(bytes: &[u8], offset: u64) -> bool {
    let first = left_of_sector(offset).min(bytes.len());
    let (head, tail) = bytes.split_at(first);
    is_empty(head) || tail.chunks(SECTOR_BYTES).any(is_empty)
}

/// Whether a sector is zero from this item on. The engine's write calls begin with items.
fn lacks_end_of_sector(bytes: &[u8], offset: u64, boundary: usize) -> bool {
    let end = boundary + left_of_sector(offset + boundary as u64);
    bytes.get(boundary..end).is_some_and(is_empty)
}

fn left_of_sector(offset: u64) -> usize {
    SECTOR_BYTES - (offset % SECTOR_BYTES as u64) as usize
}

fn is_empty(sector: &[u8]) -> bool {
    sector.iter().all(|byte| *byte == 0)
}
