//! The ports of a member and the threads that serve them: binds all before anything is opened, so that a port in use
//! costs nothing, and serves them once the member is there.

use super::backend::MemberBackend;
use super::bootstrap::StartError;
use super::entrance::{Entrance, Opened};
use super::member::ConsensusParts;
use super::security::Security;
use crate::api;
use crate::cluster::MemberUrl;
use crate::compactor;
use crate::config;
use crate::env::{self, ThreadHandle};
use crate::inbox::Inbox;
use crate::lease;
use crate::lease::actor::LessorActor;
use crate::limits::{GRPC_OVERHEAD_BYTES, OpenFiles, PEER_MESSAGE_BYTES_MAX};
use crate::peer::service::PeerService;
use crate::proto::peer::peer_server::PeerServer;
use crate::quota;
use crate::tls::{Acceptor, Listener, Ways};
use crate::watch::actor::{WatchHub, WatchHubOptions};
use crate::watch::{HubOptions, Read};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{oneshot, watch};

type Shutdown = watch::Receiver<bool>;

/// Closes the ports, one after the other.
pub(super) struct Closing {
    clients: watch::Sender<bool>,
    /// Closed when no client is served any more.
    clients_gone: oneshot::Receiver<()>,
    peers: watch::Sender<bool>,
}

impl Closing {
    /// Lets requests under way end, which need the log and the other members until then, and stops listening to peers.
    pub(super) async fn close(self) {
        let _ = self.clients.send(true);
        // Nothing is sent: it is closed.
        let _ = self.clients_gone.await;
        let _ = self.peers.send(true);
    }
}

/// When to stop serving clients, and whom to tell that none is left.
struct ClientsStop {
    shutdown: Shutdown,
    serving: oneshot::Sender<()>,
}

/// All ports, bound, on threads that wait for what to serve.
pub(super) struct Ports {
    peers: Port<(PeerParts, MemberBackend)>,
    clients: Port<(ClientParts, MemberBackend)>,
    /// `--listen-metrics-urls`, on a thread of their own, if there are any.
    monitoring: Option<Port<MemberBackend>>,
}

impl Ports {
    /// Binds what the operator asks for.
    pub(super) async fn open(
        config: &config::Server,
        security: &Security,
    ) -> Result<(Self, Closing), StartError> {
        let (clients, shutdown) = watch::channel(false);
        let (serving, clients_gone) = oneshot::channel();
        let (peers, peers_stop) = watch::channel(false);
        let clients_stop = ClientsStop { shutdown, serving };
        let places = PortPlaces::new();
        let ports = Self {
            // As long as anything can be told.
            monitoring: monitoring(config, security.clients.as_ref(), peers_stop.clone(), &places).await?,
            clients: client_port(config, security, clients_stop, places.for_clients()).await?,
            peers: peer_port(config, security, peers_stop, places.for_peers()).await?,
        };
        let closing = Closing {
            clients,
            clients_gone,
            peers,
        };
        Ok((ports, closing))
    }

    /// Lets the threads begin.
    pub(super) fn serve(
        self,
        peer_parts: PeerParts,
        clients: ClientParts,
        backend: &MemberBackend,
    ) -> Result<Vec<ThreadHandle>, StartError> {
        let mut threads = vec![
            self.peers.begin((peer_parts, backend.clone()))?,
            self.clients.begin((clients, backend.clone()))?,
        ];
        if let Some(port) = self.monitoring {
            threads.push(port.begin(backend.clone())?);
        }
        Ok(threads)
    }
}

/// The connections that the ports may have. Those of peers are apart, so that no crowd of clients keeps members from each
/// other.
struct PortPlaces {
    clients: api::Places,
    peers: api::Places,
}

impl PortPlaces {
    fn new() -> Self {
        let shares = OpenFiles::of(env::open_files_max());
        Self {
            clients: api::Places::new(shares.clients),
            peers: api::Places::new(shares.peers),
        }
    }

    fn for_clients(&self) -> api::Options {
        api::Options {
            places: self.clients.clone(),
            ..api::Options::default()
        }
    }

    fn for_peers(&self) -> api::Options {
        api::Options {
            places: self.peers.clone(),
            ..api::Options::default()
        }
    }
}

