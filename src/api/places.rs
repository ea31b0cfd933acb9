//! The connection places of a member: which connection gets one, and which has to leave when they run short.
//!
//! Every connection costs a file descriptor, and the storage engine must never lack one for its next file. So the number of
//! places follows the limit of open files ([`crate::limits::OpenFiles`]), and a port never stops accepting. When a connection
//! arrives and no place is free, room is made in this order:
//!
//! 1. The oldest silent connection (no byte, or no finished TLS handshake) is closed immediately.
//! 2. The connection that has been idle for longest, without any request under way, is asked to leave: HTTP/2 clients get a
//!    GOAWAY and reconnect when they need to. Some are asked before the last place is taken, so that the next connection need not
//!    wait; they have [`LEAVING_CONNECTION_MAX`](crate::limits::LEAVING_CONNECTION_MAX). A connection with a very recent request
//!    is not idle: a client that sends one request after the other keeps its connection.
//! 3. A connection with a request under way stays. If there are only such connections, the new one is closed.

use super::body::Body;
use crate::env::{self, Instant};
use crate::limits::IDLE_CONNECTION_MIN;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use slab::Slab;
use std::collections::BTreeMap;
use std::fmt;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::Notify;

/// At most this many places are freed ahead of time while idle connections occupy them.
const SPARE_MAX: usize = 64;
/// And at most this fraction of all places.
const SPARE_PART: usize = 16;
/// For each connection that arrives while no place is free, at most this many are checked on average: some 10 microseconds.
const SEATS_PER_LOOK: usize = 4096;

/// The places of one port, or of several ports that share them. Clones are the same places.
#[derive(Clone)]
pub struct Places(Arc<Shared>);

struct Shared {
    max: usize,
    spare: usize,
    idle_min: Duration,
    /// The start of the clock.
    begin: Instant,
    ledger: Mutex<Ledger>,
    /// A connection has been closed, or stays after all.
    changed: Notify,
}

#[derive(Default)]
struct Ledger {
    seats: Slab<Arc<Seat>>,
    /// Connections that have arrived so far.
    arrivals: u64,
    /// The silent connections, by arrival.
    silent: BTreeMap<u64, usize>,
    /// The number of connections that were asked to leave and are still open.
    leaving: usize,
    /// The number of searches for an idle connection to skip, since the last one found none.
    looks_left_out: usize,
}

/// The state of a connection in the ledger.
struct Seat {
    shared: Arc<Shared>,
    arrival: u64,
    /// Requests under way.
    busy: AtomicU32,
    /// When the last request ended, in nanoseconds.
    idle_since: AtomicU64,
    is_silent: AtomicBool,
    is_asked: AtomicBool,
    asked: Notify,
}

/// The place of one connection, until it is dropped.
pub(super) struct Place {
    key: usize,
    seat: Arc<Seat>,
}

/// A request under way.
pub(super) struct Busy(Arc<Seat>);

/// Marks the requests of one connection. Cheap to clone.
#[derive(Clone)]
pub(super) struct Activity(Arc<Seat>);

/// The decision about a new connection.
enum Admission {
    Taken(Place),
    /// A connection is about to leave.
    Soon,
    Full,
}

impl Places {
    pub fn new(max: usize) -> Self {
        Self::with_idle_min(max, IDLE_CONNECTION_MIN)
    }

    fn with_idle_min(max: usize, idle_min: Duration) -> Self {
        let max = max.max(1);
        Self(Arc::new(Shared {
            max,
            spare: (max / SPARE_PART).min(SPARE_MAX),
            idle_min,
            begin: env::now(),
            ledger: Mutex::default(),
            changed: Notify::new(),
        }))
    }

    pub fn max(&self) -> usize {
        self.0.max
    }

    /// Returns a place for a new connection; none if all others have requests under way. Waits for connections that are leaving,
    /// which is bounded, and once for a moment in which a connection may become idle.
    pub(super) async fn admit(&self) -> Option<Place> {
        let mut has_waited = false;
        loop {
            let mut changed = pin!(self.0.changed.notified());
            changed.as_mut().enable();
            match self.take() {
                Admission::Taken(place) => return Some(place),
                Admission::Soon => changed.await,
                Admission::Full if has_waited => return None,
                Admission::Full => {
                    has_waited = true;
                    // The next check tells whether a place became free.
                    let _ = env::timeout(self.0.idle_min, changed).await;
                }
            }
        }
    }

    /// Asks a connection to leave even if places are free, because the process has run out of descriptors.
    pub(super) fn make_room(&self) {
        let mut ledger = self.0.lock();
        if ledger.leaving == 0 {
            ledger.ask_one(&self.0);
        }
    }

