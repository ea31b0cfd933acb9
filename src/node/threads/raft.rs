//! The thread of raft: the consensus actor, the links to the other members, and the port on which they dial this one. Nothing on
//! it waits for a disk, nothing takes long.

use crate::api;
use crate::bootstrap::{EngineOptions, OpenedMember, StartError};
use crate::config;
use crate::consensus::actor::Consensus;
use crate::consensus::checkpoint::{Checkpoints, Policy};
use crate::consensus::conf_state;
use crate::consensus::core::{Core, TICKS_PER_HEARTBEAT, Timing};
use crate::consensus::log_store::LogStore;
use crate::consensus::neighbours::Neighbours;
use crate::consensus::options::ConsensusOptions;
use crate::consensus::reads::Reads;
use crate::corruption::HashHandle;
use crate::env::{self, TaskThread};
use crate::limits::{CATCH_UP_BYTES, PEER_MESSAGE_BYTES_MAX};
use crate::metrics::ConsensusMetrics;
use crate::node::backend::MemberBackend;
use crate::node::entrance::Entrance;
use crate::node::ports::{Addresses, Port, Shutdown, serve};
use crate::peer::caller::PeerCaller;
use crate::peer::identity::IdentityCheck;
use crate::peer::links::{LinkOptions, Links};
use crate::peer::service::PeerService;
use crate::peer::sessions::Sessions;
use crate::peer::snapshot_receive::Arrivals;
use crate::proto::peer::peer_server::PeerServer;
use crate::state::Views;
use crate::storage::directory::Identity;
use crate::storage::log::LogDatabase;
use crate::tls::{Acceptor, Listener};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Binds the port for peers.
pub(in crate::node) async fn bind(
    config: &config::Server,
    acceptor: Option<&Acceptor>,
    shutdown: Shutdown,
    options: api::ServeOptions,
) -> Result<Port<(Raft, MemberBackend)>, StartError> {
    let urls = Addresses::new(config, &config.listen_peer_urls, acceptor);
    let serve = move |listeners, (raft, backend)| serve_peers(listeners, raft, backend, options, shutdown);
    Port::bind("raft", 1, urls, serve).await
}

/// What the thread makes its actors of, and when.
pub(in crate::node) struct Raft {
    identity: Identity,
    origin: u64,
    store: LogStore,
    views: Views,
    neighbours: Neighbours,
    timing: Timing,
    checkpoints: Checkpoints,
    log: LogDatabase,
    transfers: TaskThread,
    caller: PeerCaller,
    service: PeerService,
    metrics: Arc<ConsensusMetrics>,
    entrance: Entrance,
}

impl Raft {
    pub(in crate::node) fn new(
        (config, engine): (&config::Server, &EngineOptions),
        opened: &OpenedMember,
        backend: &MemberBackend,
        (neighbours, transfers): (Neighbours, TaskThread),
        hashes: HashHandle,
        entrance: Entrance,
    ) -> Self {
        let view = opened.views.load();
        let conf_state = conf_state(&view.cluster.conf_state);
        let store = LogStore::new(
            opened.log.clone(),
            &opened.recovered,
            conf_state,
            opened.views.clone(),
        );
        let service = PeerService {
            identity_check: IdentityCheck {
                own: opened.identity,
                views: opened.views.clone(),
                contacts: backend.contacts.clone(),
            },
            consensus: Arc::clone(&neighbours.inbox),
            directory: Arc::clone(&opened.directory),
            state_options: engine.state.clone(),
            arrivals: Arrivals::default(),
            stop: neighbours.stop.clone(),
            leases: Arc::new(backend.leases.clone()),
            hashes: Arc::new(hashes),
            metrics: Arc::clone(&backend.metrics.peers),
            transfers: transfers.clone(),
            sessions: Sessions::default(),
        };
        Self {
            identity: opened.identity,
            origin: backend.handle.origin,
            store,
            views: opened.views.clone(),
            neighbours,
            timing: Timing {
                heartbeat_ms: config.heartbeat_interval_ms,
                election_ms: config.election_timeout_ms,
                pre_vote: config.pre_vote,
            },
            checkpoints: Checkpoints::new(policy(config, engine), view.applied_index()),
            log: opened.log.clone(),
            transfers,
            caller: backend.caller.clone(),
            service,
            metrics: Arc::clone(&backend.metrics.consensus),
            entrance,
        }
    }

    /// Starts the consensus actor and the links on this thread.
    fn start(self) -> Result<(), raft::Error> {
        let applied = self.views.load().applied_index();
        let status = &self.neighbours.status;
        status.applied_index.store(applied.0, Ordering::Release);
        let core = Core::new(
            self.identity.member,
            self.timing,
            applied,
            self.store,
            Box::new(env::random_below),
        )?;
        let links = LinkOptions {
            identity_check: self.service.identity_check.clone(),
            consensus: Arc::clone(&self.neighbours.inbox),
            stop: self.neighbours.stop.clone(),
            transfers: self.transfers.clone(),
            metrics: Arc::clone(&self.service.metrics),
        };
        let options = ConsensusOptions {
            member: self.identity.member,
            origin: self.origin,
            core,
            neighbours: self.neighbours,
            links: Box::new(Links::start(self.caller, links)),
            tick: Duration::from_millis(self.timing.heartbeat_ms) / TICKS_PER_HEARTBEAT,
            election_timeout: Duration::from_millis(self.timing.election_ms),
            reads: Reads::new(env::random_u64()),
            checkpoints: self.checkpoints,
            log: self.log,
            transfers: self.transfers,
            contacts: self.service.identity_check.contacts,
            metrics: self.metrics,
        };
        env::start(|_| Consensus::new(options));
        Ok(())
    }
}

/// When the state is synced and the log cut.
fn policy(config: &config::Server, engine: &EngineOptions) -> Policy {
    Policy {
        catch_up_entries: engine.catch_up_entries.unwrap_or(config.snapshot_catchup_entries),
        catch_up_bytes: engine.catch_up_bytes.unwrap_or(CATCH_UP_BYTES),
        ..Policy::with_snapshot_count(config.snapshot_count).sooner(engine.checkpoint_sooner_percent)
    }
}

async fn serve_peers(
    listeners: Vec<Listener>,
    mut raft: Raft,
    backend: MemberBackend,
    options: api::ServeOptions,
    shutdown: Shutdown,
) {
    let service = PeerServer::new(raft.service.clone()).max_decoding_message_size(PEER_MESSAGE_BYTES_MAX);
    let router = tonic::service::Routes::new(service).into_axum_router();
    let routes = api::Routes::peers(backend, router).closed_until(raft.entrance.opened());
    let stop = raft.neighbours.stop.clone();
    let begin = async move {
        if raft.entrance.open().await
            && let Err(error) = raft.start()
        {
            stop.fail(&error);
        }
    };
    let serving = serve(listeners, &routes, options, &shutdown);
    futures_util::future::join(begin, serving).await;
}
