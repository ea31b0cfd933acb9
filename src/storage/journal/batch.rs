//! The layout of a journal: batches as fjall 3 writes them (its `journal/entry.rs`), and the mark at the end of each of ours. Not
//! here: what a broken batch means (`journal/damage`), and when a mark is written (`journal/writer`).

use xxhash_rust::xxh3::Xxh3;

pub(in crate::storage) const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
/// The last bytes of every whole batch.
pub(in crate::storage) const TRAILER: &[u8; 4] = b"FJL\x03";
/// Tag, number of items, sequence number.
const START_BYTES: usize = 13;
/// Tag, checksum, trailer.
const END_BYTES: usize = 13;
/// Tag, kind, compression, keyspace, length of the key, of the value, and of the value as stored.
const ITEM_HEADER_BYTES: usize = 21;
/// Tag, keyspace.
const CLEAR_BYTES: usize = 9;

/// The key of a mark, which is the last item of a batch.
pub const MARK_KEY: &[u8] = b"\0mark";
const MARK_BYTES: usize = 16;

/// The bytes of a batch with these items; `item_bytes` is the sum over its items of [`item_bytes`].
pub(in crate::storage) const fn batch_bytes(item_bytes: u64) -> u64 {
    (START_BYTES + END_BYTES) as u64 + item_bytes
}

/// The bytes of one item.
pub(in crate::storage) const fn item_bytes(key_bytes: usize, value_bytes: usize) -> u64 {
    (ITEM_HEADER_BYTES + key_bytes + value_bytes) as u64
}

/// The position of a batch, and what was known to be synced when it was written. Both count bytes of batches from an arbitrary
/// start, across all journals of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Where this batch begins.
    pub position: u64,
    /// Everything before this position was on disk when this batch was begun.
    pub synced: u64,
}

impl Mark {
    /// The bytes of an item that holds a mark.
    pub const ITEM_BYTES: u64 = item_bytes(MARK_KEY.len(), MARK_BYTES);

    pub fn to_bytes(self) -> [u8; MARK_BYTES] {
        let mut bytes = [0; MARK_BYTES];
        bytes[..8].copy_from_slice(&self.position.to_le_bytes());
        bytes[8..].copy_from_slice(&self.synced.to_le_bytes());
        bytes
    }

    /// The mark in an item, given its whole key and value.
    fn of_item(item: &[u8]) -> Option<Self> {
        let value: &[u8; MARK_BYTES] = item.strip_prefix(MARK_KEY)?.try_into().ok()?;
        let number = |bytes: &[u8]| bytes.try_into().map(u64::from_le_bytes).ok();
        Some(Self {
            position: number(&value[..8])?,
            synced: number(&value[8..])?,
        })
    }
}

/// A sound batch.
pub(in crate::storage) struct Batch {
    pub sequence: u64,
    pub items: u32,
    pub bytes: u64,
    /// None if an older version wrote the batch.
    pub mark: Option<Mark>,
    /// The keyspaces for which it holds items.
    pub keyspaces: KeyspaceSet,
}

/// A set of keyspace numbers. Those of our databases are small.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyspaceSet(u64);

impl KeyspaceSet {
    fn of_header(header: &[u8]) -> Self {
        let number = if header[0] == CLEAR {
            &header[1..9]
        } else {
            &header[3..11]
        };
        let number = u64::from_le_bytes(number.try_into().expect("eight bytes"));
        Self(
            1_u64
                .checked_shl(u32::try_from(number).unwrap_or(u32::MAX))
                .unwrap_or(0),
        )
    }

    pub fn add(&mut self, other: Self) {
        self.0 |= other.0;
    }

    pub fn numbers(self) -> impl Iterator<Item = u32> {
        (0..u64::BITS).filter(move |number| self.0 & (1 << number) != 0)
    }
}

impl Batch {
    /// Reads one batch; none if the bytes are not a sound one. `read` fills a buffer, or returns false if fewer bytes are left.
    pub fn read<E>(read: &mut impl FnMut(&mut [u8]) -> Result<bool, E>) -> Result<Option<Self>, E> {
        let mut start = [0; START_BYTES];
        if !read(&mut start)? || start[0] != START {
            return Ok(None);
        }
        let items = u32::from_le_bytes(start[1..5].try_into().expect("four bytes"));
        let sequence = u64::from_le_bytes(start[5..].try_into().expect("eight bytes"));
        let mut bytes = start.len() as u64;
        let mut sum = Xxh3::new();
        let mut mark = None;
        let mut keyspaces = KeyspaceSet::default();
        for number in 0..items {
            let Some(item) = Item::read(read, &mut sum)? else {
                return Ok(None);
            };
            bytes += item.bytes;
            keyspaces.add(item.keyspaces);
            if number + 1 == items {
                mark = item.mark;
            }
        }
        let mut end = [0; END_BYTES];
        let whole = read(&mut end)?
            && end[0] == END
            && end[1..9] == sum.digest().to_le_bytes()
            && end[9..] == TRAILER[..];
        bytes += end.len() as u64;
        Ok(whole.then_some(Self {
            sequence,
            items,
            bytes,
            mark,
            keyspaces,
        }))
    }