    fn take(&self) -> Admission {
        let shared = &self.0;
        let mut ledger = shared.lock();
        if ledger.seats.len() >= shared.max {
            if ledger.leaving == 0 {
                ledger.ask_one(shared);
            }
            return match ledger.leaving {
                0 => Admission::Full,
                _ => Admission::Soon,
            };
        }
        let arrival = ledger.arrivals;
        ledger.arrivals += 1;
        let seat = Arc::new(Seat {
            shared: Arc::clone(shared),
            arrival,
            busy: AtomicU32::new(0),
            idle_since: AtomicU64::new(shared.clock()),
            is_silent: AtomicBool::new(true),
            is_asked: AtomicBool::new(false),
            asked: Notify::new(),
        });
        let key = ledger.seats.insert(Arc::clone(&seat));
        ledger.silent.insert(arrival, key);
        // Silent connections can be closed immediately, so they count as room.
        let room = shared.max - ledger.seats.len() + ledger.silent.len() + ledger.leaving;
        if room < shared.spare.div_ceil(2) {
            ledger.ask_idle(shared.spare - room, shared);
        }
        Admission::Taken(Place { key, seat })
    }
}

impl Shared {
    fn clock(&self) -> u64 {
        (env::now() - self.begin).as_nanos() as u64
    }

    fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ledger {
    /// Asks the least valuable connection to leave.
    fn ask_one(&mut self, shared: &Shared) {
        match self.silent.pop_first() {
            Some((_, key)) => self.ask(key),
            None => self.ask_idle(1, shared),
        }
    }

    /// Asks the connections that have been idle for longest to leave.
    fn ask_idle(&mut self, count: usize, shared: &Shared) {
        if self.looks_left_out > 0 {
            self.looks_left_out -= 1;
            return;
        }
        let latest = shared.clock().saturating_sub(shared.idle_min.as_nanos() as u64);
        let mut idle: Vec<(u64, usize)> = self
            .seats
            .iter()
            .filter(|(_, seat)| seat.may_be_asked())
            .map(|(key, seat)| (seat.idle_since.load(Ordering::Relaxed), key))
            .filter(|(since, _)| *since <= latest)
            .collect();
        if idle.is_empty() {
            self.looks_left_out = self.seats.len() / SEATS_PER_LOOK;
        }
        if idle.len() > count {
            idle.select_nth_unstable(count);
            idle.truncate(count);
        }
        for (_, key) in idle {
            self.ask(key);
        }
    }

    fn ask(&mut self, key: usize) {
        let seat = &self.seats[key];
        seat.is_asked.store(true, Ordering::Release);
        self.leaving += 1;
        seat.asked.notify_one();
    }
}

impl Seat {
    fn may_be_asked(&self) -> bool {
        self.busy.load(Ordering::Acquire) == 0
            && !self.is_asked.load(Ordering::Acquire)
            && !self.is_silent.load(Ordering::Acquire)
    }
}

impl Place {
    /// The client has sent something: the connection no longer counts as silent.
    pub(super) fn spoken(&self) {
        let mut ledger = self.seat.shared.lock();
        ledger.silent.remove(&self.seat.arrival);
        self.seat.is_silent.store(false, Ordering::Release);
    }

    /// Ready when the place is needed for another connection.
    pub(super) async fn asked_to_leave(&self) {
        while !self.seat.is_asked.load(Ordering::Acquire) {
            self.seat.asked.notified().await;
        }
    }

    pub(super) fn is_busy(&self) -> bool {
        self.seat.busy.load(Ordering::Acquire) > 0
    }

    /// The connection stays for now: it has a request under way, and its place is no longer needed.
    pub(super) fn stays(&self) {
        self.seat.shared.lock().leaving -= 1;
        self.seat.is_asked.store(false, Ordering::Release);
        self.seat.shared.changed.notify_waiters();
    }

    pub(super) fn activity(&self) -> Activity {
        Activity(Arc::clone(&self.seat))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut ledger = self.seat.shared.lock();
        ledger.seats.remove(self.key);
        ledger.silent.remove(&self.seat.arrival);
        if self.seat.is_asked.load(Ordering::Acquire) {
            ledger.leaving -= 1;
        }
        drop(ledger);
        self.seat.shared.changed.notify_waiters();
    }
}

impl Activity {
    /// Marks a request as under way until the value is dropped.
    pub(super) fn begin(&self) -> Busy {
        self.0.busy.fetch_add(1, Ordering::AcqRel);
        Busy(Arc::clone(&self.0))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let seat = &self.0;
        if seat.busy.load(Ordering::Acquire) == 1 {
            seat.idle_since.store(seat.shared.clock(), Ordering::Relaxed);
        }
        seat.busy.fetch_sub(1, Ordering::AcqRel);
    }
}

impl fmt::Debug for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Places")
            .field("max", &self.0.max)
            .finish_non_exhaustive()
    }
}

