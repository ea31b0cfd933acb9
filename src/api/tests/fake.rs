//! A member without consensus: proposals are applied immediately, to a real state in a scratch directory.

use crate::api::{Backend, HeaderIdentity, Limits, ProposeError, Queues, RaftStatus, ReadError};
use crate::ids::{ClusterId, LogIndex, MemberId, Term};
use crate::lease::LeaseHandle;
use crate::metrics::Metrics;
use crate::proto::log::command::Request;
use crate::proto::log::{self, Command, CommandBatch, Member};
use crate::proto::peer::ConfState;
use crate::quota::{Rules, Space};
use crate::requests::{Caller, RaftDetails, check_size};
use crate::state::Payload;
use crate::state::machine::{CommittedEntry, InitialState, Machine, MachineOptions, Outcome};
use crate::state::{View, Views};
use crate::storage::state::{StateDatabase, StateOptions};
use crate::watch::WatchHandle;
use prost::Message;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

const ORIGIN: u64 = 7;

#[derive(Clone)]
pub struct Fake {
    machine: Arc<Mutex<Machine>>,
    pub views: Views,
    pub watches: WatchHandle,
    pub queues: Queues,
    pub leases: LeaseHandle,
    pub space: Space,
    /// 0 for a member without a leader: its barriers and proposals fail.
    pub leader: Arc<AtomicU64>,
    pub limits: Limits,
    pub metrics: Arc<Metrics>,
    /// The callers of the proposals, in order.
    pub callers: Arc<Mutex<Vec<Option<Box<log::Caller>>>>>,
    _directory: Arc<tempfile::TempDir>,
}

impl Fake {
    pub fn new() -> Self {
        Self::starting(false)
    }

    /// A member that is a learner.
    pub fn learner() -> Self {
        Self::starting(true)
    }

    fn starting(is_learner: bool) -> Self {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let state = StateDatabase::open(directory.path(), &StateOptions::simulator()).expect("a state");
        let options = MachineOptions::default();
        let (mut machine, views) = Machine::open(state, ORIGIN, options).expect("a machine");
        let member = Member {
            id: 0xa,
            name: "m1".into(),
            peer_urls: vec!["http://127.0.0.1:2380".into()],
            client_urls: vec!["http://127.0.0.1:2379".into()],
            is_learner,
            ..Member::default()
        };
        let initial = InitialState {
            members: vec![member],
            conf_state: ConfState {
                voters: vec![if is_learner { 0xb } else { 0xa }],
                learners: if is_learner { vec![0xa] } else { vec![] },
                ..ConfState::default()
            },
            cluster_version: "3.7.0".into(),
            ..InitialState::default()
        };
        machine.initialize(initial).expect("an empty directory");
        let watches = WatchHandle::default();
        machine.observe(Box::new(watches.clone()));
        let metrics = Arc::new(Metrics::default());
        machine.set_metrics(Arc::clone(&metrics.store));
        Self {
            machine: Arc::new(Mutex::new(machine)),
            views,
            watches,
            queues: Queues::default(),
            leases: LeaseHandle::new(std::time::Duration::from_secs(1)),
            space: Space::new(Rules {
                quota_bytes: 0,
                free_disk_bytes: -1,
            }),
            leader: Arc::new(AtomicU64::new(0xa)),
            limits: Limits {
                strict_member_changes: true,
                learners_max: 1,
                max_request_bytes: 64 * 1024,
                max_txn_ops: 8,
                lease_ttl_min: 2,
            },
            metrics,
            callers: Arc::default(),
            _directory: Arc::new(directory),
        }
    }

    fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().expect("no test panics here")
    }

    fn has_leader(&self) -> bool {
        self.leader.load(Ordering::Relaxed) != 0
    }
}

impl Backend for Fake {
    fn view(&self) -> Arc<View> {
        self.views.load()
    }

    async fn propose(&self, caller: &Caller, request: Request) -> Result<Outcome, ProposeError> {
        if !self.has_leader() {
            return Err(ProposeError::Timeout);
        }
        check_size(&request, self.limits.max_request_bytes)?;
        let mut machine = self.machine();
        let index = machine.applied_index().get() + 1;
        let command = Command {
            origin: ORIGIN,
            id: index,
            caller: caller.to_wire(),
            request: Some(request),
        };
        self.callers
            .lock()
            .expect("no test panics here")
            .push(command.caller.clone());
        let batch = CommandBatch {
            commands: vec![command],
        };
        let is_member_change = matches!(batch.commands[0].request, Some(Request::MemberChange(_)));
        let data = batch.encode_to_vec().into();
        let entry = CommittedEntry {
            index: LogIndex(index),
            term: Term(2),
            payload: if is_member_change {
                Payload::Configuration(data)
            } else {
                Payload::Commands(data)
            },
        };
        let mut replies = machine.apply(&[entry]).expect("the state is sound");
        Ok(replies.pop().expect("one command, one reply").outcome?)
    }

    async fn read_barrier(&self) -> Result<(), ReadError> {
        if self.has_leader() {
            Ok(())
        } else {
            Err(ReadError::Timeout)
        }
    }

    fn hand_over_leadership(&self, to: MemberId) {
        self.leader.store(to.get(), Ordering::Relaxed);
    }

    fn identity(&self) -> HeaderIdentity {
        HeaderIdentity {
            cluster_id: ClusterId(0xc),
            member_id: MemberId(0xa),
        }
    }

    fn raft_status(&self) -> RaftStatus {
        let applied_index = LogIndex(self.view().applied.index);
        RaftStatus {
            takes_part: true,
            leader: MemberId(self.leader.load(Ordering::Relaxed)),
            term: Term(2),
            commit_index: applied_index,
            last_index: applied_index,
            applied_index,
        }
    }

    fn watches(&self) -> &WatchHandle {
        &self.watches
    }

    fn queues(&self) -> &Queues {
        &self.queues
    }

    fn leases(&self) -> &LeaseHandle {
        &self.leases
    }

    fn space(&self) -> &Space {
        &self.space
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    fn proposals_pending(&self) -> usize {
        0
    }

    async fn raft_details(&self) -> Option<RaftDetails> {
        Some(RaftDetails {
            vote: MemberId(0xa),
            role: "StateLeader",
            ..RaftDetails::default()
        })
    }
}
