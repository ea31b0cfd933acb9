//! Disk space on real processes: that it comes back after deletions and compactions, and what a full disk does.
//!
//! `cargo test --test disk` takes three rounds of little data. Everything, beside a reference:
//!
//! ```sh
//! CALLBOARD_DISK_ROUNDS=20 CALLBOARD_DISK_MB=300 cargo test --release --test disk rounds -- --nocapture
//! CALLBOARD_BIN=/usr/bin/etcd CALLBOARD_DISK_ROUNDS=20 CALLBOARD_DISK_MB=300 cargo test --release --test disk rounds -- --nocapture
//! ```
//!
//! With `CALLBOARD_DISK_SETTLE_S=60` each round also tells what is used a minute after its compaction.
//!
//! Full disks are small tmpfs file systems. Where the machine forbids mounting, these tests say so and pass.
#![cfg(not(madsim))]
#![allow(clippy::disallowed_methods)] // the tests live in the real world

#[path = "../support/mod.rs"]
mod support;

mod full;
mod rounds;

use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use callboard::proto::etcdserverpb as pb;
use futures_util::future::join_all;
use support::etcdctl::stdout;
use support::kv_client::{Client, Outcome, ask, block_on};

const REQUEST_LIMIT: Duration = Duration::from_secs(20);

/// Blocks that the files in a directory take.
pub fn used_bytes(directory: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return 0;
    };
    let used = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => used_bytes(&entry.path()),
        Ok(metadata) => metadata.blocks() * 512,
        // It has gone meanwhile.
        Err(_) => 0,
    };
    entries.flatten().map(used).sum()
}

pub fn status(member: SocketAddr) -> pb::StatusResponse {
    let status = ask(member, REQUEST_LIMIT, async |client| client.status().await);
    status.acked().expect("a status")
}

/// Deletes everything and compacts all of the past.
pub fn delete_all(member: SocketAddr) {
    stdout(member, &["del", "", "--prefix"]);
    compact(member);
}

pub fn compact(member: SocketAddr) {
    let revision = status(member).header.expect("a header").revision.to_string();
    stdout(member, &["compaction", &revision]);
}

/// What became of puts.
#[derive(Debug, Default)]
pub struct Puts {
    pub acked: usize,
    pub refused: usize,
    pub others: Vec<String>,
}

/// Puts keys of a round, through writers that write one after the other, until all are put or `refusals` were refused.
pub fn put_many(
    members: &[SocketAddr],
    round: usize,
    keys: usize,
    value_bytes: usize,
    refusals: usize,
) -> Puts {
    const WRITERS: usize = 8;
    let write = async |writer: usize| {
        let client = Client::new(
            &members[writer % members.len()..=writer % members.len()],
            REQUEST_LIMIT,
        );
        let mut puts = Puts::default();
        for number in (writer..keys).step_by(WRITERS) {
            if puts.refused >= refusals {
                break;
            }
            let key = format!("round {round:03} key {number:07}");
            // Nothing that could be packed.
            let mut value = vec![0; value_bytes];
            let mut state = (round * keys + number) as u64;
            for byte in &mut value {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                *byte = (state >> 56) as u8;
            }
            match client.put(key.as_bytes(), &value).await {
                Outcome::Acked(_) => puts.acked += 1,
                Outcome::Failed(text) | Outcome::Unknown(text)
                    if text.contains("database space exceeded") =>
                {
                    puts.refused += 1;
                }
                Outcome::Failed(text) | Outcome::Unknown(text) => puts.others.push(text),
            }
        }
        puts
    };
    let all = block_on(join_all((0..WRITERS).map(write)));
    all.into_iter().fold(Puts::default(), |mut sum, puts| {
        sum.acked += puts.acked;
        sum.refused += puts.refused;
        sum.others.extend(puts.others);
        sum
    })
}
