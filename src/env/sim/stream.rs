//! Simulated connections: two pipes with bounded windows, one each way, over the routes of `network`.

#![allow(clippy::disallowed_methods)] // this is the seam

use super::network::{RESEND_AFTER_MAX, own_address, with};
use bytes::Bytes;
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The first interval between attempts to open a connection; it doubles each time.
const OPEN_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// After this time, opening fails.
const OPEN_MAX: Duration = Duration::from_mins(2);
/// Connections that wait to be accepted.
const BACKLOG_MAX: usize = 128;

/// One direction of a connection.
#[derive(Debug)]
pub(super) struct Pipe {
    pub(super) from: IpAddr,
    pub(super) to: IpAddr,
    window_bytes: usize,
    inner: Mutex<ConnectionState>,
}

#[derive(Debug)]
struct ConnectionState {
    pieces: VecDeque<Piece>,
    bytes: usize,
    /// No later piece arrives before this.
    last_arrival: Instant,
    /// Nothing arrives any more, and neither end is told.
    is_silent: bool,
    is_reset: bool,
    reader_is_gone: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// The bytes of one write, or the end of the stream.
#[derive(Debug)]
struct Piece {
    bytes: Bytes,
    is_end: bool,
    due: Due,
}

#[derive(Clone, Copy, Debug)]
enum Due {
    At(Instant),
    /// The route was cut: when to retry, and the interval after that.
    Retry(Instant, Duration),
}

impl Pipe {
    fn new(from: IpAddr, to: IpAddr) -> Arc<Self> {
        let pipe = Arc::new(Self {
            from,
            to,
            window_bytes: with(|network| network.window_bytes()),
            inner: Mutex::new(ConnectionState {
                pieces: VecDeque::new(),
                bytes: 0,
                last_arrival: Instant::now(),
                is_silent: false,
                is_reset: false,
                reader_is_gone: false,
                reader: None,
                writer: None,
            }),
        });
        with(|network| network.add_pipe(&pipe));
        pipe
    }

    fn lock(&self) -> MutexGuard<'_, ConnectionState> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn wake(&self) {
        let (reader, writer) = {
            let mut inner = self.lock();
            (inner.reader.take(), inner.writer.take())
        };
        for waker in [reader, writer].into_iter().flatten() {
            waker.wake();
        }
    }

    pub(super) fn silence(&self) {
        let before = std::mem::replace(&mut self.lock().is_silent, true);
        with(|network| network.counts.silenced += u64::from(!before));
    }

    pub(super) fn reset(&self) {
        let before = std::mem::replace(&mut self.lock().is_reset, true);
        with(|network| network.counts.resets += u64::from(!before));
        self.wake();
    }

    fn send(&self, bytes: Bytes, is_end: bool) {
        let now = Instant::now();
        let due = with(|network| {
            if network.is_cut(self.from, self.to) {
                let (at, backoff) = network.first_retry(now);
                Due::Retry(at, backoff)
            } else {
                Due::At(now + network.travel(self.from, self.to, bytes.len()))
            }
        });
        let mut inner = self.lock();
        let due = match due {
            Due::At(at) => {
                inner.last_arrival = inner.last_arrival.max(at);
                Due::At(inner.last_arrival)
            }
            retry @ Due::Retry(..) => retry,
        };
        inner.bytes += bytes.len();
        inner.pieces.push_back(Piece { bytes, is_end, due });
        let reader = inner.reader.take();
        drop(inner);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// When the next piece can be read: now, at a given time, or unknown. Data that was held up at a cut route is sent as soon as
    /// a retry finds the route open, together with all that waits behind it.
    fn next_arrival(&self, now: Instant) -> Option<Instant> {
        let mut inner = self.lock();
        let Due::Retry(mut at, mut backoff) = (match inner.pieces.front() {
            None => return None,
            Some(piece) => piece.due,
        }) else {
            return inner.pieces.front().map(|piece| match piece.due {
                Due::At(at) | Due::Retry(at, _) => at,
            });
        };
        if at > now {
            return Some(at);
        }
        let (is_cut, travel) = with(|network| {
            (
                network.is_cut(self.from, self.to),
                network.travel(self.from, self.to, 0),
            )
        });
        if is_cut {
            at = now + backoff;
            backoff = (backoff * 2).min(RESEND_AFTER_MAX);
            inner.pieces[0].due = Due::Retry(at, backoff);
            return Some(at);
        }
        at = (now + travel).max(inner.last_arrival);
        inner.last_arrival = at;
        for piece in &mut inner.pieces {
            if let Due::Retry(..) = piece.due {
                piece.due = Due::At(at);
            }
        }
        Some(at)
    }

    /// Takes up to `bytes_max` bytes of the first piece, which has arrived; none at the end.
    fn take(&self, bytes_max: usize) -> Bytes {
        let mut inner = self.lock();
        let Some(piece) = inner.pieces.front_mut() else {
            return Bytes::new();
        };
        if piece.is_end {
            return Bytes::new();
        }
        let taken = piece.bytes.split_to(bytes_max.min(piece.bytes.len()));
        if piece.bytes.is_empty() {
            inner.pieces.pop_front();
        }
        inner.bytes -= taken.len();
        let writer = inner.writer.take();
        drop(inner);
        if let Some(writer) = writer {
            writer.wake();
        }
        taken
    }
}

/// A listening address.
pub(super) struct Listening {
    number: u64,
    waiting: VecDeque<(Stream, SocketAddr)>,
    waker: Option<Waker>,
}

#[derive(Debug)]
pub struct Listener {
    address: SocketAddr,
    number: u64,
}

impl Listener {
    /// Listens on `host:port`.
    pub async fn bind(address: &str) -> io::Result<Self> {
        Self::bind_with(address, false).await
    }

