//! Callboard: an etcd-compatible store made of actors.
//!
//! The folders are the architecture, in layers (`docs/architecture.md`). A write travels `api` -> `requests` -> `consensus` ->
//! `storage::log` and `peer` -> `apply` -> `state` -> `storage::state`; a read travels `api` -> `requests` -> `consensus` (read
//! index) -> `apply` -> `state::mvcc`. Nothing outside [`env`] touches clocks, threads, sockets, files or randomness, so that
//! the very same code runs on real sockets and inside
//! the deterministic simulator.

pub mod api;
pub mod apply;
pub mod backup;
pub mod bench;
pub mod bootstrap;
pub mod bound;
pub mod client;
pub mod cluster;
pub mod compactor;
pub mod config;
pub mod consensus;
pub mod corruption;
pub mod discovery;
pub mod env;
pub mod etcd_errors;
pub mod ids;
pub mod inbox;
pub mod lease;
pub mod limits;
pub mod logging;
pub mod metrics;
pub mod mutants;
pub mod node;
pub mod peer;
pub mod quota;
pub mod requests;
pub mod state;
pub mod stop;
pub mod storage;
pub mod tls;
pub mod version;
pub mod watch;

pub use callboard_proto as proto;
