//! The actors that consensus works with, by their inboxes.

use super::inbox::Incoming;
use super::writer::LogWork;
use crate::apply::ApplyWork;
use crate::inbox::Inbox;
use crate::requests::{Deliveries, SharedStatus, Waiters};
use crate::stop::StopSignal;
use crate::storage::checkpoint_work::CheckpointWork;
use std::sync::Arc;

/// Who works with the consensus actor, on other threads.
#[derive(Clone, Debug)]
pub struct Neighbours {
    pub inbox: Arc<Inbox<Incoming>>,
    pub writer: Arc<Inbox<Vec<LogWork>>>,
    pub applier: Arc<Inbox<Vec<ApplyWork>>>,
    pub checkpointer: Arc<Inbox<CheckpointWork>>,
    pub waiters: Arc<Waiters>,
    pub deliveries: Arc<Deliveries>,
    pub status: Arc<SharedStatus>,
    pub stop: StopSignal,
}

impl Neighbours {
    /// Nobody works yet; what is added waits for its actor to start.
    pub fn new(stop: StopSignal) -> Self {
        Self {
            inbox: Arc::default(),
            writer: Arc::default(),
            applier: Arc::default(),
            checkpointer: Arc::default(),
            waiters: Arc::default(),
            deliveries: Arc::default(),
            status: Arc::default(),
            stop,
        }
    }
}