async fn monitoring(
    config: &config::Server,
    acceptor: Option<&Acceptor>,
    shutdown: Shutdown,
    places: &PortPlaces,
) -> Result<Option<Port<MemberBackend>>, StartError> {
    let urls = addresses(&config.listen_metrics_urls, acceptor);
    if urls.is_empty() {
        return Ok(None);
    }
    let options = places.for_clients();
    let port = Port::bind("metrics", 1, urls, move |listeners, backend| async move {
        let routes = api::Routes::monitoring(backend);
        serve(listeners, &routes, options, &shutdown).await;
    });
    port.await.map(Some)
}

/// The port for clients, on threads of their own: nothing that they ask for delays a heartbeat.
async fn client_port(
    config: &config::Server,
    security: &Security,
    stop: ClientsStop,
    options: api::Options,
) -> Result<Port<(ClientParts, MemberBackend)>, StartError> {
    let urls = addresses(&config.listen_client_urls, security.clients.as_ref());
    let options = api::Options {
        max_concurrent_streams: config.max_concurrent_streams,
        ..options
    };
    let workers = env::processors().saturating_sub(1).max(1);
    let serve = move |listeners, (parts, backend)| serve_clients(listeners, parts, backend, options, stop);
    Port::bind("network", workers, urls, serve).await
}

/// The port for peers, on the thread of the consensus actor.
async fn peer_port(
    config: &config::Server,
    security: &Security,
    stop: Shutdown,
    options: api::Options,
) -> Result<Port<(PeerParts, MemberBackend)>, StartError> {
    let urls = addresses(&config.listen_peer_urls, security.peers.as_ref());
    let serve = move |listeners, (parts, backend)| serve_peers(listeners, parts, backend, options, stop);
    Port::bind("raft", 1, urls, serve).await
}

/// What the raft thread makes its actors of, and when.
pub(super) type PeerParts = (ConsensusParts, Entrance);

/// What the client port's thread makes its actors of.
pub(super) struct ClientParts {
    pub(super) hub: HubStart,
    pub(super) lessor: lease::actor::LessorActorOptions,
    pub(super) space: quota::watching::SpaceWatchOptions,
    /// None if nothing is compacted by itself.
    pub(super) compactor: Option<compactor::CompactorOptions>,
    pub(super) cors: api::Cors,
    /// Whether the JSON form of the API is answered.
    pub(super) json: bool,
    pub(super) opened: Opened,
}

/// What the watch hub is made of.
pub(super) struct HubStart {
    pub(super) reads: Arc<Inbox<Option<Read>>>,
    pub(super) options: HubOptions,
    pub(super) election_timeout: Duration,
}

impl HubStart {
    fn start(self, backend: &MemberBackend) {
        let status = Arc::clone(&backend.handle.status);
        let parts = WatchHubOptions {
            handle: backend.watches.clone(),
            views: backend.views.clone(),
            reader: self.reads,
            options: self.options,
            has_leader: Box::new(move || status.leader.load(Ordering::Acquire) != 0),
            election_timeout: self.election_timeout,
            metrics: Arc::clone(&backend.metrics.watch),
        };
        env::start(|_| WatchHub::new(parts));
    }
}

/// How watches are treated.
pub(super) fn hub_options(config: &config::Server) -> HubOptions {
    HubOptions {
        fragment_bytes: config.max_request_bytes as usize + GRPC_OVERHEAD_BYTES,
        progress_interval_ms: config.watch_progress_notify_interval.as_millis() as u64,
        ..HubOptions::default()
    }
}

async fn serve_clients(
    listeners: Vec<Listener>,
    mut parts: ClientParts,
    backend: MemberBackend,
    options: api::Options,
    stop: ClientsStop,
) {
    parts.hub.start(&backend);
    env::start(|_| LessorActor::new(parts.lessor));
    env::spawn_local(quota::watching::watch(parts.space));
    if let Some(compactor) = parts.compactor {
        env::spawn_local(compactor::run(compactor));
    }
    let deliveries = Arc::clone(&backend.handle.deliveries);
    env::spawn(deliveries.run(Arc::clone(&backend.handle.sink)));
    if parts.opened.wait_for(|opened| *opened).await.is_err() {
        return;
    }
    let watches = backend.watches.clone();
    let routes = api::Routes::new(backend)
        .with_cors(parts.cors)
        .with_json(parts.json);
    // Streams do not end by themselves.
    let end_streams = async {
        stopped(stop.shutdown.clone()).await;
        watches.stop();
    };
    futures_util::future::join(serve(listeners, &routes, options, &stop.shutdown), end_streams).await;
    drop(stop.serving);
}

