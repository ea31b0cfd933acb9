//! Clients of other languages, as their users have them from npm and PyPI, doing what programs usually do: keys,
//! transactions, watches, leases, locks, elections. `tests/setup` installs them beside their scripts.
//!
//! The scripts pass with etcd in the place of Callboard too (`CALLBOARD_BIN=/path/to/etcd`).
#![cfg(not(madsim))]
#![allow(clippy::disallowed_methods)] // the tests live in the real world

#[path = "../support/mod.rs"]
mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use support::cluster::Cluster;
use support::process;

/// A few seconds alone, most of them waiting for a short lease and for a lock to be refused.
const LIMIT: Duration = Duration::from_secs(90);

fn flows(language: &str, interpreter: impl FnOnce(&Path) -> PathBuf, script: &str) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/clients")
        .join(language);
    let cluster = Cluster::start(&support::callboard_bin(), 3);
    let mut command: Command = process::command(&interpreter(&directory));
    command.arg(directory.join(script)).arg(cluster.endpoints());
    let finished = process::run(command, b"", LIMIT);
    let finished = finished.unwrap_or_else(|complaint| panic!("{language}: {complaint}"));
    assert_eq!(finished.code, 0, "{language}:\n{}", finished.text());
}

#[test]
fn etcd3_of_npm() {
    let node = |directory: &Path| {
        support::installed(directory.join("node_modules/etcd3/package.json"));
        PathBuf::from("node")
    };
    flows("node", node, "flows.js");
}

#[test]
fn etcd3_of_python() {
    let python = |directory: &Path| support::installed(directory.join("venv/bin/python"));
    flows("python", python, "flows.py");
}
