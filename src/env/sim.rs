//! The simulated world: madsim's clock, tasks and network, and random numbers from the seed.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // this is the seam

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub use std::time::Instant;

/// How long a sync of the disk takes in the simulator at most, in microseconds, unless the simulator says otherwise.
const DISK_SYNC_US_MAX: u64 = 2_000;

thread_local! {
    static DISK_SYNC_LIMIT_US: std::cell::Cell<u64> = const { std::cell::Cell::new(DISK_SYNC_US_MAX) };
}

/// Makes disks slower or faster, for the simulation on this thread.
pub fn set_disk_sync_us_max(limit_us: u64) {
    DISK_SYNC_LIMIT_US.set(limit_us.max(1));
}

/// Runs the program's main future on a runtime of its own, with a fixed seed. Simulations bring their own runtime.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut runtime = madsim::runtime::Runtime::new();
    runtime.set_allow_system_thread(true);
    runtime.block_on(future)
}

/// A thread of the member: in the simulator, tasks on its node.
#[derive(Debug)]
pub struct ThreadHandle(());

impl ThreadHandle {
    /// Nothing to wait for: the simulator ends a node's tasks itself.
    pub fn join(self) -> bool {
        true
    }
}

/// Runs a future as a task of the node.
pub fn thread<F, M>(_name: &str, _workers: usize, make: M) -> ThreadHandle
where
    F: Future<Output = ()> + 'static,
    M: FnOnce() -> F + Send + 'static,
{
    spawn_local(make());
    ThreadHandle(())
}

/// Simulated members have one processor each.
pub fn processors() -> usize {
    1
}

/// Runs a task beside the current one.
pub fn spawn(future: impl Future<Output = ()> + Send + 'static) {
    madsim::task::spawn(future);
}

/// Runs a task on this node.
pub fn spawn_local(future: impl Future<Output = ()> + 'static) {
    madsim::task::Builder::new().spawn_local(future);
}

/// Simulated time.
pub fn now() -> Instant {
    Instant::now()
}

/// Simulated wall clock.
pub fn unix_time() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Waits in simulated time.
pub fn sleep(duration: Duration) -> impl Future<Output = ()> + Send + Sync + 'static {
    madsim::time::sleep(duration)
}

/// Waits until a simulated moment.
pub fn sleep_until(deadline: Instant) -> impl Future<Output = ()> + Send + Sync + 'static {
    madsim::time::sleep_until(deadline)
}

/// A random number from the seed.
pub fn random_u64() -> u64 {
    madsim::rand::random()
}

/// Runs the call that makes writes durable, and lets simulated time pass: before it, so that a crash meanwhile finds them
/// not durable, or after it, so that a crash finds them durable and nobody told.
pub async fn disk_sync<T>(sync: impl FnOnce() -> T) -> T {
    let duration = Duration::from_micros(super::random_below(DISK_SYNC_LIMIT_US.get()));
    if super::random_below(2) == 0 {
        sleep(duration).await;
        return sync();
    }
    let outcome = sync();
    sleep(duration).await;
    outcome
}

/// Done when the simulation asks the member's process to stop.
pub async fn shutdown_signal() -> i32 {
    // An error means that nobody can ask any more.
    if madsim::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
    15
}

/// A simulated process does not end by signals.
pub fn end_by_signal(_signal: i32) {}

/// Accepts simulated connections.
#[derive(Debug)]
pub struct Listener(madsim::net::TcpListener);

impl Listener {
    /// Listens on `host:port`.
    pub async fn bind(address: &str) -> io::Result<Self> {
        madsim::net::TcpListener::bind(address).await.map(Self)
    }

    /// The next connection.
    pub async fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        let (inner, peer) = self.0.accept().await?;
        Ok((Stream { inner, dirty: false }, peer))
    }

    /// Where it listens.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// Connects to `host:port`.
pub async fn connect(address: &str) -> io::Result<Stream> {
    let inner = madsim::net::TcpStream::connect(address).await?;
    Ok(Stream { inner, dirty: false })
}

/// A simulated connection. madsim sends a packet for every flush, even an empty one: those are skipped.
#[derive(Debug)]
pub struct Stream {
    inner: madsim::net::TcpStream,
    dirty: bool,
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(context, bytes);
        if matches!(written, Poll::Ready(Ok(count)) if count > 0) {
            self.dirty = true;
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.dirty {
            return Poll::Ready(Ok(()));
        }
        let flushed = Pin::new(&mut self.inner).poll_flush(context);
        if flushed.is_ready() {
            self.dirty = false;
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
