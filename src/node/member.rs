//! One running member: builds its actors on their threads, connects them, publishes the member to the cluster, and takes
//! everything down again.
//!
//! | thread | what runs on it |
//! |---|---|
//! | main | starting, publishing, stopping |
//! | raft | the consensus actor, the peer links and the peer port: nothing that waits for a disk, nothing that takes long |
//! | log | the log's disk |
//! | apply | the state machine |
//! | transfer | what members that are behind need: entries read from the log's disk, snapshots sent and received |
//! | check | comparing this member's data with the others', reading it back from disk; yields to all others |
//! | checkpoint | slow work on the state's disk |
//! | watch | reads for watchers that are behind |
//! | metrics | the ports of --listen-metrics-urls, if there are any |
//! | network | the client port: requests, reads included; the watch hub, the lessor, the compactor, the watch over space |

use super::announce;
use super::backend::MemberBackend;
use super::bootstrap::{self, EngineOptions, Opened, StartError};
use super::checkpointer::{Checkpointer, Idle};
use super::entrance::{self, Entrance};
use super::ports::{ClientParts, Closing, HubStart, Ports, hub_options};
use super::security::Security;
use crate::api;
use crate::apply::{Applier, SlowApplies};
use crate::bound::Bound;
use crate::compactor;
use crate::config;
use crate::consensus::actor::{self, Consensus, Neighbours};
use crate::consensus::checkpoint::{Checkpoints, Policy};
use crate::consensus::conf_state;
use crate::consensus::core::{Core, TICKS_PER_HEARTBEAT, Timing};
use crate::consensus::log_store::LogStore;
use crate::consensus::reads::Reads;
use crate::consensus::writer::LogWriter;
use crate::corruption::HashHandle;
use crate::corruption::actor::Checker;
use crate::corruption::initial::InitialCheck;
use crate::env::{self, TaskThread, ThreadHandle};
use crate::ids::MemberId;
use crate::lease::lessor::LessorOptions;
use crate::lease::{self, LeaseHandle};
use crate::limits::{CATCH_UP_BYTES, CATCH_UP_ENTRIES, READS_WAITING_MAX};
use crate::metrics::{ConsensusMetrics, Metrics};
use crate::peer::caller::PeerCaller;
use crate::peer::identity::IdentityCheck;
use crate::peer::link::{Link, Remote};
use crate::peer::links::Links;
use crate::peer::service::PeerService;
use crate::peer::sessions::Sessions;
use crate::peer::snapshot_receive::Arrivals;
use crate::proto::log::{ClusterVersion, MemberAttributes, command::Request};
use crate::quota::{self, Space};
use crate::requests::Handle;
use crate::state::Views;
use crate::stop::StopSignal;
use crate::storage::contacts::Contacts;
use crate::storage::directory::Identity;
use crate::storage::log::LogDatabase;
use crate::storage::state::StateOptions;
use crate::tls::Connector;
use crate::version;
use crate::watch::WatchHandle;
use crate::watch::reader::WatchReader;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Between two attempts to publish the member, and between two looks at the cluster version.
const PUBLISH_RETRY_AFTER: Duration = Duration::from_millis(100);
/// Handing over leadership takes no longer before a stop.
const HAND_OVER_TIMEOUT: Duration = Duration::from_secs(2);

/// A running member.
pub struct Member {
    backend: MemberBackend,
    log: LogDatabase,
    stop: StopSignal,
    closing: Closing,
    threads: Vec<ThreadHandle>,
    config: config::Server,
}

