//! What a consensus actor is made of.

use super::checkpoint::Checkpoints;
use super::core::Core;
use super::links::MemberLinks;
use super::neighbours::Neighbours;
use super::reads::Reads;
use crate::env::TaskThread;
use crate::ids::MemberId;
use crate::metrics::ConsensusMetrics;
use crate::storage::contacts::Contacts;
use crate::storage::log::LogDatabase;
use std::sync::Arc;
use std::time::Duration;

/// See the head of the file.
pub struct ConsensusOptions {
    pub member: MemberId,
    /// Marks the commands that this process proposes.
    pub origin: u64,
    pub core: Core,
    pub neighbours: Neighbours,
    pub links: Box<dyn MemberLinks>,
    pub tick: Duration,
    pub election_timeout: Duration,
    pub reads: Reads,
    pub checkpoints: Checkpoints,
    pub log: LogDatabase,
    pub transfers: TaskThread,
    pub contacts: Contacts,
    pub metrics: Arc<ConsensusMetrics>,
}