    /// The same; a simulated port is never shared.
    #[allow(clippy::unused_async)] // as on real sockets
    pub async fn bind_with(address: &str, _reuse_port: bool) -> io::Result<Self> {
        let mut address = parse(address)?;
        if address.ip().is_unspecified() {
            address.set_ip(own_address());
        }
        let number = crate::env::random_u64();
        with(|network| {
            if address.port() == 0 {
                network.ports += 1;
                address.set_port(10_000 + network.ports);
            }
            if network.listening.contains_key(&address) {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            let listening = Listening {
                number,
                waiting: VecDeque::new(),
                waker: None,
            };
            network.listening.insert(address, listening);
            Ok(Self { address, number })
        })
    }

    /// The next connection.
    pub async fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        std::future::poll_fn(|context| {
            with(|network| {
                let Some(listening) = network.listening.get_mut(&self.address) else {
                    return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
                };
                if let Some(waiting) = listening.waiting.pop_front() {
                    return Poll::Ready(Ok(waiting));
                }
                listening.waker = Some(context.waker().clone());
                Poll::Pending
            })
        })
        .await
    }

    /// The local address.
    #[allow(clippy::unnecessary_wraps)] // as on real sockets
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let gone = with(|network| {
            let own = network
                .listening
                .get(&self.address)
                .is_some_and(|listening| listening.number == self.number);
            if own {
                network.listening.remove(&self.address)
            } else {
                None
            }
        });
        drop(gone); // the streams in it use the network
    }
}

fn parse(address: &str) -> io::Result<SocketAddr> {
    let address = address.replace("localhost", "127.0.0.1");
    address
        .parse()
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, format!("{address}: {error}")))
}

/// Connects to `host:port`.
pub async fn connect(address: &str) -> io::Result<Stream> {
    let to = parse(address)?;
    let own = own_address();
    let mut wait = OPEN_AGAIN_AFTER;
    let begin = Instant::now();
    while begin.elapsed() < OPEN_MAX {
        if !with(|network| network.is_cut(own, to.ip())) {
            madsim::time::sleep(with(|network| network.travel(own, to.ip(), 0))).await;
            let opened = open(own, to);
            if !with(|network| network.is_cut(to.ip(), own)) {
                madsim::time::sleep(with(|network| network.travel(to.ip(), own, 0))).await;
                return opened.ok_or_else(|| io::ErrorKind::ConnectionRefused.into());
            }
            if let Some(stream) = opened {
                // The other side has a connection of which this side never learns.
                with(|network| network.counts.half_opened += 1);
                stream.incoming.silence();
                stream.outgoing.silence();
            }
        }
        madsim::time::sleep(wait).await;
        wait *= 2;
    }
    Err(io::ErrorKind::TimedOut.into())
}