impl Member {
    /// Starts a member and returns once its parts run. It is ready for clients after [`Self::publish`].
    pub async fn start(config: config::Server, engine: EngineOptions) -> Result<Self, StartError> {
        announce::starting(&config, engine.catch_up_entries);
        let origin = env::random_u64();
        let security = Security::new(&config)?;
        let (ports, closing) = Ports::open(&config, &security).await?;
        let mut opened = bootstrap::open(&config, &engine, origin)?;
        let contacts = Contacts::begin(opened.directory.path())?;
        opened.identity.start = contacts.own();
        let metrics = Arc::new(Metrics::new(config.extensive_metrics));
        opened.log.set_metrics(Arc::clone(&metrics.log));
        opened.machine.set_metrics(Arc::clone(&metrics.store));
        let stop = StopSignal::default();
        let neighbours = Neighbours::new(stop.clone());
        let timing = Timing {
            heartbeat_ms: config.heartbeat_interval_ms,
            election_ms: config.election_timeout_ms,
        };
        let parts = (contacts, metrics, security.dialler);
        let backend = make_backend(&config, &opened, &neighbours, origin, parts);
        opened.machine.set_sink(Box::new(backend.watches.clone()));
        opened.machine.set_lease_sink(Box::new(backend.leases.clone()));
        let log = opened.log.clone();
        let checker = checker(&opened, &backend, &config);
        let check = InitialCheck {
            own: opened.identity,
            hashes: checker.hashes.clone(),
            caller: backend.caller.clone(),
            timeout: backend.handle.request_timeout,
        };
        let is_checked = config.initial_corrupt_check && !opened.is_new;
        let entrance = Entrance::new(is_checked.then_some(check), stop.clone());
        let (transfers, transfer_thread) = TaskThread::start("transfer");
        let consensus = ConsensusParts::new(
            &opened,
            (neighbours.clone(), transfers),
            timing,
            Policy {
                catch_up_entries: engine.catch_up_entries.unwrap_or(CATCH_UP_ENTRIES),
                catch_up_bytes: engine.catch_up_bytes.unwrap_or(CATCH_UP_BYTES),
                ..Policy::with_snapshot_count(config.snapshot_count).sooner(engine.checkpoint_sooner_percent)
            },
            engine.state,
            &backend,
            checker.hashes.clone(),
        );
        let slow_apply = config.warning_apply_duration;
        let mut threads = start_workers(opened, &neighbours, &backend, slow_apply);
        threads.push(transfer_thread);
        let reads = Arc::default();
        threads.push(env::run_actor(
            "watch",
            WatchReader {
                views: backend.views.clone(),
                inbox: Arc::clone(&reads),
                hub: backend.watches.clone(),
                stop: stop.clone(),
            },
        ));
        threads.push(env::run_actor_in_background("check", checker));
        let hub = HubStart {
            reads,
            options: hub_options(&config),
            election_timeout: Duration::from_millis(timing.election_ms),
        };
        let clients = client_parts(&config, &backend, hub, stop.clone(), entrance.opened());
        threads.extend(ports.serve((consensus, entrance), clients, &backend)?);
        announce::serving(&config, backend.identity);
        Ok(Self {
            backend,
            log,
            stop,
            closing,
            threads,
            config,
        })
    }

    /// Says the member's name and client URLs to the cluster, until the cluster has taken note.
    pub async fn publish(&self) {
        let identity = self.backend.identity;
        let urls = self.config.advertise_client_urls.iter().map(ToString::to_string);
        let attributes = MemberAttributes {
            member_id: identity.member.0,
            name: self.config.name.clone(),
            client_urls: urls.collect(),
            incarnation: identity.incarnation.0,
        };
        loop {
            match self
                .backend
                .handle
                .propose_own(Request::MemberAttributes(attributes.clone()))
                .await
            {
                Ok(_) => break,
                Err(error) => {
                    tracing::warn!(%error, "failed to publish local member to cluster through raft");
                    env::sleep(PUBLISH_RETRY_AFTER).await;
                }
            }
        }
        tracing::info!(
            local_member_id = %identity.member, cluster_id = %identity.cluster,
            "published local member to cluster through raft"
        );
        self.watch_cluster_version();
        announce::ready(&self.config);
    }

    /// The member's way in for those who run in the same process.
    pub fn backend(&self) -> &MemberBackend {
        &self.backend
    }

    /// The replicated log as it is on disk, for those who compare members.
    pub fn log(&self) -> &LogDatabase {
        &self.log
    }

    /// Done when the member cannot go on, with the reason.
    pub async fn failed(&self) -> String {
        self.stop.failed().await
    }

    /// Hands leadership over, lets requests under way end, and stops every thread. A member that cannot go on does not wait
    /// for requests that nobody can answer any more: then the error is the reason.
    pub async fn stop(self) -> Result<(), String> {
        announce::closing(&self.config);
        let orderly = async {
            hand_over_leadership(&self.backend).await;
            self.closing.close().await;
        };
        if let env::First::One(reason) =
            env::first(self.stop.failed(), orderly, std::future::pending::<()>()).await
        {
            return Err(reason);
        }
        // What is applied need not be replayed. The log has everything acknowledged either way.
        if let Err(error) = self.backend.views.load().state.sync() {
            tracing::warn!(%error, "cannot sync the state before stopping");
        }
        drop(self.threads);
        announce::closed(&self.config);
        Ok(())
    }

    /// The leader names the cluster version once there is a leader.
    fn watch_cluster_version(&self) {
        let backend = self.backend.clone();
        let before = backend.views.load().cluster.version.clone();
        env::spawn_local(async move {
            while backend.views.load().cluster.version.is_empty() {
                if backend.handle.status.is_leader.load(Ordering::Acquire) {
                    let version = ClusterVersion {
                        version: version::CLUSTER.into(),
                    };
                    if let Err(error) = backend.handle.propose_own(Request::ClusterVersion(version)).await {
                        tracing::warn!(%error, "failed to set the cluster version");
                    }
                }
                env::sleep(PUBLISH_RETRY_AFTER).await;
            }
            announce::version(&before, &backend.views.load().cluster.version);
        });
    }
}

