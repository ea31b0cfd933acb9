//! The actors on other threads that consensus works with.

use super::inbox::Incoming;
use super::writer::LogWork;
use crate::apply::ApplyWork;
use crate::inbox::Inbox;
use crate::requests::{Deliveries, SharedStatus, Waiters};
use crate::stop::StopSignal;
use crate::storage::checkpoint_work::CheckpointWork;
use std::sync::Arc;

/// The inboxes of these actors, and the state shared with them.
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
    /// Without the actors: work that is added waits until its actor starts.
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
