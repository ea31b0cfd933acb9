//! One running member: puts its parts together on their threads ([`super::threads`]), publishes it to the cluster, and takes
//! everything down again.

use super::announce;
use super::backend::MemberBackend;
use super::entrance::Entrance;
use super::ports::{Closing, Ports};
use super::security::Security;
use super::threads::network::Clients;
use super::threads::raft::Raft;
use super::threads::{apply, check, checkpoint, log, watch};
use crate::apply::SlowApplies;
use crate::bootstrap::{self, EngineOptions, StartError};
use crate::config;
use crate::consensus::neighbours::Neighbours;
use crate::corruption::HashHandle;
use crate::corruption::initial::InitialCheck;
use crate::env::{self, ServiceState, TaskThread, ThreadHandle};
use crate::proto::log::member_change::Change;
use crate::proto::log::{ClusterVersion, MemberAttributes, MemberChange, command::Request};
use crate::requests::Successor;
use crate::stop::{Reason, StopSignal};
use crate::storage::contacts::Contacts;
use crate::storage::log::LogDatabase;
use crate::version;
use std::cell::Cell;
use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Interval between attempts to publish the member, and between looks at the cluster version.
const PUBLISH_RETRY_AFTER: Duration = Duration::from_millis(100);
/// Interval between a learner's questions whether it may vote.
const PROMOTE_RETRY_AFTER: Duration = Duration::from_secs(1);
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
    /// Whether it has joined its cluster since its start.
    is_ready: Cell<bool>,
}

/// How a member has ended.
#[derive(Debug)]
pub enum Ended {
    /// It was asked to, by this signal, and did so in order; an error is why it could not.
    Asked(i32, Result<(), String>),
    /// It cannot go on, for this reason.
    Failed(String),
    /// It was removed from the cluster.
    Removed,
    /// It has not started.
    Refused(StartError),
}

impl Member {
    /// Runs a member from its start until it has failed, or has stopped because of `signal`. `started` is shown the member once
    /// its parts run.
    pub async fn run(
        config: config::Server,
        engine: EngineOptions,
        signal: impl Future<Output = i32>,
        started: impl FnOnce(&Self),
    ) -> Ended {
        let member = match Self::start(config, engine).await {
            Ok(member) => member,
            Err(error) => return Ended::Refused(error),
        };
        started(&member);
        let published = async {
            member.publish().await;
            std::future::pending::<Infallible>().await
        };
        match env::first(published, member.stop.stopped(), pin!(signal)).await {
            env::First::Three(signal) => {
                tracing::info!(
                    signal = env::signal_name(signal),
                    "received signal; shutting down"
                );
                Ended::Asked(signal, member.stop().await)
            }
            env::First::Two(Reason::Failed(reason)) => Ended::Failed(reason),
            env::First::Two(Reason::Removed) => {
                announce::removed();
                member.removed()
            }
            env::First::One(never) => match never {},
        }
    }

    /// A member that was removed while it was away has not started.
    fn removed(&self) -> Ended {
        if self.is_ready.get() {
            return Ended::Removed;
        }
        let member = self.backend.identity.member;
        Ended::Refused(StartError::removed(member, &self.config.data_dir))
    }

