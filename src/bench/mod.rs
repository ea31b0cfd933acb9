//! `callboard bench`: puts load on any server with etcd's v3 API, and reports throughput, latency and errors.
//!
//! It shares its machine with the servers that it measures, so its own cost counts: one thread, requests copied from prepared
//! frames, HTTP/2 streams driven by the clients' own tasks, one timer per client. It sends each request once and counts every
//! failure; for retries and failover use [`crate::client`].

mod load;
mod options;
mod report;
mod run;
mod tally;
mod watch;
mod wire;

#[cfg(test)]
mod tests;

pub use options::{BenchOptions, Command};
pub use run::run;
