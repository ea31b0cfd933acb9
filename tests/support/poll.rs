//! Waiting for a state: ask again and again until a deadline, never a fixed sleep.

use std::fmt::Display;
use std::time::{Duration, Instant};

/// Pause between two looks: short against everything waited for, long enough to leave the processors to the members.
pub const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Repeats `look` until it returns something. `Err` with the last complaint once `limit` has passed.
pub fn until<T, E: Display>(limit: Duration, mut look: impl FnMut() -> Result<T, E>) -> Result<T, String> {
    let deadline = Instant::now() + limit;
    loop {
        match look() {
            Ok(found) => return Ok(found),
            Err(complaint) if Instant::now() >= deadline => {
                return Err(format!("not within {limit:?}: {complaint}"));
            }
            Err(_) => std::thread::sleep(POLL_INTERVAL),
        }
    }
}
