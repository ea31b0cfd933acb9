//! The order in which a session tries its endpoints, and the pauses in between. Pure: randomness is an argument.
//!
//! The first round over all endpoints has no pause, so that one dead member costs nothing. Each further round waits twice as long
//! as the one before, with jitter so that the clients of a restarted cluster do not reconnect in step.

use std::time::Duration;

/// The pause before the second round.
const DELAY_MIN: Duration = Duration::from_millis(20);
/// The longest pause between rounds: a cluster that comes back is found within this time.
const DELAY_MAX: Duration = Duration::from_secs(2);

/// A position in the list of endpoints, and the number of failed attempts since the last successful one.
#[derive(Clone, Debug)]
pub struct Rotation {
    count: usize,
    position: usize,
    failures: usize,
}

impl Rotation {
    /// Begins at `start`, which may be any number: it is reduced to a position.
    pub fn new(count: usize, start: u64) -> Self {
        assert!(count > 0, "a session has endpoints");
        Self {
            count,
            position: (start % count as u64) as usize,
            failures: 0,
        }
    }

    /// The endpoint to use or to try next.
    pub fn position(&self) -> usize {
        self.position
    }

    /// Records that connecting to the current endpoint failed.
    pub fn connect_failed(&mut self) {
        self.failures += 1;
        self.move_on();
    }

    /// Records a successful connection: the next failure begins a first round again.
    pub fn connected(&mut self) {
        self.failures = 0;
    }

    /// Switches to the next endpoint, for example because the current one does not reply.
    pub fn move_on(&mut self) {
        self.position = (self.position + 1) % self.count;
    }

    /// The pause before the next attempt: at the start of a round, between half and all of the round's pause.
    pub fn delay(&self, random: u64) -> Duration {
        if self.failures == 0 || !self.failures.is_multiple_of(self.count) {
            return Duration::ZERO;
        }
        let round = self.failures / self.count;
        jittered(DELAY_MIN, DELAY_MAX, round - 1, random)
    }
}

/// `min` doubled `doublings` times, at most `max`; of that, between half and all.
pub fn jittered(min: Duration, max: Duration, doublings: usize, random: u64) -> Duration {
    let whole = min.saturating_mul(1 << doublings.min(16)).min(max);
    let half_us = whole.as_micros() as u64 / 2;
    Duration::from_micros(half_us + random % (half_us + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_round_does_not_wait() {
        let mut rotation = Rotation::new(3, 7);
        let mut visited = Vec::new();
        for _ in 0..3 {
            assert_eq!(rotation.delay(u64::MAX), Duration::ZERO);
            visited.push(rotation.position());
            rotation.connect_failed();
        }
        assert_eq!(visited, [1, 2, 0]);
        assert!(rotation.delay(0) >= DELAY_MIN / 2);
        rotation.connect_failed();
        assert_eq!(rotation.delay(0), Duration::ZERO, "only rounds are paused");
    }

    #[test]
    fn pauses_grow_up_to_the_maximum() {
        let mut rotation = Rotation::new(1, 0);
        let mut longest = Duration::ZERO;
        for _ in 0..40 {
            rotation.connect_failed();
            let delay = rotation.delay(0);
            assert!(delay >= longest && delay <= DELAY_MAX);
            longest = delay;
        }
        assert_eq!(longest, DELAY_MAX / 2);
        rotation.connected();
        assert_eq!(rotation.delay(0), Duration::ZERO);
    }

    #[test]
    fn jitter_stays_between_half_and_all() {
        for random in [0, 1, 4_999, 12_345, u64::MAX] {
            let delay = jittered(DELAY_MIN, DELAY_MAX, 0, random);
            assert!(
                delay >= DELAY_MIN / 2 && delay <= DELAY_MIN,
                "{random}: {delay:?}"
            );
        }
    }
}
