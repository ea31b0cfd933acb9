//! A running member as the API sees it.

use crate::api::{self, Backend, ProposeError, ReadError};
use crate::bootstrap::OpenedMember;
use crate::bound::Bound;
use crate::config;
use crate::consensus::neighbours::Neighbours;
use crate::ids::MemberId;
use crate::inbox::Inbox;
use crate::lease;
use crate::lease::LeaseHandle;
use crate::limits::READS_WAITING_MAX;
use crate::metrics::Metrics;
use crate::peer::caller::PeerCaller;
use crate::proto::log::command::Request;
use crate::quota::Space;
use crate::requests::{Caller, Handle, RaftDetails, Successor};
use crate::state::Outcome;
use crate::state::{View, Views};
use crate::storage::checkpoint_work::CheckpointWork;
use crate::storage::contacts::Contacts;
use crate::storage::directory::Identity;
use crate::tls::Connector;
use crate::watch::WatchHandle;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct MemberBackend {
    pub handle: Handle,
    pub views: Views,
    pub identity: Identity,
    pub checkpointer: Arc<Inbox<CheckpointWork>>,
    pub limits: api::Limits,
    pub watches: WatchHandle,
    pub queues: api::Queues,
    pub leases: LeaseHandle,
    pub metrics: Arc<Metrics>,
    pub space: Space,
    /// With what the other members were heard last.
    pub contacts: Contacts,
    /// For what this member asks others.
    pub caller: PeerCaller,
}

impl MemberBackend {
    /// Before anything behind it runs.
    pub(super) fn new(
        config: &config::Server,
        opened: &OpenedMember,
        neighbours: &Neighbours,
        contacts: Contacts,
        dialler: Option<Connector>,
    ) -> Self {
        let metrics = Arc::new(Metrics::new(config.extensive_metrics));
        let handle = Handle {
            sink: Arc::clone(&neighbours.inbox) as _,
            waiters: Arc::clone(&neighbours.waiters),
            deliveries: Arc::clone(&neighbours.deliveries),
            status: Arc::clone(&neighbours.status),
            origin: opened.origin,
            // etcd: ReqTimeout, 5 s for the disk and twice the election timeout.
            request_timeout: Duration::from_millis(5_000 + 2 * config.election_timeout_ms),
            request_bytes_max: config.max_request_bytes as usize,
            reads: Bound::new(READS_WAITING_MAX),
            metrics: Arc::clone(&metrics.consensus),
        };
        let advertised = config.initial_advertise_peer_urls.iter();
        let advertised = advertised.filter(|_| config.peer_urls_given);
        let advertised = advertised.map(ToString::to_string).collect();
        Self {
            leases: LeaseHandle::new(handle.request_timeout),
            handle,
            views: opened.views.clone(),
            identity: opened.identity,
            checkpointer: Arc::clone(&neighbours.checkpointer),
            limits: api::Limits {
                max_request_bytes: config.max_request_bytes as usize,
                max_txn_ops: config.max_txn_ops as usize,
                strict_member_changes: config.strict_reconfig_check,
                learners_max: config.max_learners,
                lease_ttl_min: lease::ttl_min(config.heartbeat_interval_ms, config.election_timeout_ms),
            },
            watches: WatchHandle::default(),
            queues: api::Queues::default(),
            metrics,
            space: Space::new(config.space),
            contacts,
            caller: PeerCaller::new(opened.identity, opened.views.clone(), advertised, dialler),
        }
    }
}

impl Backend for MemberBackend {
    fn view(&self) -> Arc<View> {
        self.views.load()
    }

    async fn propose(&self, caller: &Caller, request: Request) -> Result<Outcome, ProposeError> {
        let physical = matches!(&request, Request::Compaction(compaction) if compaction.physical);
        let outcome = self.handle.propose(caller, request).await?;
        if physical {
            let (done, reclaimed) = oneshot::channel();
            self.checkpointer.add(|work| work.reclaim.push(done));
            reclaimed.await.map_err(|_| ProposeError::Stopped)?;
        }
        Ok(outcome)
    }

    async fn read_barrier(&self) -> Result<(), ReadError> {
        self.handle.read_barrier().await
    }

    fn hand_over_leadership(&self, to: MemberId) {
        self.handle.hand_over_leadership(Successor::Member(to));
    }

    fn identity(&self) -> api::HeaderIdentity {
        api::HeaderIdentity {
            cluster_id: self.identity.cluster,
            member_id: self.identity.member,
        }
    }

    fn raft_status(&self) -> api::RaftStatus {
        self.handle.status()
    }

    fn watches(&self) -> &WatchHandle {
        &self.watches
    }

    fn queues(&self) -> &api::Queues {
        &self.queues
    }

    fn leases(&self) -> &LeaseHandle {
        &self.leases
    }

    fn space(&self) -> &Space {
        &self.space
    }

    fn limits(&self) -> api::Limits {
        self.limits
    }

    fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    fn proposals_pending(&self) -> usize {
        self.handle.proposals_pending()
    }

    async fn raft_details(&self) -> Option<RaftDetails> {
        self.handle.details().await
    }
}
