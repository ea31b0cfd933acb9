//! The real implementation: tokio, the operating system's clock and random numbers.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // this is the seam

mod names;
mod socket;

use bytes::{Buf, BytesMut};
use socket::{Acceptor, Socket, unix_path};
use socket2::{Domain, Protocol, Type};
use std::future::Future;
use std::io::{self, IoSlice};
use std::net::{Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub use names::{lookup_service, names_of, resolve};
pub use std::time::Instant;

/// Runs the program's main future. Actors can be started inside.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("the operating system refuses an event queue");
    tokio::task::LocalSet::new().block_on(&runtime, future)
}

/// A thread that ends when its main future does.
#[derive(Debug)]
pub struct ThreadHandle(Option<std::thread::JoinHandle<()>>);

impl ThreadHandle {
    /// Waits for the thread's end; false if it panicked.
    pub fn join(mut self) -> bool {
        self.0.take().is_none_or(|handle| handle.join().is_ok())
    }
}

/// Runs a future on a thread of its own that opens no sockets; actors can be started there too. It is woken through a word in
/// memory, which is cheaper than a write to a descriptor and a poll of an event queue.
pub fn thread_without_sockets<F, M>(name: &'static str, make: M) -> ThreadHandle
where
    F: Future<Output = ()> + 'static,
    M: FnOnce() -> F + Send + 'static,
{
    let run = move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("the operating system refuses a clock");
        tokio::task::LocalSet::new().block_on(&runtime, async move { make().await });
    };
    ThreadHandle(Some(spawn_thread(name, run)))
}

fn spawn_thread(name: &'static str, run: impl FnOnce() + Send + 'static) -> std::thread::JoinHandle<()> {
    let handle = std::thread::Builder::new().name(name.to_owned()).spawn(run);
    handle.expect("the operating system refuses a thread")
}

/// Runs a future on threads of its own: on one, where actors can be started too, or on a pool of `workers`.
pub fn thread<F, M>(name: &'static str, workers: usize, make: M) -> ThreadHandle
where
    F: Future<Output = ()> + 'static,
    M: FnOnce() -> F + Send + 'static,
{
    let run = move || {
        if workers <= 1 {
            block_on(async move { make().await });
            return;
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(workers)
            .thread_name(name)
            .enable_all()
            .build()
            .expect("the operating system refuses threads");
        tokio::task::LocalSet::new().block_on(&runtime, async move { make().await });
    };
    ThreadHandle(Some(spawn_thread(name, run)))
}

/// Sets the lowest priority for this thread and for the threads that it starts from now on.
pub fn yield_to_all() {
    be_nice(19);
}

/// Sets at least this niceness: the operator may have started the process with a higher one.
fn be_nice(niceness: libc::c_int) {
    // SAFETY: plain numbers; 0 is the calling thread. If the call fails, the thread keeps its priority.
    unsafe {
        if libc::getpriority(libc::PRIO_PROCESS, 0) < niceness {
            let _ = libc::setpriority(libc::PRIO_PROCESS, 0, niceness);
        }
    }
}

/// Runs `work` so that the threads that it starts have a lower priority than those that serve requests, but still make progress.
pub fn with_patient_threads<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    // A thread inherits its niceness from the thread that starts it, and cannot lower it.
    std::thread::scope(|scope| {
        let patient = scope.spawn(|| {
            be_nice(10);
            work()
        });
        patient
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// The number of processors.
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Runs blocking work on a thread for such work; none if the process stops meanwhile. The caller bounds how much of it runs
/// concurrently.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()
}

/// Spawns a task.
pub fn spawn(future: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(future);
}

/// Spawns a task on this thread.
pub fn spawn_local(future: impl Future<Output = ()> + 'static) {
    tokio::task::spawn_local(future);
}

/// The monotonic clock; never goes back.
pub fn now() -> Instant {
    Instant::now()
}

/// Time since 1970, by the wall clock; may jump.
pub fn unix_time() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

pub fn sleep(duration: Duration) -> impl Future<Output = ()> + Send + Sync + 'static {
    tokio::time::sleep(duration)
}

pub fn sleep_until(deadline: Instant) -> impl Future<Output = ()> + Send + Sync + 'static {
    tokio::time::sleep_until(deadline.into())
}

/// A random number from the operating system.
pub fn random_u64() -> u64 {
    getrandom::u64().expect("the operating system has no random numbers")
}

/// Runs a blocking call that makes earlier writes durable. Blocks the thread, so call it only where that is intended.
pub async fn disk_sync<T>(sync: impl FnOnce() -> T) -> T {
    sync()
}

/// Runs a blocking call that reads from the disk. Blocks the thread, so call it only where that is intended.
pub async fn disk_read<T>(read: impl FnOnce() -> T) -> T {
    read()
}

/// Ready when the operator asks the process to stop; returns the signal's number.
pub async fn shutdown_signal() -> i32 {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).expect("signals can be handled");
    let mut interrupt = signal(SignalKind::interrupt()).expect("signals can be handled");
    tokio::select! {
        biased;
        _ = terminate.recv() => SignalKind::terminate().as_raw_value(),
        _ = interrupt.recv() => SignalKind::interrupt().as_raw_value(),
    }
}

