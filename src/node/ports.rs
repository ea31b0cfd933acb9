//! The ports of a member: all are bound before anything is opened, so that a port in use costs nothing, and begin to serve once
//! the member is there. What they serve is built by their threads ([`super::threads`]).

use super::backend::MemberBackend;
use super::security::Security;
use super::threads;
use super::threads::network::Clients;
use super::threads::raft::Raft;
use crate::api;
use crate::bootstrap::StartError;
use crate::cluster::MemberUrl;
use crate::config;
use crate::env::{self, ThreadHandle};
use crate::limits::OpenFiles;
use crate::tls::{Acceptor, Listener, Ways};
use std::future::Future;
use tokio::sync::{oneshot, watch};

/// Told once.
pub(super) type Shutdown = watch::Receiver<bool>;

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
pub(super) struct ClientsStop {
    pub(super) shutdown: Shutdown,
    /// Dropped with the last client.
    pub(super) serving: oneshot::Sender<()>,
}

/// All ports, bound, on threads that wait for what to serve.
pub(super) struct Ports {
    pub(super) peers: Port<(Raft, MemberBackend)>,
    pub(super) clients: Port<(Clients, MemberBackend)>,
    /// `--listen-metrics-urls`, on a thread of their own, if there are any.
    pub(super) monitoring: Option<Port<MemberBackend>>,
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
        let (of_clients, of_peers) = (security.clients.as_ref(), security.peers.as_ref());
        let ports = Self {
            // As long as anything can be told.
            monitoring: threads::metrics::bind(config, of_clients, peers_stop.clone(), places.for_clients())
                .await?,
            clients: threads::network::bind(config, of_clients, clients_stop, places.for_clients()).await?,
            peers: threads::raft::bind(config, of_peers, peers_stop, places.for_peers()).await?,
        };
        let closing = Closing {
            clients,
            clients_gone,
            peers,
        };
        Ok((ports, closing))
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

    fn for_clients(&self) -> api::ServeOptions {
        api::ServeOptions {
            places: self.clients.clone(),
            ..api::ServeOptions::default()
        }
    }

    fn for_peers(&self) -> api::ServeOptions {
        api::ServeOptions {
            places: self.peers.clone(),
            ..api::ServeOptions::default()
        }
    }
}

pub(super) async fn serve(
    listeners: Vec<Listener>,
    routes: &api::Routes<MemberBackend>,
    options: api::ServeOptions,
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

pub(super) async fn stopped(mut shutdown: Shutdown) {
    // An error means that the member is gone.
    let _ = shutdown.wait_for(|stop| *stop).await;
}

/// Where to listen, and what to speak there.
#[derive(Default)]
pub(super) struct Addresses {
    pub(super) list: Vec<(String, Ways)>,
    /// Whether other processes may listen there too.
    reuse_port: bool,
}

impl Addresses {
    /// Those of URLs: an address may be given with both schemes.
    pub(super) fn new(config: &config::Server, urls: &[MemberUrl], acceptor: Option<&Acceptor>) -> Self {
        Self {
            list: addresses(urls, acceptor),
            reuse_port: config.socket_reuse_port,
        }
    }
}

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
    pub(super) async fn bind<F, S>(
        name: &'static str,
        workers: usize,
        addresses: Addresses,
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

    pub(super) fn begin(self, content: T) -> Result<ThreadHandle, StartError> {
        match self.begin.send(content) {
            Ok(()) => Ok(self.thread),
            Err(_) => Err(ended()),
        }
    }
}

fn ended() -> StartError {
    StartError::Raft("a thread ended before it began".into())
}

async fn bind(addresses: Addresses) -> Result<Vec<Listener>, StartError> {
    let mut listeners = Vec::with_capacity(addresses.list.len());
    for (address, ways) in addresses.list {
        match env::Listener::bind_with(&address, addresses.reuse_port).await {
            Ok(port) => listeners.push(Listener { port, ways }),
            Err(source) => return Err(StartError::Listen { address, source }),
        }
    }
    Ok(listeners)
}
