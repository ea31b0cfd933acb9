//! The sizes at which the storage engines of a rehearsal's members write tables, merge them and begin new journals. In half of
//! all seeds they are so small that this happens all the time; else it happens only through the fault `engine-work`.

use crate::random::RandomStream;
use std::fmt;

/// Never reached.
const ENDLESS: u64 = 1 << 40;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Engine {
    /// A keyspace's memtable is written to a table at this size.
    pub memtable_bytes: u64,
    /// The size of a table from a merge.
    pub table_bytes: u64,
    /// The number of tables in the first level at which they are merged.
    pub first_level_tables: u8,
    /// The size at which a new journal is begun; None for the real one.
    pub journal_bytes: Option<u64>,
}

impl Default for Engine {
    fn default() -> Self {
        Self {
            memtable_bytes: ENDLESS,
            table_bytes: 8 * 1024 * 1024,
            first_level_tables: 4,
            journal_bytes: None,
        }
    }
}

impl Engine {
    pub fn draw(seed: u64) -> Self {
        let mut random = RandomStream::of(seed, "engine");
        let small = Self {
            memtable_bytes: *random.pick(&[4_000, 16_000, 64_000]),
            table_bytes: *random.pick(&[4_000, 64_000]),
            first_level_tables: *random.pick(&[2, 4]),
            journal_bytes: Some(*random.pick(&[8_000, 32_000, 128_000])),
        };
        if random.chance(50) { small } else { Self::default() }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::default() {
            return write!(f, "endless");
        }
        let journal_bytes = self.journal_bytes.unwrap_or(0);
        write!(
            f,
            "memtable:{},table:{},level:{},journal:{journal_bytes}",
            self.memtable_bytes, self.table_bytes, self.first_level_tables
        )
    }
}