    /// Starts a member and returns once its parts run. It is ready for clients after [`Self::publish`].
    async fn start(config: config::Server, engine: EngineOptions) -> Result<Self, StartError> {
        announce::starting(&config, engine.catch_up_entries);
        let origin = env::random_u64();
        let security = Security::new(&config)?;
        let beginning = bootstrap::begin(&config, security.dialler.as_ref()).await?;
        let (ports, closing) = Ports::open(&config, &security).await?;
        let mut opened = bootstrap::open(&config, &engine, origin, beginning)?;
        let contacts = Contacts::begin(opened.directory.path())?;
        opened.identity.start = contacts.own();
        let stop = StopSignal::default();
        let neighbours = Neighbours::new(stop.clone());
        let backend = MemberBackend::new(&config, &opened, &neighbours, contacts, security.dialler);
        let metrics = Arc::clone(&backend.metrics);
        opened.log.set_metrics(Arc::clone(&metrics.log));
        opened.machine.set_metrics(Arc::clone(&metrics.store));
        opened.machine.observe(Box::new(backend.watches.clone()));
        opened.machine.observe(Box::new(backend.leases.clone()));
        let hashes = HashHandle {
            views: opened.views.clone(),
            digests: opened.machine.digests().clone(),
            inbox: Arc::default(),
        };
        let check = InitialCheck {
            own: opened.identity,
            hashes: hashes.clone(),
            caller: backend.caller.clone(),
            timeout: backend.handle.request_timeout,
        };
        let is_checked = config.initial_corrupt_check && !opened.is_new;
        let entrance = Entrance::new(is_checked.then_some(check), stop.clone());
        let (reads, is_open) = (Arc::default(), entrance.opened());
        let clients = Clients::new(&config, &backend, Arc::clone(&reads), stop.clone(), is_open);
        let (transfers, transfer_thread) = TaskThread::start("transfer");
        let raft = Raft::new(
            (&config, &engine),
            &opened,
            &backend,
            (neighbours.clone(), transfers),
            hashes.clone(),
            entrance,
        );
        let slow = SlowApplies::new(Arc::clone(&metrics.store), config.warning_apply_duration);
        let log = opened.log;
        let mut threads = vec![
            log::start(log.clone(), &neighbours),
            apply::start(opened.machine, opened.directory, slow, &neighbours),
            checkpoint::start(log.clone(), &backend, &neighbours),
            transfer_thread,
            watch::start(reads, &backend, stop.clone()),
            check::start(hashes, log.clone(), &backend, &config),
            ports.peers.begin((raft, backend.clone()))?,
            ports.clients.begin((clients, backend.clone()))?,
        ];
        if let Some(port) = ports.monitoring {
            threads.push(port.begin(backend.clone())?);
        }
        announce::serving(&config, backend.identity);
        Ok(Self {
            backend,
            log,
            stop,
            closing,
            threads,
            config,
            is_ready: Cell::new(false),
        })
    }

    /// Says the member's name and client URLs to the cluster, until the cluster has taken note.
    async fn publish(&self) {
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
        self.is_ready.set(true);
        announce::ready(&self.config);
        self.feed_watchdog();
        if self.config.auto_promote {
            self.ask_for_a_vote().await;
        }
    }

    /// Tells a service manager that watches this process that it is not stuck, as long as consensus answers.
    fn feed_watchdog(&self) {
        let Some(interval) = env::watchdog_interval() else {
            return;
        };
        let handle = self.backend.handle.clone();
        env::spawn_local(async move {
            while handle.details().await.is_some() {
                env::tell_service_manager(ServiceState::Alive);
                env::sleep(interval / 2).await;
            }
        });
    }

    /// A learner becomes a voter once it has caught up; its leader knows when that is.
    async fn ask_for_a_vote(&self) {
        let member = self.backend.identity.member;
        while self.backend.views.load().is_learner(member) {
            let change = MemberChange {
                change: Some(Change::Promote(member.0)),
                strict: self.config.strict_reconfig_check,
                ..MemberChange::default()
            };
            match self
                .backend
                .handle
                .propose_own(Request::MemberChange(change))
                .await
            {
                Ok(_) => {
                    tracing::info!(local_member_id = %member, "promoted by --auto-promote");
                }
                Err(error) => {
                    tracing::info!(%error, "this learner is not promoted yet");
                    env::sleep(PROMOTE_RETRY_AFTER).await;
                }
            }
        }
    }

    /// The member's way in for those who run in the same process.
    pub fn backend(&self) -> &MemberBackend {
        &self.backend
    }

    /// The replicated log as it is on disk, for those who compare members.
    pub fn log(&self) -> &LogDatabase {
        &self.log
    }

    /// Hands leadership over, lets requests under way end, and stops every thread. A member that cannot go on does not wait
    /// for requests that nobody can answer any more: then the error is the reason.
    async fn stop(self) -> Result<(), String> {
        announce::closing(&self.config);
        let orderly = async {
            hand_over_leadership(&self.backend).await;
            self.closing.close().await;
        };
        let stopped = env::first(self.stop.stopped(), orderly, std::future::pending::<()>()).await;
        if let env::First::One(Reason::Failed(reason)) = stopped {
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
    backend.handle.hand_over_leadership(Successor::Furthest);
    let deadline = env::now() + HAND_OVER_TIMEOUT;
    while leads() && env::now() < deadline {
        env::sleep(Duration::from_millis(10)).await;
    }
}