/// Asks the others to elect another leader, if this member leads, and waits a while until one does.
async fn hand_over_leadership(backend: &MemberBackend) {
    let leads = || backend.handle.status.is_leader.load(Ordering::Acquire);
    if !leads() || backend.views.load().cluster.conf_state.voters.len() <= 1 {
        return;
    }
    backend.handle.hand_over_leadership();
    let deadline = env::now() + HAND_OVER_TIMEOUT;
    while leads() && env::now() < deadline {
        env::sleep(Duration::from_millis(10)).await;
    }
}

/// The member's way in, before anything behind it runs.
fn make_backend(
    config: &config::Server,
    opened: &Opened,
    neighbours: &Neighbours,
    origin: u64,
    (contacts, metrics, dialler): (Contacts, Arc<Metrics>, Option<Connector>),
) -> MemberBackend {
    let handle = Handle {
        sink: Arc::clone(&neighbours.inbox) as _,
        waiters: Arc::clone(&neighbours.waiters),
        deliveries: Arc::clone(&neighbours.deliveries),
        status: Arc::clone(&neighbours.status),
        origin,
        // etcd: ReqTimeout, 5 s for the disk and twice the election timeout.
        request_timeout: Duration::from_millis(5_000 + 2 * config.election_timeout_ms),
        request_bytes_max: config.max_request_bytes as usize,
        reads: Bound::new(READS_WAITING_MAX),
        metrics: Arc::clone(&metrics.consensus),
    };
    MemberBackend {
        leases: LeaseHandle::new(handle.request_timeout),
        handle,
        views: opened.views.clone(),
        identity: opened.identity,
        checkpointer: Arc::clone(&neighbours.checkpointer),
        limits: api::Limits {
            max_request_bytes: config.max_request_bytes as usize,
            max_txn_ops: config.max_txn_ops as usize,
            lease_ttl_min: lease::ttl_min(config.heartbeat_interval_ms, config.election_timeout_ms),
        },
        watches: WatchHandle::default(),
        queues: api::Queues::default(),
        metrics,
        space: Space::new(config.space),
        contacts,
        caller: PeerCaller::new(opened.identity, opened.views.clone(), dialler),
    }
}

/// What works beside the requests of clients.
fn client_parts(
    config: &config::Server,
    backend: &MemberBackend,
    hub: HubStart,
    stop: StopSignal,
    opened: entrance::Opened,
) -> ClientParts {
    let (views, consensus) = (backend.views.clone(), backend.handle.clone());
    ClientParts {
        hub,
        lessor: lease::actor::LessorActorOptions {
            handle: backend.leases.clone(),
            consensus: consensus.clone(),
            views: views.clone(),
            own: backend.identity,
            caller: backend.caller.clone(),
            options: LessorOptions::new(config.election_timeout_ms),
            stop,
            metrics: Arc::clone(&backend.metrics.lease),
        },
        opened,
        space: quota::watching::SpaceWatchOptions {
            own: backend.identity.member,
            space: backend.space.clone(),
            views: views.clone(),
            consensus: consensus.clone(),
            data_dir: config.data_dir.clone(),
        },
        compactor: config
            .auto_compaction
            .map(|retention| compactor::CompactorOptions {
                retention,
                views,
                consensus,
            }),
        cors: api::Cors::new(&config.cors),
        json: config.enable_grpc_gateway,
    }
}

/// What the raft thread makes its actors of.
pub(super) struct ConsensusParts {
    identity: Identity,
    origin: u64,
    store: LogStore,
    views: Views,
    pub(super) neighbours: Neighbours,
    timing: Timing,
    checkpoints: Checkpoints,
    log: LogDatabase,
    transfers: TaskThread,
    remotes: Vec<Remote>,
    pub(super) service: PeerService,
    metrics: Arc<ConsensusMetrics>,
}

