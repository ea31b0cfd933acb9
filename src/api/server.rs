//! Serves connections: HTTP/1 and HTTP/2 on one port, told apart by how they begin, in TLS or not.

use super::authority::ProperAuthority;
use super::backend::Backend;
use super::routes::Routes;
use super::turns::{Begun, InTurns};
use super::wire_settings;
use crate::env::{self, Executor};
use crate::limits::CONNECTIONS_MAX;
use crate::tls::{Listener, Stream, Ways};
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
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// How connections are treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Requests under way on one connection (`--max-concurrent-streams`).
    pub max_concurrent_streams: u32,
    /// Connections of this port.
    pub connections_max: usize,
    /// How long requests under way may take to end once the server stops.
    pub drain: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_concurrent_streams: u32::MAX,
            connections_max: CONNECTIONS_MAX,
            drain: Duration::from_secs(5),
        }
    }
}

/// After a failed accept, most likely for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
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
    fn enter(&self, phase: Phase) {
        self.number.store(phase as u8, Ordering::Release);
        self.changed.notify_waiters();
    }

    async fn reached(&self, phase: Phase) {
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

/// Serves until `shutdown` is done, then lets requests under way end, for at most `options.drain`. Returns when every
/// connection is closed.
pub async fn serve<B: Backend>(
    listener: impl Into<Listener>,
    routes: Routes<B>,
    options: Options,
    shutdown: impl Future<Output = ()>,
) {
    let Listener { port, ways } = listener.into();
    let phases = Arc::new(Phases::default());
    let permits_max = options.connections_max.min(Semaphore::MAX_PERMITS) as u32;
    let permits = Arc::new(Semaphore::new(permits_max as usize));
    let builder = Arc::new(wire_settings::builder(options.max_concurrent_streams));
    {
        let mut shutdown = pin!(shutdown);
        loop {
            let next = accept(&port, &permits);
            let (stream, remote, permit) = tokio::select! {
                biased;
                () = &mut shutdown => break,
                accepted = next => accepted,
            };
            let (builder, routes, ways) = (Arc::clone(&builder), routes.clone(), ways.clone());
            let phases = Arc::clone(&phases);
            env::spawn(async move {
                if let Some(stream) = begin(&ways, stream, remote, &phases).await {
                    serve_stream(stream, builder, routes, phases).await;
                }
                drop(permit);
            });
        }
    }
    drop(port);
    phases.enter(Phase::Draining);
    let all = || permits.acquire_many(permits_max);
    if env::timeout(options.drain, all()).await.is_err() {
        phases.enter(Phase::Stopped);
        let _ = all().await;
    }
}

/// The next connection, as soon as there may be one more.
async fn accept(
    listener: &env::Listener,
    permits: &Arc<Semaphore>,
) -> (env::Stream, SocketAddr, OwnedSemaphorePermit) {
    let permit = Arc::clone(permits).acquire_owned().await;
    let permit = permit.expect("the semaphore is never closed");
    loop {
        match listener.accept().await {
            Ok((stream, remote)) => return (stream, remote, permit),
            Err(error) => {
                tracing::warn!(error = %error, "failed to accept a connection");
                env::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// The connection that was asked for, unless the other end does not bring it about or the server stops meanwhile.
async fn begin(ways: &Ways, stream: env::Stream, remote: SocketAddr, phases: &Phases) -> Option<Stream> {
    let begun = tokio::select! {
        biased;
        begun = ways.begin(stream) => begun,
        () = phases.reached(Phase::Draining) => return None,
    };
    begun
        .inspect_err(|error| tracing::warn!(remote_addr = %remote, %error, "rejected connection"))
        .ok()
}

async fn serve_stream<B: Backend>(
    stream: Stream,
    builder: Arc<Builder<Executor>>,
    routes: Routes<B>,
    phases: Arc<Phases>,
) {
    let budget = routes.unread().connection();
    let routes = Arc::new(routes);
    let begun = Begun::default();
    let stream = ProperAuthority::new(InTurns::new(stream, begun.clone()));
    let service = service_fn(move |mut request: Request<Incoming>| {
        begun.add();
        let routes = Arc::clone(&routes);
        request.extensions_mut().insert(budget.clone());
        // In a box, which goes once the answer begins: the task of a stream lives on, and would keep its room.
        Box::pin(async move { Ok::<_, Infallible>(routes.handle(request).await) })
    });
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let drained = async {
        phases.reached(Phase::Draining).await;
    };
    let ended = tokio::select! {
        biased;
        result = connection.as_mut() => Some(result),
        () = drained => None,
    };
    let result = if let Some(result) = ended {
        result
    } else {
        connection.as_mut().graceful_shutdown();
        tokio::select! {
            biased;
            result = connection => result,
            () = phases.reached(Phase::Stopped) => return,
        }
    };
    if let Err(error) = result {
        tracing::debug!(error = %error, "a connection ended with an error");
    }
}
