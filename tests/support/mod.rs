//! What the tests on real sockets and processes share: members as child processes, their logs, ports, plain HTTP
//! and a small gRPC client.
//!
//! Nothing here knows Callboard's insides: a member is a program that takes etcd's flags. That program is the
//! `callboard` just built, or what `CALLBOARD_BIN` names (Debian's etcd there tells a fault of a test from a fault of
//! the server). The references are `/usr/bin/etcd` and `/usr/bin/etcdctl` from Debian, or what `ETCD_BIN` and
//! `ETCDCTL_BIN` name; `tests/setup` installs them.

// Every test program compiles this module for itself and uses a part of it.
#![allow(dead_code)]

pub mod authority;
pub mod cluster;
pub mod etcdctl;
pub mod http;
pub mod kv_client;
pub mod name_server;
pub mod poll;
pub mod ports;
pub mod process;
pub mod slow_way;

use std::path::{Path, PathBuf};

/// The server under test.
pub fn callboard_bin() -> PathBuf {
    named_by("CALLBOARD_BIN").unwrap_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_callboard")))
}

/// The etcd whose answers count as right.
pub fn etcd_bin() -> PathBuf {
    installed(named_by("ETCD_BIN").unwrap_or_else(|| PathBuf::from("/usr/bin/etcd")))
}

/// The etcdctl that talks to both.
pub fn etcdctl_bin() -> PathBuf {
    installed(named_by("ETCDCTL_BIN").unwrap_or_else(|| PathBuf::from("/usr/bin/etcdctl")))
}

fn named_by(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}

/// A file that `tests/setup` puts there.
pub fn installed(path: PathBuf) -> PathBuf {
    assert!(
        Path::new(&path).exists(),
        "{} is missing: run tests/setup first",
        path.display()
    );
    path
}