async fn serve_peers(
    listeners: Vec<Listener>,
    (parts, entrance): PeerParts,
    backend: MemberBackend,
    options: api::Options,
    shutdown: Shutdown,
) {
    let routes =
        api::Routes::peers(backend, peer_routes(parts.service.clone())).closed_until(entrance.opened());
    let stop = parts.neighbours.stop.clone();
    let begin = async move {
        if entrance.open().await
            && let Err(error) = parts.start()
        {
            stop.fail(&error);
        }
    };
    let serving = serve(listeners, &routes, options, &shutdown);
    futures_util::future::join(begin, serving).await;
}

fn peer_routes(service: PeerService) -> axum::Router {
    let server = PeerServer::new(service).max_decoding_message_size(PEER_MESSAGE_BYTES_MAX);
    tonic::service::Routes::new(server).into_axum_router()
}

async fn serve(
    listeners: Vec<Listener>,
    routes: &api::Routes<MemberBackend>,
    options: api::Options,
    shutdown: &Shutdown,
) {
    let serving = listeners.into_iter().map(|listener| {
        api::serve(
            listener,
            routes.clone(),
            options.clone(),
            stopped(shutdown.clone()),
        )
    });
    futures_util::future::join_all(serving).await;
}

async fn stopped(mut shutdown: Shutdown) {
    // An error means that the member is gone.
    let _ = shutdown.wait_for(|stop| *stop).await;
}

/// Where to listen, and what to speak there: an address may be given with both schemes.
fn addresses(urls: &[MemberUrl], acceptor: Option<&Acceptor>) -> Vec<(String, Ways)> {
    let mut addresses: Vec<(String, Ways)> = Vec::new();
    for url in urls {
        let ways = if url.is_secure() {
            Ways::Secure(acceptor.expect("refused before, in security.rs").clone())
        } else {
            Ways::Plain
        };
        let address = url.address();
        match addresses.iter_mut().find(|(known, _)| *known == address) {
            None => addresses.push((address, ways)),
            Some((_, known)) => *known = std::mem::take(known).and(ways),
        }
    }
    addresses
}

/// Addresses bound on a thread of their own, which waits for what to serve there.
pub(super) struct Port<T> {
    begin: oneshot::Sender<T>,
    thread: ThreadHandle,
}

impl<T: Send + 'static> Port<T> {
    async fn bind<F, S>(
        name: &'static str,
        workers: usize,
        addresses: Vec<(String, Ways)>,
        serve: S,
    ) -> Result<Self, StartError>
    where
        F: Future<Output = ()> + 'static,
        S: FnOnce(Vec<Listener>, T) -> F + Send + 'static,
    {
        let (bound, outcome) = oneshot::channel();
        let (begin, receiver) = oneshot::channel();
        let thread = env::thread(name, workers, move || async move {
            let listeners = bind(addresses).await;
            let (result, listeners) = match listeners {
                Ok(listeners) => (Ok(()), listeners),
                Err(error) => (Err(error), Vec::new()),
            };
            let _ = bound.send(result);
            if let Ok(content) = receiver.await {
                serve(listeners, content).await;
            }
        });
        match outcome.await {
            Ok(Ok(())) => Ok(Self { begin, thread }),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(ended()),
        }
    }

    fn begin(self, content: T) -> Result<ThreadHandle, StartError> {
        match self.begin.send(content) {
            Ok(()) => Ok(self.thread),
            Err(_) => Err(ended()),
        }
    }
}

fn ended() -> StartError {
    StartError::Raft("a thread ended before it began".into())
}

async fn bind(addresses: Vec<(String, Ways)>) -> Result<Vec<Listener>, StartError> {
    let mut listeners = Vec::with_capacity(addresses.len());
    for (address, ways) in addresses {
        match env::Listener::bind(&address).await {
            Ok(port) => listeners.push(Listener { port, ways }),
            Err(source) => return Err(StartError::Listen { address, source }),
        }
    }
    Ok(listeners)
}
