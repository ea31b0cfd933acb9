//! The API for clients: etcd's gRPC services, their JSON form and the plain HTTP paths, on one port.
//!
//! A request is one task from the first byte to the last. That task decodes it, checks it as etcd's server/etcdserver/api/v3rpc
//! does, proposes or reads, and replies. Consensus and the state are behind [`Backend`]. Authentication with users is not
//! implemented yet.

mod auth;
mod authority;
pub mod backend;
pub mod body;
#[doc(hidden)] // public for the fuzzer
pub mod bounds;
#[doc(hidden)] // public for the fuzzer
pub mod check;
mod cluster;
mod compression;
mod connection;
mod cors;
mod counted;
mod downgrade;
mod election;
mod grpc;
mod health;
mod hosts;
mod http;
#[doc(hidden)] // public for the fuzzer
pub mod json;
mod kv;
mod large_work;
mod lease;
mod lock;
mod maintenance;
mod monitoring;
mod pass_writes;
mod peer_port;
mod places;
mod ports;
mod proposal;
mod queue;
mod range_stream;
pub mod routes;
pub mod server;
mod slow;
mod snapshot;
pub mod status;
mod turns;
mod unread;
mod watch;
mod wire_settings;

pub use backend::{Backend, Caller, HeaderIdentity, Limits, ProposeError, Queues, RaftStatus, ReadError};
pub use body::Body;
pub use cors::Cors;
pub use hosts::Hosts;
pub use places::Places;
pub use routes::{Routes, Traffic};
pub use server::{ServeOptions, serve};
pub use status::EtcdError;

#[cfg(test)]
mod tests;