/// The body of a response. Its request counts as under way until the body is dropped.
pub(super) struct BusyBody {
    pub(super) body: Body,
    pub(super) _busy: Busy,
}

impl http_body::Body for BusyBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(places: &Places) -> Option<Place> {
        match places.take() {
            Admission::Taken(place) => Some(place),
            Admission::Soon | Admission::Full => None,
        }
    }

    fn spoken(places: &Places) -> Place {
        let place = taken(places).expect("a place");
        place.spoken();
        place
    }

    fn is_asked(place: &Place) -> bool {
        place.seat.is_asked.load(Ordering::Acquire)
    }

    /// A connection arrives while all places are taken: only `expected` is asked to leave. Returns the place of the new
    /// connection.
    fn makes_room(places: &Places, expected: Place, others: &[&Place]) -> Place {
        assert!(matches!(places.take(), Admission::Soon));
        assert!(matches!(places.take(), Admission::Soon), "one at a time");
        assert!(is_asked(&expected));
        assert!(!others.iter().any(|place| is_asked(place)));
        drop(expected);
        spoken(places)
    }

    #[test]
    fn the_oldest_silent_one_goes_first_and_then_the_longest_idle() {
        let places = Places::with_idle_min(5, Duration::ZERO);
        let idle = spoken(&places);
        let later_idle = spoken(&places);
        let busy = spoken(&places);
        let _request = busy.activity().begin();
        let silent = taken(&places).expect("a place");
        let later_silent = taken(&places).expect("a place");
        drop(idle.activity().begin()); // it was idle for longer until now
        let third = makes_room(&places, silent, &[&later_silent, &idle, &later_idle, &busy]);
        let _other_request = third.activity().begin();
        later_silent.spoken();
        let fourth = makes_room(&places, later_idle, &[&idle, &busy, &later_silent, &third]);
        makes_room(&places, later_silent, &[&idle, &busy, &third, &fourth]);
    }

    #[test]
    fn with_requests_under_way_everywhere_the_newcomer_is_refused() {
        let places = Places::with_idle_min(2, Duration::ZERO);
        let (one, two) = (spoken(&places), spoken(&places));
        let requests = (one.activity().begin(), two.activity().begin());
        assert!(matches!(places.take(), Admission::Full));
        drop(requests.0);
        assert!(matches!(places.take(), Admission::Soon));
        drop(one);
        assert!(taken(&places).is_some());
    }

    #[test]
    fn who_had_a_request_a_moment_ago_stays() {
        let places = Places::with_idle_min(1, Duration::from_hours(1));
        let one = spoken(&places);
        drop(one.activity().begin());
        assert!(matches!(places.take(), Admission::Full));
        assert!(!is_asked(&one));
    }

    #[test]
    fn some_idle_ones_leave_before_the_last_place_is_gone() {
        let places = Places::with_idle_min(64, Duration::ZERO);
        assert_eq!(places.0.spare, 4);
        let mut seated: Vec<Place> = (0..62).map(|_| spoken(&places)).collect();
        assert!(!seated.iter().any(is_asked));
        // The new connection is silent and counts as room until it has sent something.
        seated.push(spoken(&places));
        seated.push(spoken(&places));
        let asked: Vec<usize> = (0..seated.len())
            .filter(|place| is_asked(&seated[*place]))
            .collect();
        assert_eq!(asked, [0, 1, 2]);
        assert_eq!(places.0.lock().leaving, 3);
        // One connection has a request under way when it would have to leave.
        seated[0].stays();
        drop(seated.remove(1));
        assert_eq!(places.0.lock().leaving, 1);
        drop(seated);
        let ledger = places.0.lock();
        assert_eq!(
            (ledger.leaving, ledger.seats.len(), ledger.silent.len()),
            (0, 0, 0)
        );
    }

    #[test]
    fn who_waits_for_a_place_gets_the_first_that_is_left() {
        crate::env::block_on(async {
            let places = Places::with_idle_min(1, Duration::from_millis(1));
            let silent = places.admit().await.expect("a place");
            crate::env::spawn_local(async move {
                silent.asked_to_leave().await;
                drop(silent);
            });
            let place = places.admit().await.expect("the silent one's place");
            place.spoken();
            let _request = place.activity().begin();
            assert!(places.admit().await.is_none());
        });
    }
}