    /// The sequence number of the batch at the start of these bytes, sound or not.
    pub fn claimed_sequence(bytes: &[u8]) -> Option<u64> {
        let start = bytes.get(..START_BYTES).filter(|start| start[0] == START)?;
        start[5..].try_into().map(u64::from_le_bytes).ok()
    }

    /// The sound batch at the start of these bytes.
    pub fn at_start_of(bytes: &[u8]) -> Option<Self> {
        // Cheaper than the sum, for the many places that only look like the start of a batch.
        Outline::of(bytes).end?;
        let mut left = bytes;
        let mut read = |buffer: &mut [u8]| {
            let Some((taken, rest)) = left.split_at_checked(buffer.len()) else {
                return Ok::<_, std::convert::Infallible>(false);
            };
            buffer.copy_from_slice(taken);
            left = rest;
            Ok(true)
        };
        let Ok(batch) = Self::read(&mut read);
        // The checksum of no items proves nothing.
        batch.filter(|batch| batch.items > 0)
    }
}

struct Item {
    bytes: u64,
    mark: Option<Mark>,
    keyspaces: KeyspaceSet,
}

impl Item {
    /// Reads one item and adds it to the sum; none if the bytes are not an item.
    fn read<E>(
        read: &mut impl FnMut(&mut [u8]) -> Result<bool, E>,
        sum: &mut Xxh3,
    ) -> Result<Option<Self>, E> {
        let mut header = [0; ITEM_HEADER_BYTES];
        if !read(&mut header[..1])? {
            return Ok(None);
        }
        let header = match header[0] {
            CLEAR => &mut header[..CLEAR_BYTES],
            ITEM => &mut header[..],
            _ => return Ok(None),
        };
        if !read(&mut header[1..])? {
            return Ok(None);
        }
        sum.update(header);
        let mut left = content_bytes(header);
        let bytes = header.len() as u64 + left;
        let keyspaces = KeyspaceSet::of_header(header);
        let is_short = left == (MARK_KEY.len() + MARK_BYTES) as u64;
        let mut mark = None;
        let mut buffer = [0; 4096];
        while left > 0 {
            let piece = &mut buffer[..left.min(4096) as usize];
            if !read(piece)? {
                return Ok(None);
            }
            sum.update(piece);
            left -= piece.len() as u64;
            if is_short {
                mark = Mark::of_item(piece);
            }
        }
        Ok(Some(Self {
            bytes,
            mark,
            keyspaces,
        }))
    }
}

/// The bytes of key and value behind the header of an item.
fn content_bytes(header: &[u8]) -> u64 {
    if header[0] == CLEAR {
        return 0;
    }
    let key_bytes = u16::from_le_bytes(header[11..13].try_into().expect("two bytes"));
    let value_bytes = u32::from_le_bytes(header[17..21].try_into().expect("four bytes"));
    u64::from(key_bytes) + u64::from(value_bytes)
}

/// How far bytes have the form of a batch, regardless of the checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::storage) struct Outline {
    /// Where an item, or the end of the batch, should begin and does not.
    pub boundary: usize,
    /// Where the batch ends, if it seems complete.
    pub end: Option<usize>,
}

impl Outline {
    pub fn of(bytes: &[u8]) -> Self {
        let mut boundary = 0;
        let end = Self::follow(bytes, &mut boundary);
        Self { boundary, end }
    }

    fn follow(bytes: &[u8], boundary: &mut usize) -> Option<usize> {
        let start = bytes.get(..START_BYTES).filter(|start| start[0] == START)?;
        let items = u32::from_le_bytes(start[1..5].try_into().expect("four bytes"));
        *boundary = START_BYTES;
        for _ in 0..items {
            let rest = &bytes[*boundary..];
            let header = match *rest.first()? {
                CLEAR => rest.get(..CLEAR_BYTES)?,
                ITEM => rest.get(..ITEM_HEADER_BYTES)?,
                _ => return None,
            };
            let item_bytes = header.len() as u64 + content_bytes(header);
            if item_bytes > rest.len() as u64 {
                return None;
            }
            *boundary += item_bytes as usize;
        }
        let end = bytes[*boundary..].get(..END_BYTES)?;
        (end[0] == END && end[9..] == TRAILER[..]).then_some(*boundary + END_BYTES)
    }
}