impl ConsensusParts {
    fn new(
        opened: &Opened,
        (neighbours, transfers): (Neighbours, TaskThread),
        timing: Timing,
        policy: Policy,
        state_options: StateOptions,
        backend: &MemberBackend,
        hashes: HashHandle,
    ) -> Self {
        let view = opened.views.load();
        let conf_state = conf_state(&view.cluster.conf_state);
        let store = LogStore::new(
            opened.log.clone(),
            &opened.recovered,
            conf_state,
            opened.views.clone(),
        );
        let checkpoints = Checkpoints::new(policy, view.applied_index());
        let others = view
            .cluster
            .members
            .iter()
            .filter(|member| member.id != opened.identity.member.0);
        let remotes = others.map(|member| backend.caller.remote(MemberId(member.id)));
        let metrics = &backend.metrics;
        let service = PeerService {
            identity_check: IdentityCheck {
                own: opened.identity,
                views: opened.views.clone(),
                contacts: backend.contacts.clone(),
            },
            consensus: Arc::clone(&neighbours.inbox),
            directory: Arc::clone(&opened.directory),
            state_options,
            arrivals: Arrivals::default(),
            stop: neighbours.stop.clone(),
            leases: Arc::new(backend.leases.clone()),
            hashes: Arc::new(hashes),
            metrics: Arc::clone(&metrics.peers),
            transfers: transfers.clone(),
            sessions: Sessions::default(),
        };
        Self {
            identity: opened.identity,
            origin: backend.handle.origin,
            store,
            views: opened.views.clone(),
            remotes: remotes.collect(),
            neighbours,
            timing,
            checkpoints,
            log: opened.log.clone(),
            transfers,
            service,
            metrics: Arc::clone(&metrics.consensus),
        }
    }

    /// Starts the consensus actor and the links on this thread.
    pub(super) fn start(self) -> Result<(), raft::Error> {
        let applied = self.views.load().applied_index();
        self.neighbours
            .status
            .applied_index
            .store(applied.0, Ordering::Release);
        let core = Core::new(
            self.identity.member,
            self.timing,
            applied,
            self.store,
            Box::new(env::random_below),
        )?;
        let mut links = Links::default();
        for remote in self.remotes {
            let (inbox, stop) = (Arc::clone(&self.neighbours.inbox), self.neighbours.stop.clone());
            let metrics = self.service.metrics.to(self.identity.member, remote.member);
            let transfers = self.transfers.clone();
            let identity_check = self.service.identity_check.clone();
            links.add(
                remote.member,
                env::start(|_| Link::new(remote, inbox, identity_check, stop, transfers, metrics)),
            );
        }
        let parts = actor::ConsensusOptions {
            member: self.identity.member,
            origin: self.origin,
            core,
            neighbours: self.neighbours,
            links: Box::new(links),
            tick: Duration::from_millis(self.timing.heartbeat_ms) / TICKS_PER_HEARTBEAT,
            election_timeout: Duration::from_millis(self.timing.election_ms),
            reads: Reads::new(env::random_u64()),
            checkpoints: self.checkpoints,
            log: self.log,
            transfers: self.transfers,
            contacts: self.service.identity_check.contacts,
            metrics: self.metrics,
        };
        env::start(|_| Consensus::new(parts));
        Ok(())
    }
}

fn checker(opened: &Opened, backend: &MemberBackend, config: &config::Server) -> Checker {
    Checker {
        own: opened.identity,
        hashes: HashHandle {
            views: opened.views.clone(),
            digests: opened.machine.digests().clone(),
            inbox: Arc::default(),
        },
        caller: backend.caller.clone(),
        consensus: backend.handle.clone(),
        log: opened.log.clone(),
        options: config.checks,
    }
}

/// Starts the actors that have a thread each.
fn start_workers(
    opened: Opened,
    neighbours: &Neighbours,
    backend: &MemberBackend,
    slow_apply: Duration,
) -> Vec<ThreadHandle> {
    let Opened {
        machine,
        log,
        directory,
        ..
    } = opened;
    let checkpointed = log.clone();
    let writer = LogWriter {
        log,
        inbox: Arc::clone(&neighbours.writer),
        consensus: Arc::clone(&neighbours.inbox),
        stop: neighbours.stop.clone(),
        failed: false,
    };
    let applier = Applier {
        machine,
        directory,
        inbox: Arc::clone(&neighbours.applier),
        progress: Arc::clone(&neighbours.inbox) as _,
        checkpointer: Arc::clone(&neighbours.checkpointer),
        waiters: Arc::clone(&neighbours.waiters),
        deliveries: Arc::clone(&neighbours.deliveries),
        status: Arc::clone(&neighbours.status),
        stop: neighbours.stop.clone(),
        reads: Vec::new(),
        failed: false,
        slow: SlowApplies {
            metrics: Arc::clone(&backend.metrics.store),
            limit: slow_apply,
        },
    };
    let checkpointer = Checkpointer {
        log: checkpointed,
        views: backend.views.clone(),
        inbox: Arc::clone(&neighbours.checkpointer),
        consensus: Arc::clone(&neighbours.inbox),
        applier: Arc::clone(&neighbours.applier),
        stop: neighbours.stop.clone(),
        metrics: Arc::clone(&backend.metrics.store),
        idle: Idle::default(),
    };
    vec![
        env::run_actor("log", writer),
        env::run_actor("apply", applier),
        env::run_actor("checkpoint", checkpointer),
    ]
}
