//! Waiting for a state: ask again and again until a deadline, never a fixed sleep.

use std::fmt::Display;
use std::time::{Duration, Instant};

/// Pause between two looks at a member: short against everything waited for, long enough to leave the processors and
/// the logs to the members.
pub const POLL_INTERVAL: Duration = Duration::from_millis(25);

/// Repeats `look` until it returns something. `Err` with the last complaint once `limit` has passed.
pub fn until<T, E: Display>(limit: Duration, look: impl FnMut() -> Result<T, E>) -> Result<T, String> {
    until_every(POLL_INTERVAL, limit, look)
}

/// The same with a pause of the caller's choice.
pub fn until_every<T, E: Display>(
    pause: Duration,
    limit: Duration,
    mut look: impl FnMut() -> Result<T, E>,
) -> Result<T, String> {
    let deadline = Instant::now() + limit;
    loop {
        match look() {
            Ok(found) => return Ok(found),
            Err(complaint) if Instant::now() >= deadline => {
                return Err(format!("not within {limit:?}: {complaint}"));
            }
            Err(_) => std::thread::sleep(pause),
        }
    }
}
