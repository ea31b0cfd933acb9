//! One member as an operator meets it: flags, ports, data directories, plain HTTP, and errors on the wire.
//!
//! What must be as etcd's passes with etcd in the place of Callboard too (`CALLBOARD_BIN=/path/to/etcd`), except where
//! a test says that Callboard promises more.
#![cfg(not(madsim))]
#![allow(clippy::disallowed_methods)] // the tests live in the real world

mod corruption;
mod data_dir;
mod discovery;
mod divergence;
mod errors;
mod flags;
mod health;
mod logs;
mod membership;
mod metrics;
mod older_disk;
mod outage;
mod ports;
mod refusals;
mod replacement;
mod scale;
mod service;
mod slow_links;
#[path = "../support/mod.rs"]
mod support;
mod survivor;

use std::time::Duration;

use support::cluster::Member;
use support::kv_client::ask;
use support::process::{self, Finished};

/// A member that cannot start must say so within this time.
const EXIT_LIMIT: Duration = Duration::from_secs(20);

const REQUEST_LIMIT: Duration = Duration::from_secs(5);

/// Runs a member's program and arguments to their end, which is expected to come soon.
fn run_to_exit(member: &Member) -> Finished {
    let mut command = process::command(&member.program);
    command.args(&member.arguments);
    process::run(command, b"", EXIT_LIMIT).unwrap_or_else(|complaint| panic!("{complaint}"))
}

/// Fails unless the program refused to start: a code that is not zero, no panic, and a message with one of `words`.
fn assert_refused(finished: &Finished, words: &[&str]) {
    let text = finished.text();
    assert_ne!(finished.code, 0, "it ended as if all was well:\n{text}");
    assert!(!shows_panic(&text), "it panicked:\n{text}");
    let lower = text.to_lowercase();
    assert!(
        words.iter().any(|word| lower.contains(word)),
        "no message with one of {words:?}:\n{text}"
    );
}

/// What Rust and Go print when a program gives up in a way nobody planned.
fn shows_panic(text: &str) -> bool {
    [
        "panicked at",
        "stack backtrace",
        "RUST_BACKTRACE",
        "goroutine 1 [",
    ]
    .iter()
    .any(|mark| text.contains(mark))
}

fn put(member: &Member, key: &str, value: &str) {
    let put = ask(member.client, REQUEST_LIMIT, async |client| {
        client.put(key.as_bytes(), value.as_bytes()).await
    });
    put.acked().expect("an acknowledged put");
}

fn get(member: &Member, key: &str) -> Option<String> {
    let get = ask(member.client, REQUEST_LIMIT, async |client| {
        client.get(key.as_bytes()).await
    });
    let pair = get.acked().expect("an answered get");
    pair.map(|pair| String::from_utf8_lossy(&pair.value).into_owned())
}

fn cluster_id(member: &Member) -> u64 {
    let status = ask(member.client, REQUEST_LIMIT, async |client| client.status().await);
    status
        .acked()
        .expect("a status")
        .header
        .expect("a header")
        .cluster_id
}
