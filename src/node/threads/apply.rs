//! The thread of the state machine.

use crate::apply::{Applier, SlowApplies};
use crate::consensus::neighbours::Neighbours;
use crate::env::{self, ThreadHandle};
use crate::state::Machine;
use crate::storage::directory::DataDirectory;
use std::sync::Arc;

pub(in crate::node) fn start(
    machine: Machine,
    directory: Arc<DataDirectory>,
    slow: SlowApplies,
    neighbours: &Neighbours,
) -> ThreadHandle {
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
        slow,
    };
    env::run_actor("apply", applier)
}