/// The name of a signal that asks the process to stop, as in Go.
pub fn signal_name(signal: i32) -> &'static str {
    match signal {
        libc::SIGINT => "interrupt",
        libc::SIGTERM => "terminated",
        _ => "unknown",
    }
}

/// Ends the process by the signal that asked for it, as the sender expects. The first process of a container would survive that,
/// so there this returns.
pub fn end_by_signal(signal: i32) {
    if std::process::id() == 1 {
        return;
    }
    // SAFETY: both calls take plain numbers and touch no memory of ours.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
    }
}

/// Signals that end a process by default, although their senders do not intend that: Go's runtime ignores them as well. With
/// SIGXFSZ ignored, a write beyond the limit of a file's size fails instead.
const IGNORED_SIGNALS: [libc::c_int; 9] = [
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGVTALRM,
    libc::SIGPROF,
    libc::SIGIO,
    libc::SIGPWR,
    libc::SIGXCPU,
    libc::SIGXFSZ,
];

/// Makes the process ignore signals that Go programs ignore and that would end this one: agents and scripts send SIGUSR1 and
/// SIGUSR2 to all servers they know.
pub fn ignore_unhandled_signals() {
    // Go leaves the first one to the C library.
    let real_time = libc::SIGRTMIN() + 1..=libc::SIGRTMAX();
    for signal in IGNORED_SIGNALS.into_iter().chain(real_time) {
        // SAFETY: both arguments are plain numbers, and ignoring a signal runs no code of ours.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

/// The backlog of connections to accept: as in Go; the kernel's own limit (somaxconn) applies too.
const BACKLOG_MAX: i32 = 4096;

/// After this time without a byte, and at this interval, the kernel probes the other end (etcd: 30 s). Otherwise a client that
/// lost its power would keep its place for hours.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub struct Listener(Acceptor);

impl Listener {
    /// Listens on `host:port`, or on `unix:` and a path. The unspecified address of either family means all addresses of both. Of
    /// a name's addresses those of IPv4 are tried first, as by Go's `net.Listen`.
    pub async fn bind(address: &str) -> io::Result<Self> {
        Self::bind_with(address, false).await
    }

    /// The same; others may listen on the port too if all of them say so (SO_REUSEPORT).
    pub async fn bind_with(address: &str, reuse_port: bool) -> io::Result<Self> {
        if let Some(path) = unix_path(address) {
            return Acceptor::at_path(path).map(Self);
        }
        let mut addresses: Vec<SocketAddr> = tokio::net::lookup_host(address).await?.collect();
        addresses.sort_by_key(SocketAddr::is_ipv6);
        let mut failure = io::Error::new(io::ErrorKind::InvalidInput, "the name has no address");
        for address in addresses {
            match listen(address, reuse_port) {
                Ok(socket) => {
                    let listener = tokio::net::TcpListener::from_std(socket)?;
                    return Ok(Self(Acceptor::Tcp(listener)));
                }
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// The next connection, with the address of its other end.
    pub async fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        let (socket, peer) = self.0.accept().await?;
        if let Socket::Tcp(socket) = &socket {
            let keepalive = socket2::TcpKeepalive::new()
                .with_time(KEEPALIVE_AFTER)
                .with_interval(KEEPALIVE_AFTER);
            socket2::SockRef::from(socket).set_tcp_keepalive(&keepalive)?;
        }
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        Ok((Stream::new(socket)?, peer))
    }

    /// The local address, if it is a TCP port.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match &self.0 {
            Acceptor::Tcp(listener) => listener.local_addr(),
            Acceptor::Unix(..) => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

fn listen(address: SocketAddr, reuse_port: bool) -> io::Result<std::net::TcpListener> {
    if !address.ip().is_unspecified() {
        return listen_at(address, reuse_port);
    }
    let both = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), address.port());
    match listen_at(both, reuse_port) {
        // This machine may lack IPv6.
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)
            ) =>
        {
            listen_at(address, reuse_port)
        }
        outcome => outcome,
    }
}

fn listen_at(address: SocketAddr, reuse_port: bool) -> io::Result<std::net::TcpListener> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // Both families if the address is unspecified; has no effect otherwise.
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuse_port)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG_MAX)?;
    Ok(socket.into())
}

