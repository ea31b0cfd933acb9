//! The thread of the log's disk.

use crate::consensus::neighbours::Neighbours;
use crate::consensus::writer::LogWriter;
use crate::env::{self, ThreadHandle};
use crate::storage::log::LogDatabase;
use std::sync::Arc;

pub(in crate::node) fn start(log: LogDatabase, neighbours: &Neighbours) -> ThreadHandle {
    let writer = LogWriter {
        log,
        inbox: Arc::clone(&neighbours.writer),
        consensus: Arc::clone(&neighbours.inbox),
        stop: neighbours.stop.clone(),
        failed: false,
    };
    env::run_actor("log", writer)
}
