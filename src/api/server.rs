//! Serves connections: HTTP/1 and HTTP/2 on one port, told apart by how they begin, in TLS or not.

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

/// How connections are treated.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// Requests under way on one connection (`--max-concurrent-streams`).
    pub max_concurrent_streams: u32,
    /// Silence on a connection after which its client is asked whether it is there (`--grpc-keepalive-interval`); 0 for never.
    pub keep_alive_interval: Duration,
    /// How long it may take to say so (`--grpc-keepalive-timeout`).
    pub keep_alive_timeout: Duration,
    /// Where its connections sit; several ports may share them.
    pub places: Places,
    /// How long requests under way may take to end once the server stops.
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

/// After a failed accept, most likely for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Lines about connections that were rejected: enough for an operator, too few to fill a disk.
const REJECTED_PER_SECOND: u32 = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ServerPhase {
    /// Requests under way end, new ones are refused.
    Draining = 1,
    Stopped = 2,
}

/// The phase that the connections of a port are in. They learn of the next one in the order in which they came: tokio's
/// `watch` wakes in an order drawn from a generator of the process, and rehearsals would not repeat.
#[derive(Default)]
struct Phases {
    /// 0 as long as requests are served.
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

/// What a port says about connections that do not come about, as often as strangers may make it say so.
struct Complaints {
    accept: Sparse,
    full: Sparse,
    rejected: Sparse,
}

/// Serves until `shutdown` is done, then lets requests under way end, for at most `options.drain`. Returns when every
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
    // Counts the connections of this port alone: there are places for no more.
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

/// The next connection that there is a place for. It never stops accepting: a connection that nobody takes would wait for a
/// time that its client cannot tell from a slow answer.
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

/// The connection that was asked for, unless the other end does not bring it about, the server stops meanwhile, or others
/// need the place.
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
        begun = ways.begin(stream) => begun,
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
        // In a box, which goes once the answer begins: the task of a stream lives on, and would keep its room.
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

/// Done when a connection that was asked to leave has had its time for it and has no request under way.
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
