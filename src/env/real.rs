//! The real world: tokio, the operating system's clock and random numbers.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // this is the seam

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

/// Runs a future on a thread of its own that opens no sockets, and on which actors can be started too. It is woken by a word in
/// memory where others have a descriptor written to and an event queue asked.
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

/// Runs a future on threads of its own: one, on which actors can be started too, or a pool of `workers`.
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

/// Lets this thread, and those that it starts from now on, run only where no other wants to.
pub fn yield_to_all() {
    be_nice(19);
}

/// At least so nice: whoever started the process may have asked for more.
fn be_nice(niceness: libc::c_int) {
    // SAFETY: plain numbers; 0 is the calling thread. Where it fails, the thread runs like any other.
    unsafe {
        if libc::getpriority(libc::PRIO_PROCESS, 0) < niceness {
            let _ = libc::setpriority(libc::PRIO_PROCESS, 0, niceness);
        }
    }
}

/// Does something whose threads, if it starts any, give way to those that somebody waits for, but not to the point of
/// standing still.
pub fn with_patient_threads<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    // A thread starts as nice as the one that it was started by, and cannot go back.
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

/// How many processors there are.
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Carries out something that takes long on a thread that is there for such work; nothing if the process stops meanwhile. Who calls it
/// bounds how much of it is under way.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()
}

/// Runs a task beside the current one.
pub fn spawn(future: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(future);
}

/// Runs a task on this thread.
pub fn spawn_local(future: impl Future<Output = ()> + 'static) {
    tokio::task::spawn_local(future);
}

/// Time since some moment in the past; never goes back.
pub fn now() -> Instant {
    Instant::now()
}

/// Time since 1970, by the wall clock; may jump.
pub fn unix_time() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Waits.
pub fn sleep(duration: Duration) -> impl Future<Output = ()> + Send + Sync + 'static {
    tokio::time::sleep(duration)
}

/// Waits until a moment.
pub fn sleep_until(deadline: Instant) -> impl Future<Output = ()> + Send + Sync + 'static {
    tokio::time::sleep_until(deadline.into())
}

/// A random number from the operating system.
pub fn random_u64() -> u64 {
    getrandom::u64().expect("the operating system has no random numbers")
}

/// Runs a blocking call that makes earlier writes durable. Blocks the thread: call it where that is meant.
pub async fn disk_sync<T>(sync: impl FnOnce() -> T) -> T {
    sync()
}

/// Runs a blocking call that reads from the disk. Blocks the thread: call it where that is meant.
pub async fn disk_read<T>(read: impl FnOnce() -> T) -> T {
    read()
}

/// Done when the operator asks the process to stop, with the signal's number.
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

/// The name of a signal that asks the process to stop, as Go has it.
pub fn signal_name(signal: i32) -> &'static str {
    match signal {
        libc::SIGINT => "interrupt",
        libc::SIGTERM => "terminated",
        _ => "unknown",
    }
}

/// Ends the process by the signal that asked for it, as whoever sent it expects; the first process of a container
/// would survive that and simply returns.
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

/// Signals whose default ends the process, though nobody who sends them means that: the program would not handle them in Go
/// either, whose runtime ignores them. SIGXFSZ is among them: a write beyond the limit of a file's size fails instead.
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

/// Has the process ignore signals that Go programs ignore and that would end this one: agents and scripts send SIGUSR1 and
/// SIGUSR2 to every server they know.
pub fn ignore_unhandled_signals() {
    // Go leaves the first one to the C library.
    let real_time = libc::SIGRTMIN() + 1..=libc::SIGRTMAX();
    for signal in IGNORED_SIGNALS.into_iter().chain(real_time) {
        // SAFETY: both arguments are plain numbers, and ignoring a signal runs no code of ours.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

/// Connections that wait to be accepted, as many as Go asks for; the kernel's own limit (somaxconn) counts too.
const BACKLOG_MAX: i32 = 4096;

/// After so long without a byte the kernel asks whether the other end is still there, and so often (etcd: 30 s): else a client
/// that lost its power would hold its place for hours.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(30);

/// Accepts connections.
#[derive(Debug)]
pub struct Listener(Acceptor);

impl Listener {
    /// Listens on `host:port`, or on `unix:` and a path. The unspecified address of either family stands for all addresses of
    /// both, and of a name's addresses those of IPv4 come first, as with Go's `net.Listen`.
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

    /// The next connection, with the other end's address in the family that it has there.
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

    /// Where it listens, if that is a TCP port.
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
        // This machine may not know IPv6.
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
        // Both families where the address is unspecified; of no consequence elsewhere.
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

/// Up to so much is held back until more comes, or a flush.
const HELD_BYTES_MAX: usize = 1024;

/// A connection. It does not offer vectored writes: with them h2 sends every message of 256 bytes or more with a system
/// call of its own; without, it gathers all that are shorter than 1 KiB in one buffer, and copying costs far less. The
/// head of a longer one, which comes on its own, is held back and goes out in one call with what follows it, or with a flush.
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
    /// What was written goes out, as with any socket that is closed: the last words of a TLS handshake that has failed say why.
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

    /// Not offered (see the type), and used by TLS all the same: the last words of a handshake that fails may be several records, and
    /// are written in one call or not at all.
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