/// Connects to `host:port`, or to `unix:` and a path.
pub async fn connect(address: &str) -> io::Result<Stream> {
    Stream::new(match unix_path(address) {
        Some(path) => Socket::Unix(tokio::net::UnixStream::connect(path).await?),
        None => Socket::Tcp(tokio::net::TcpStream::connect(address).await?),
    })
}

/// Up to this many bytes are held back until more are written, or a flush.
const HELD_BYTES_MAX: usize = 1024;

/// A connection. It does not offer vectored writes. With them, h2 makes a system call for every message of 256 bytes or more;
/// without them, it gathers all messages shorter than 1 KiB in one buffer, and copying costs far less. The head of a longer
/// message is written separately: it is held back and sent in one call with what follows it, or by a flush.
#[derive(Debug)]
pub struct Stream {
    socket: Socket,
    held: BytesMut,
}

impl Stream {
    fn new(socket: Socket) -> io::Result<Self> {
        if let Socket::Tcp(socket) = &socket {
            socket.set_nodelay(true)?;
        }
        let held = BytesMut::new();
        Ok(Self { socket, held })
    }

    /// Waits until there is something to read: bytes, the end, or an error.
    pub async fn readable(&mut self) -> io::Result<()> {
        self.socket.readable().await
    }

    fn poll_write_held(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.held.is_empty() {
            let written = ready!(self.socket.poll_write(context, &self.held))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.held.advance(written);
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stream {
    /// Sends what was written, as any closed socket does: the last records of a failed TLS handshake give the reason.
    fn drop(&mut self) {
        if !self.held.is_empty() {
            let _ = self.socket.try_write(&self.held);
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.socket.poll_read(context, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.held.len() + bytes.len() <= HELD_BYTES_MAX {
            this.held.extend_from_slice(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        while !this.held.is_empty() {
            let both = [IoSlice::new(&this.held), IoSlice::new(bytes)];
            let written = ready!(this.socket.poll_write_vectored(context, &both))?;
            let of_bytes = written.saturating_sub(this.held.len());
            this.held.advance(written - of_bytes);
            if of_bytes > 0 || written == 0 {
                return Poll::Ready(Ok(of_bytes));
            }
        }
        this.socket.poll_write(context, bytes)
    }

    /// Not offered (see the type), but used by TLS all the same: the last records of a failed handshake must be written in one
    /// call or not at all.
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let bytes: usize = pieces.iter().map(|piece| piece.len()).sum();
        if self.held.len() + bytes <= HELD_BYTES_MAX {
            for piece in pieces {
                self.held.extend_from_slice(piece);
            }
            return Poll::Ready(Ok(bytes));
        }
        let first = pieces.iter().find(|piece| !piece.is_empty());
        self.poll_write(context, first.map_or(&[], |piece| piece))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write_held(context))?;
        self.socket.poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write_held(context))?;
        self.socket.poll_shutdown(context)
    }
}
