//! Lines that strangers can cause as often as they like: only some of them are written.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lets so many lines a second through, and counts the others.
#[derive(Debug)]
pub struct Sparse {
    per_second: u32,
    state: Mutex<SparseState>,
}

#[derive(Debug, Default)]
struct SparseState {
    second: Option<Instant>,
    written: u32,
    left_out: u64,
}

impl Sparse {
    pub fn new(per_second: u32) -> Self {
        Self {
            per_second,
            state: Mutex::default(),
        }
    }

    /// Whether a line may be written at this moment: if so, how many were left out since the last one.
    pub fn pass(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = state
            .second
            .is_none_or(|begin| now.saturating_duration_since(begin) >= Duration::from_secs(1));
        if is_over {
            state.second = Some(now);
            state.written = 0;
        }
        if state.written >= self.per_second {
            state.left_out += 1;
            return None;
        }
        state.written += 1;
        Some(std::mem::take(&mut state.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_lines_a_second_pass_and_the_others_are_counted() {
        let sparse = Sparse::new(2);
        let begin = crate::env::now();
        let at = |milliseconds| sparse.pass(begin + Duration::from_millis(milliseconds));
        let passed: Vec<_> = [0, 1, 2, 999, 1_000, 1_001, 1_002, 5_000].map(at).into();
        let expected = [Some(0), Some(0), None, None, Some(2), Some(0), None, Some(1)];
        assert_eq!(passed, expected);
    }
}
