//! The simulated network: machines by their addresses, the routes between them, and the faults of each route. Streams over it are
//! in `stream`.
//!
//! Where it matters it behaves as TCP over IP: data sent on a cut route arrives after the route is restored, later the longer it
//! was cut. Opening a connection over a cut route takes until it is restored. A machine without power sends nothing at all, and
//! after it restarts it resets the connections of its former run.

#![allow(clippy::disallowed_methods)] // this is the seam

use super::stream::{Listening, Pipe};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// HTTP/2 (RFC 9113, section 4.1): length, type, flags and stream of a frame, with which most pieces begin.
const FRAME_HEAD_BYTES: usize = 9;
/// Types of frames: data, and an undefined one.
const DATA: u8 = 0;
const UNKNOWN: u8 = 0x40;

/// Lost data is retransmitted after this time.
const RESEND_AFTER: Duration = Duration::from_millis(200);
/// The longest backoff between retransmissions.
pub(super) const RESEND_AFTER_MAX: Duration = Duration::from_secs(4);

/// The properties of all routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weather {
    pub latency_us_min: u64,
    pub latency_us_max: u64,
    /// Pieces that are lost and retransmitted, per thousand.
    pub loss_permille: u64,
    /// Bytes that may be in flight or unread, in one direction of a connection.
    pub window_bytes: usize,
}

impl Default for Weather {
    fn default() -> Self {
        Self {
            latency_us_min: 100,
            latency_us_max: 2_000,
            loss_permille: 0,
            window_bytes: 64 * 1024,
        }
    }
}

/// The faults of a route in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// Nothing arrives.
    pub is_cut: bool,
    /// Pieces in which a bit flips, per thousand.
    pub corrupt_permille: u64,
    /// A limit on its throughput, if there is one.
    pub bytes_per_second: Option<u64>,
    /// An additional delay.
    pub delay: Duration,
    /// This many of the next HTTP/2 frames with data get an undefined type, and are ignored at the other end.
    pub vanishing_frames: u64,
}

/// Slow reading by a machine: it reads this many bytes, then pauses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlowReading {
    pub bytes: usize,
    pub pause: Duration,
}

/// Counts for the report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub pieces: u64,
    pub lost: u64,
    pub corrupted: u64,
    pub held_up: u64,
    pub full_windows: u64,
    pub resets: u64,
    pub silenced: u64,
    pub half_opened: u64,
    pub vanished_frames: u64,
}

#[derive(Default)]
pub(super) struct Network {
    addresses: BTreeMap<madsim::task::NodeId, IpAddr>,
    weather: Weather,
    routes: BTreeMap<(IpAddr, IpAddr), Route>,
    slow: BTreeMap<IpAddr, SlowReading>,
    /// Machines without power.
    dark: BTreeSet<IpAddr>,
    pub(super) listening: BTreeMap<SocketAddr, Listening>,
    pipes: Vec<Weak<Pipe>>,
    pub(super) ports: u16,
    pub(super) counts: Counts,
}

thread_local! {
    static NETWORK: RefCell<Network> = RefCell::new(Network::default());
}

pub(super) fn with<R>(use_it: impl FnOnce(&mut Network) -> R) -> R {
    NETWORK.with_borrow_mut(use_it)
}

/// Assigns an address to a machine.
pub fn settle(machine: madsim::task::NodeId, address: IpAddr) {
    with(|network| network.addresses.insert(machine, address));
}

/// This machine's address; the loopback address if none was assigned.
pub fn own_address() -> IpAddr {
    let machine = madsim::plugin::node();
    with(|network| network.addresses.get(&machine).copied()).unwrap_or(Ipv4Addr::LOCALHOST.into())
}

/// Changes the properties of all routes.
pub fn set_weather(weather: Weather) {
    with(|network| network.weather = weather);
}

pub fn counts() -> Counts {
    with(|network| network.counts)
}

/// Changes the faults of a route.
pub fn change_road(from: IpAddr, to: IpAddr, change: impl FnOnce(&mut Route)) {
    with(|network| {
        let route = network.routes.entry((from, to)).or_default();
        change(route);
        if *route == Route::default() {
            network.routes.remove(&(from, to));
        }
    });
    // A writer that waits for a window may learn now that the other end is gone.
    wake(|pipe| pipe.to == from && pipe.from == to);
}

/// Makes a machine read slowly, or at full speed again.
pub fn read_slowly(machine: IpAddr, how: Option<SlowReading>) {
    with(|network| match how {
        Some(how) => network.slow.insert(machine, how),
        None => network.slow.remove(&machine),
    });
}

/// Restores all routes and full reading speed. Machines without power stay off.
pub fn mend_everything() {
    with(|network| {
        network.routes.clear();
        network.slow.clear();
    });
    wake(|_| true);
}

/// A machine loses power: its connections become silent.
pub fn darken(machine: IpAddr) {
    with(|network| network.dark.insert(machine));
    each_pipe(|pipe| pipe.from == machine || pipe.to == machine, Pipe::silence);
}

