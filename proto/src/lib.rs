//! Wire messages, compiled from the .proto files beside this crate.
//!
//! `etcdserverpb`, `mvccpb`, `authpb`, `v3lockpb` and `v3electionpb` carry etcd's names and field numbers,
//! `health` those of gRPC's health checks.
//! `peer` is what Callboard's members send each other, `log` what the entries of their log hold.
//! Payload fields are `Bytes`, so that a value travels from the socket to the disk without a copy.

macro_rules! packages {
    ($($module:ident = $package:literal),* $(,)?) => {$(
        #[allow(clippy::all, clippy::pedantic)]
        pub mod $module {
            tonic::include_proto!($package);
        }
    )*};
}

packages! {
    authpb = "authpb",
    etcdserverpb = "etcdserverpb",
    health = "grpc.health.v1",
    mvccpb = "mvccpb",
    v3electionpb = "v3electionpb",
    v3lockpb = "v3lockpb",
}

/// The descriptors of all of these, as an encoded `google.protobuf.FileDescriptorSet`.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Callboard's own messages.
pub mod callboard {
    packages! {
        log = "callboard.log",
        peer = "callboard.peer",
    }
}

pub use callboard::{log, peer};
