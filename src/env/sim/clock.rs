//! Simulated clocks, one per machine. A machine's monotonic clock may run too fast or too slow, within [`DRIFT_PPM_MAX`], and may
//! miss time while the machine is suspended. Its wall clock may show any time. A machine whose clock was never changed shows the
//! simulation's own time.

#![allow(clippy::disallowed_methods)] // this is the seam

use super::network::own_address;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The largest drift of a monotonic clock: that of real ones is a hundredth of it.
pub const DRIFT_PPM_MAX: i64 = 10_000;

const MILLION: i128 = 1_000_000;

thread_local! {
    static CLOCKS: RefCell<BTreeMap<IpAddr, Clock>> = const { RefCell::new(BTreeMap::new()) };
}

/// One machine's clock. Its time and the simulation's were recorded at the same moment; since then it runs at its own rate.
#[derive(Clone, Copy, Debug)]
struct Clock {
    base: Instant,
    shown: Instant,
    drift_ppm: i64,
    wall_offset_ms: i64,
}

impl Clock {
    fn show(&self, now: Instant) -> Instant {
        let passed = now.saturating_duration_since(self.base).as_nanos() as i128;
        let shown = passed * (MILLION + i128::from(self.drift_ppm)) / MILLION;
        self.shown + Duration::from_nanos(shown as u64)
    }

    /// The simulation's time until the clock has advanced by `shown`, rounded up.
    fn real(&self, shown: Duration) -> Duration {
        let real = shown.as_nanos() as i128 * MILLION / (MILLION + i128::from(self.drift_ppm));
        Duration::from_nanos(real as u64 + 1)
    }
}

fn change(machine: IpAddr, change: impl FnOnce(&mut Clock)) {
    let now = Instant::now();
    CLOCKS.with_borrow_mut(|clocks| {
        let clock = clocks.entry(machine).or_insert(Clock {
            base: now,
            shown: now,
            drift_ppm: 0,
            wall_offset_ms: 0,
        });
        (clock.base, clock.shown) = (now, clock.show(now));
        change(clock);
    });
}

/// Makes a machine's monotonic clock run too fast from now on, or too slow if the number is negative.
pub fn drift(machine: IpAddr, ppm: i64) {
    change(machine, |clock| {
        clock.drift_ppm = ppm.clamp(-DRIFT_PPM_MAX, DRIFT_PPM_MAX);
    });
}

/// Sets a machine's wall clock, relative to the simulation's.
pub fn set_wall_offset_ms(machine: IpAddr, offset_ms: i64) {
    change(machine, |clock| clock.wall_offset_ms = offset_ms);
}

/// Hides the time of a suspension that ends now from a machine's monotonic clock.
pub fn hide(machine: IpAddr, suspended: Duration) {
    change(machine, |clock| clock.shown -= suspended);
}

fn own() -> Option<Clock> {
    CLOCKS.with_borrow(|clocks| {
        if clocks.is_empty() {
            return None;
        }
        clocks.get(&own_address()).copied()
    })
}

/// The machine's monotonic clock.
pub fn now() -> Instant {
    let now = Instant::now();
    own().map_or(now, |clock| clock.show(now))
}

/// The machine's wall clock.
pub fn unix_time() -> Duration {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let offset_ms = own().map_or(0, |clock| clock.wall_offset_ms);
    let offset = Duration::from_millis(offset_ms.unsigned_abs());
    if offset_ms < 0 {
        time.saturating_sub(offset)
    } else {
        time + offset
    }
}

/// Waits until this machine's monotonic clock shows a time.
pub async fn sleep_until(deadline: Instant) {
    loop {
        let Some(clock) = own() else {
            return madsim::time::sleep_until(deadline).await;
        };
        let left = deadline.saturating_duration_since(now());
        if left.is_zero() {
            return;
        }
        madsim::time::sleep(clock.real(left)).await;
    }
}
