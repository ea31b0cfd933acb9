//! The thread of slow work on the state's disk.

use crate::consensus::neighbours::Neighbours;
use crate::env::{self, ThreadHandle};
use crate::node::backend::MemberBackend;
use crate::node::checkpointer::{Checkpointer, Idle};
use crate::storage::log::LogDatabase;
use std::sync::Arc;

pub(in crate::node) fn start(
    log: LogDatabase,
    backend: &MemberBackend,
    neighbours: &Neighbours,
) -> ThreadHandle {
    let checkpointer = Checkpointer {
        log,
        views: backend.views.clone(),
        inbox: Arc::clone(&neighbours.checkpointer),
        consensus: Arc::clone(&neighbours.inbox),
        applier: Arc::clone(&neighbours.applier),
        stop: neighbours.stop.clone(),
        metrics: Arc::clone(&backend.metrics.store),
        idle: Idle::default(),
    };
    env::run_actor("checkpoint", checkpointer)
}
