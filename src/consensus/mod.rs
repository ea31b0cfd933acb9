//! The replicated log: a pure core around raft-rs, the actor that drives it, and a thread that writes the log to disk.
//!
//! The rust-protobuf messages of raft-rs stay in this folder. Peers and disks get prost messages, which `convert` makes.

pub mod actor;
mod admission;
mod apply_lag;
pub mod checkpoint;
#[cfg(test)]
mod cluster_tests;
pub mod commands;
mod commit_news;
mod convert;
pub mod core;
#[cfg(test)]
mod election_tests;
pub mod inbox;
pub mod links;
mod log_fetches;
pub mod log_store;
#[cfg(test)]
mod log_store_tests;
mod member_changes;
#[cfg(test)]
mod member_tests;
#[cfg(test)]
mod message_tests;
pub mod neighbours;
pub mod options;
mod outputs;
pub mod promises;
mod proposals;
mod raft_log;
mod read_questions;
pub mod reads;
mod restoring;
#[cfg(test)]
mod snapshot_tests;
pub mod start_check;
pub mod stored_entries;
#[cfg(test)]
pub(crate) mod testing;
pub mod writer;

/// Raft's form of a configuration, for [`log_store::LogStore`].
pub fn conf_state(state: &crate::proto::peer::ConfState) -> raft::eraftpb::ConfState {
    convert::conf_state_from_wire(state)
}
