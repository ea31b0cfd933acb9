//! Compiles the .proto files with protox, so that no protoc is needed on the machine, and keeps their descriptors.

#![allow(clippy::disallowed_methods)] // builds happen in the real world

use prost::Message;
use std::error::Error;
use std::path::PathBuf;

const FILES: [&str; 12] = [
    "etcd/kv.proto",
    "etcd/watch.proto",
    "etcd/lease.proto",
    "etcd/cluster.proto",
    "etcd/maintenance.proto",
    "etcd/auth.proto",
    "etcd/authpb.proto",
    "etcd/lock.proto",
    "etcd/election.proto",
    "grpc/health.proto",
    "callboard/log.proto",
    "callboard/peer.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .bytes(".")
        // Most commands have none.
        .boxed("callboard.log.Command.caller")
        .build_transport(false)
        .compile_fds(descriptors)?;
    Ok(())
}
