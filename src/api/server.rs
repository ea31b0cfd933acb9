//! Serves connections: HTTP/1 and HTTP/2 on one port, distinguished by their first bytes, with or without TLS.

use super::authority::ProperAuthority;
use super::backend::Backend;
use super::places::{BusyBody, Place, Places};
use super::routes::Routes;
use super::turns::{Begun, InTurns};
use super::wire_settings;
use crate::env::{self, Executor};
use crate::limits::{CONNECTIONS_MAX, LEAVING_CONNECTION_MAX};
use crate::logging::Sparse;
use crate::requests::Caller;
use crate::tls::{Listener, MaybeTlsStream, Ways};
use ::http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto::Builder;
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore};

/// The settings of a port's connections.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// Requests under way on one connection (`--max-concurrent-streams`).
    pub max_concurrent_streams: u32,
    /// Idle time on a connection after which the server sends its client a ping (`--grpc-keepalive-interval`); 0 for never.
    pub keep_alive_interval: Duration,
    /// How long the client may take to reply (`--grpc-keepalive-timeout`).
    pub keep_alive_timeout: Duration,
    /// The places of its connections; several ports may share them.
    pub places: Places,
    /// How long requests under way may take to finish once the server stops.
    pub drain: Duration,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            max_concurrent_streams: u32::MAX,
            keep_alive_interval: Duration::from_hours(2),
            keep_alive_timeout: Duration::from_secs(20),
            places: Places::new(CONNECTIONS_MAX),
            drain: Duration::from_secs(5),
        }
    }
}

/// The pause after a failed accept, most likely for lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Log lines about rejected connections per second: enough for an operator, too few to fill a disk.
const REJECTED_PER_SECOND: u32 = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ServerPhase {
    /// Requests under way finish, new ones are refused.
    Draining = 1,
    Stopped = 2,
}

/// The phase of a port's connections. They learn of the next phase in the order in which they arrived. tokio's `watch` wakes in a
/// random order of the process, so rehearsals would not repeat.
#[derive(Default)]
struct Phases {
    /// 0 while requests are served.
    number: AtomicU8,
    changed: Notify,
}

impl Phases {
    fn enter(&self, phase: ServerPhase) {
        self.number.store(phase as u8, Ordering::Release);
        self.changed.notify_waiters();
    }

    async fn reached(&self, phase: ServerPhase) {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if self.number.load(Ordering::Acquire) >= phase as u8 {
                return;
            }
            changed.await;
        }
    }
}

/// Log lines about connections that fail, rate-limited because clients can cause them.
struct Complaints {
    accept: Sparse,
    full: Sparse,
    rejected: Sparse,
}

/// Serves until `shutdown` is ready, then lets requests under way finish for at most `options.drain`. Returns when every
/// connection is closed.
pub async fn serve<B: Backend>(
    listener: impl Into<Listener>,
    routes: Routes<B>,
    options: ServeOptions,
    shutdown: impl Future<Output = ()>,
) {
    let Listener { port, ways } = listener.into();
    let phases = Arc::new(Phases::default());
    let complaints = Arc::new(Complaints {
        accept: Sparse::new(1),
        full: Sparse::new(1),
        rejected: Sparse::new(REJECTED_PER_SECOND),
    });
    // Counts the connections of this port alone, which cannot exceed the places.
    let permits_max = options.places.max().min(Semaphore::MAX_PERMITS) as u32;
    let permits = Arc::new(Semaphore::new(permits_max as usize));
    let builder = Arc::new(wire_settings::builder(&options));
    {
        let mut shutdown = pin!(shutdown);
        loop {
            let next = accept(&port, &options.places, &complaints);
            let (stream, remote, place) = tokio::select! {
                biased;
                () = &mut shutdown => break,
                accepted = next => accepted,
            };
            let permit = Arc::clone(&permits).try_acquire_owned();
            let (builder, routes, ways) = (Arc::clone(&builder), routes.clone(), ways.clone());
            let (phases, complaints) = (Arc::clone(&phases), Arc::clone(&complaints));
            env::spawn(async move {
                if let Some(stream) = begin(&ways, stream, remote, &phases, &place, &complaints).await {
                    serve_stream((stream, remote), builder, routes, phases, &place).await;
                }
                drop(place);
                drop(permit);
            });
        }
    }
    drop(port);
    phases.enter(ServerPhase::Draining);
    let all = || permits.acquire_many(permits_max);
    if env::timeout(options.drain, all()).await.is_err() {
        phases.enter(ServerPhase::Stopped);
        let _ = all().await;
    }
}