/// A machine has power again, and resets its former connections.
pub fn lighten(machine: IpAddr) {
    if with(|network| network.dark.remove(&machine)) {
        each_pipe(|pipe| pipe.from == machine || pipe.to == machine, Pipe::reset);
    }
}

/// A middlebox between two machines loses its connection table: nothing arrives on these connections any more, and neither end is
/// told.
pub fn forget_connections(one: IpAddr, other: IpAddr) {
    let between = |pipe: &Pipe| (pipe.from, pipe.to) == (one, other) || (pipe.from, pipe.to) == (other, one);
    each_pipe(between, Pipe::silence);
}

fn each_pipe(which: impl Fn(&Pipe) -> bool, act: impl Fn(&Pipe)) {
    let pipes: Vec<_> = with(|network| network.pipes.iter().filter_map(Weak::upgrade).collect());
    for pipe in pipes.iter().filter(|pipe| which(pipe)) {
        act(pipe);
    }
}

fn wake(which: impl Fn(&Pipe) -> bool) {
    each_pipe(which, Pipe::wake);
}

impl Network {
    pub(super) fn window_bytes(&self) -> usize {
        self.weather.window_bytes
    }

    pub(super) fn is_cut(&self, from: IpAddr, to: IpAddr) -> bool {
        let is_cut = self.routes.get(&(from, to)).is_some_and(|route| route.is_cut);
        is_cut || self.dark.contains(&from) || self.dark.contains(&to)
    }

    pub(super) fn add_pipe(&mut self, pipe: &Arc<Pipe>) {
        if self.pipes.len() == self.pipes.capacity() {
            self.pipes.retain(|pipe| pipe.strong_count() > 0);
        }
        self.pipes.push(Arc::downgrade(pipe));
    }

    pub(super) fn slow_reading(&self, machine: IpAddr) -> Option<SlowReading> {
        self.slow.get(&machine).copied()
    }

    /// The travel time of a piece over an open route.
    pub(super) fn travel(&mut self, from: IpAddr, to: IpAddr, bytes: usize) -> Duration {
        let Weather {
            latency_us_min,
            latency_us_max,
            loss_permille,
            ..
        } = self.weather;
        let spread = latency_us_max.saturating_sub(latency_us_min).max(1);
        let mut time = Duration::from_micros(latency_us_min + crate::env::random_below(spread));
        self.counts.pieces += 1;
        if loss_permille > 0 && crate::env::random_below(1000) < loss_permille {
            time += RESEND_AFTER;
            self.counts.lost += 1;
        }
        let Some(route) = self.routes.get(&(from, to)) else {
            return time;
        };
        if let Some(rate) = route.bytes_per_second {
            time += Duration::from_micros(bytes as u64 * 1_000_000 / rate.max(1));
        }
        time + route.delay
    }

    /// When data that is held up at a cut route is retried.
    pub(super) fn first_retry(&mut self, now: Instant) -> (Instant, Duration) {
        self.counts.held_up += 1;
        (now + RESEND_AFTER, 2 * RESEND_AFTER)
    }

    /// Changes the type of the first frame in a written piece that holds one whole gRPC message, if the route has frames to drop.
    pub(super) fn make_vanish(&mut self, from: IpAddr, to: IpAddr, piece: &mut [u8]) {
        let route = self.routes.get_mut(&(from, to));
        let Some(route) = route.filter(|route| route.vanishing_frames > 0) else {
            return;
        };
        let mut places = 0..piece.len().saturating_sub(FRAME_HEAD_BYTES);
        if let Some(place) = places.find(|place| holds_message(&piece[*place..])) {
            route.vanishing_frames -= 1;
            self.counts.vanished_frames += 1;
            piece[place + 3] = UNKNOWN;
        }
    }

    /// The bit of a piece that flips on the way, if any.
    pub(super) fn flipped_bit(&mut self, from: IpAddr, to: IpAddr, bytes: usize) -> Option<u64> {
        let permille = self.routes.get(&(from, to))?.corrupt_permille;
        if permille == 0 || crate::env::random_below(1000) >= permille {
            return None;
        }
        self.counts.corrupted += 1;
        // A flip in a frame's head decides about the rest: the reader may wait for it, ignore it or misinterpret it.
        let bytes = match crate::env::random_below(4) {
            0 => bytes.min(FRAME_HEAD_BYTES),
            _ => bytes,
        };
        Some(crate::env::random_below(bytes as u64 * 8))
    }
}

/// Whether these bytes begin with a frame of data (RFC 9113, section 4.1: length, type, flags, stream) that holds exactly one
/// gRPC message (a byte for compression, then its length).
fn holds_message(bytes: &[u8]) -> bool {
    let [high, middle, low, DATA, 0 | 1, 0, _, _, _, 0, rest @ ..] = bytes else {
        return false;
    };
    let length = u32::from_be_bytes([0, *high, *middle, *low]);
    let Some(message) = rest.first_chunk::<4>() else {
        return false;
    };
    u32::from_be_bytes(*message).checked_add(5) == Some(length)
        && FRAME_HEAD_BYTES + length as usize <= bytes.len()
}
