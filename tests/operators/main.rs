//! What operators do, run as they write it: our binary under the name `etcd` on the PATH, Debian's `etcdctl`, certificates by cfssl,
//! files of variables as systemd reads them, and networks that fail under real sockets.
#![cfg(not(madsim))]
#![allow(clippy::disallowed_methods)] // the tests live in the real world

mod certificates;
mod container;
mod environment;
mod mistakes;
mod mutual_tls;
mod netns;
mod network;
mod plain;
mod replaced;
mod scene;
mod shadowed;
mod slow_cable;
#[path = "../support/mod.rs"]
mod support;
mod variables;