/// The next connection, with a place. The port never stops accepting: a client cannot tell a connection that is not accepted from
/// a slow reply.
async fn accept(
    listener: &env::Listener,
    places: &Places,
    complaints: &Complaints,
) -> (env::Stream, SocketAddr, Place) {
    loop {
        match listener.accept().await {
            Ok((stream, remote)) => match places.admit().await {
                Some(place) => return (stream, remote, place),
                None => {
                    if let Some(others) = complaints.full.pass(env::now()) {
                        tracing::warn!(
                            remote_addr = %remote, others, connections_max = places.max(),
                            "closed a new connection: there are as many with requests under way as may be open; raise the limit of open files or have clients share connections"
                        );
                    }
                }
            },
            Err(error) => {
                if let Some(others) = complaints.accept.pass(env::now()) {
                    tracing::warn!(%error, others, "failed to accept a connection");
                }
                places.make_room();
                env::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Finishes the handshake of a connection; none if the client does not complete it, the server stops meanwhile, or the place is
/// needed.
async fn begin(
    ways: &Ways,
    stream: env::Stream,
    remote: SocketAddr,
    phases: &Phases,
    place: &Place,
    complaints: &Complaints,
) -> Option<MaybeTlsStream> {
    let begun = tokio::select! {
        biased;
        begun = ways.begin(stream, remote) => begun,
        () = phases.reached(ServerPhase::Draining) => return None,
        () = place.asked_to_leave() => {
            if let Some(others) = complaints.full.pass(env::now()) {
                tracing::warn!(
                    remote_addr = %remote, others,
                    "closed a connection on which nothing was said, to make room for a new one"
                );
            }
            return None;
        }
    };
    match begun {
        Ok(stream) => {
            place.spoken();
            Some(stream)
        }
        Err(error) => {
            if let Some(others) = complaints.rejected.pass(env::now()) {
                tracing::warn!(remote_addr = %remote, %error, others, "rejected connection");
            }
            None
        }
    }
}

async fn serve_stream<B: Backend>(
    (stream, remote): (MaybeTlsStream, SocketAddr),
    builder: Arc<Builder<Executor>>,
    routes: Routes<B>,
    phases: Arc<Phases>,
    place: &Place,
) {
    let caller = Caller {
        certificate_name: stream.certificate_name(),
    };
    let shared = routes.connection(caller, Some(remote), stream.is_secure());
    let routes = Arc::new(routes);
    let activity = place.activity();
    let begun = Begun::default();
    let stream = ProperAuthority::new(InTurns::new(stream, begun.clone()));
    let service = service_fn(move |request: Request<Incoming>| {
        begun.add();
        let (routes, shared) = (Arc::clone(&routes), shared.clone());
        let busy = activity.begin();
        // Boxed, and freed once the reply begins: the task of a stream continues and would keep its memory.
        Box::pin(async move {
            let response = routes.handle_within(&shared, request).await;
            Ok::<_, Infallible>(response.map(|body| BusyBody { body, _busy: busy }))
        })
    });
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        biased;
        result = connection.as_mut() => Some(result),
        () = phases.reached(ServerPhase::Draining) => None,
        () = place.asked_to_leave() => None,
    };
    let result = if let Some(result) = ended {
        result
    } else {
        connection.as_mut().graceful_shutdown();
        tokio::select! {
            biased;
            result = connection.as_mut() => result,
            () = phases.reached(ServerPhase::Stopped) => return,
            () = has_left(place) => return,
        }
    };
    if let Err(error) = result {
        tracing::debug!(error = %error, "a connection ended with an error");
    }
}

/// Ready when a connection that was asked to leave has had its time for it and has no request under way.
async fn has_left(place: &Place) {
    loop {
        place.asked_to_leave().await;
        env::sleep(LEAVING_CONNECTION_MAX).await;
        if !place.is_busy() {
            return;
        }
        place.stays();
    }
}