/// Opens a connection to the listener at this address.
fn open(own: IpAddr, to: SocketAddr) -> Option<Stream> {
    let port = with(|network| {
        let listening = network.listening.get(&to)?;
        network.ports = network.ports.wrapping_add(1) % 20_000;
        (listening.waiting.len() < BACKLOG_MAX).then_some(30_000 + network.ports)
    })?;
    let (there, back) = (Pipe::new(own, to.ip()), Pipe::new(to.ip(), own));
    let accepted = Stream::new(Arc::clone(&there), Arc::clone(&back));
    let waker = with(|network| {
        let listening = network.listening.get_mut(&to)?;
        listening
            .waiting
            .push_back((accepted, SocketAddr::new(own, port)));
        listening.waker.take()
    });
    if let Some(waker) = waker {
        waker.wake();
    }
    Some(Stream::new(back, there))
}

/// A simulated connection.
pub struct Stream {
    incoming: Arc<Pipe>,
    outgoing: Arc<Pipe>,
    timer: Option<(Instant, Pin<Box<madsim::time::Sleep>>)>,
    /// A slow reader reads nothing before this time.
    not_before: Option<Instant>,
    is_shut: bool,
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Stream({} -> {})", self.outgoing.from, self.outgoing.to)
    }
}

impl Stream {
    fn new(incoming: Arc<Pipe>, outgoing: Arc<Pipe>) -> Self {
        Self {
            incoming,
            outgoing,
            timer: None,
            not_before: None,
            is_shut: false,
        }
    }

    /// Whether this time has come; if not, the task is woken then.
    fn poll_moment(&mut self, moment: Instant, context: &mut Context<'_>) -> Poll<()> {
        if moment <= Instant::now() {
            return Poll::Ready(());
        }
        if self.timer.as_ref().is_none_or(|(at, _)| *at != moment) {
            self.timer = Some((moment, Box::pin(madsim::time::sleep_until(moment))));
        }
        let (_, sleep) = self.timer.as_mut().expect("it was set");
        sleep.as_mut().poll(context)
    }

    /// Waits until there is something to read: bytes, the end, or an error.
    pub async fn readable(&mut self) -> io::Result<()> {
        std::future::poll_fn(|context| self.poll_readable(context)).await
    }

    fn poll_readable(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            {
                let mut inner = self.incoming.lock();
                if inner.is_reset {
                    return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
                }
                inner.reader = Some(context.waker().clone());
                if inner.is_silent {
                    return Poll::Pending;
                }
            }
            let Some(arrival) = self.incoming.next_arrival(Instant::now()) else {
                return Poll::Pending;
            };
            let moment = self.not_before.map_or(arrival, |pause| pause.max(arrival));
            if self.poll_moment(moment, context).is_pending() {
                return Poll::Pending;
            }
            if moment == arrival || self.not_before.is_some_and(|pause| pause <= Instant::now()) {
                self.not_before = None;
            }
            if arrival <= Instant::now() && self.incoming.next_arrival(Instant::now()) == Some(arrival) {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_readable(context))?;
        let (from, to) = (self.incoming.from, self.incoming.to);
        let slow = with(|network| network.slow_reading(to));
        let bytes_max = slow.map_or(buffer.remaining(), |slow| slow.bytes.min(buffer.remaining()));
        let taken = self.incoming.take(bytes_max);
        self.not_before = slow.map(|slow| Instant::now() + slow.pause);
        let filled = buffer.filled().len();
        buffer.put_slice(&taken);
        if !taken.is_empty()
            && let Some(bit) = with(|network| network.flipped_bit(from, to, taken.len()))
        {
            buffer.filled_mut()[filled + bit as usize / 8] ^= 1 << (bit % 8);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let pipe = &self.outgoing;
        let heard = !with(|network| network.is_cut(pipe.to, pipe.from));
        let mut inner = pipe.lock();
        if inner.is_reset || self.is_shut || (inner.reader_is_gone && heard && !inner.is_silent) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let room = pipe.window_bytes.saturating_sub(inner.bytes);
        if room == 0 {
            inner.writer = Some(context.waker().clone());
            drop(inner);
            with(|network| network.counts.full_windows += 1);
            return Poll::Pending;
        }
        drop(inner);
        let count = room.min(bytes.len());
        if count > 0 {
            let mut piece = bytes[..count].to_vec();
            with(|network| network.make_vanish(pipe.from, pipe.to, &mut piece));
            pipe.send(piece.into(), false);
        }
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !std::mem::replace(&mut self.is_shut, true) {
            self.outgoing.send(Bytes::new(), true);
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if madsim::time::TimeHandle::try_current().is_none() {
            return; // the simulation is over
        }
        if !self.is_shut {
            self.outgoing.send(Bytes::new(), true);
        }
        self.incoming.lock().reader_is_gone = true;
        self.incoming.wake();
    }
}
