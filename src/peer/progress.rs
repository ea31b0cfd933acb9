//! How far the transfer of a snapshot has come, for lines in the log at intervals.

use crate::env::Instant;
use std::time::Duration;

/// Interval between two lines about one transfer.
const INTERVAL: Duration = Duration::from_secs(5);

/// Counts the bytes of one transfer.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    expected_bytes: u64,
    bytes: u64,
    /// The last line, and the bytes by then.
    last: (Instant, u64),
}

/// What a line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProgressLine {
    pub bytes: u64,
    /// Share of what is expected, at most 99: how much a state takes in records is known at the end only.
    pub percent: u64,
    pub bytes_per_second: u64,
}

impl Progress {
    /// `bytes` have come already, in an attempt that was interrupted.
    pub fn new(expected_bytes: u64, bytes: u64, now: Instant) -> Self {
        Self {
            expected_bytes,
            bytes,
            last: (now, bytes),
        }
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Counts `bytes` more. A line is due once in an interval.
    pub fn add(&mut self, bytes: u64, now: Instant) -> Option<ProgressLine> {
        self.bytes += bytes;
        let (since, before) = self.last;
        let passed = now - since;
        if passed < INTERVAL {
            return None;
        }
        self.last = (now, self.bytes);
        let milliseconds = passed.as_millis() as u64;
        Some(ProgressLine {
            bytes: self.bytes,
            percent: (self.bytes.saturating_mul(100) / self.expected_bytes.max(1)).min(99),
            bytes_per_second: (self.bytes - before).saturating_mul(1000) / milliseconds,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env;

    #[test]
    fn a_line_is_due_once_in_an_interval() {
        let begin = env::now();
        let mut progress = Progress::new(1000, 100, begin);
        let mut at = |seconds, bytes| progress.add(bytes, begin + Duration::from_secs(seconds));
        let line = |bytes, percent, bytes_per_second| {
            Some(ProgressLine {
                bytes,
                percent,
                bytes_per_second,
            })
        };
        assert_eq!(at(4, 100), None);
        assert_eq!(at(5, 50), line(250, 25, 30));
        assert_eq!(at(9, 50), None);
        assert_eq!(at(15, 900), line(1200, 99, 95));
        assert_eq!(progress.bytes(), 1200);
    }
}
