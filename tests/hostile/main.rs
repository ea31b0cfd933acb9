//! Members under clients that mean harm or are broken, bounded in time and count. While one client attacks, a bystander puts and gets
//! on a connection of its own to the same member: its 99th percentile stays below half a second, nobody is elected, the
//! member's memory stays within what the case states, and the member lives.
#![cfg(not(madsim))]
#![allow(clippy::disallowed_methods)] // the tests live in the real world

mod bodies;
mod bystander;
mod connections;
mod floods;
mod handshakes;
mod heavy;
mod requests;
mod scene;
#[path = "../support/mod.rs"]
mod support;
mod waiting;
mod wire;

use std::time::Duration;

/// What the bystander waits at most, but for one request in a hundred.
const P99_MAX: Duration = Duration::from_millis(500);

/// One attack lasts at least as long, so that percentiles mean something.
const ATTACK_MIN: Duration = Duration::from_secs(3);

/// And at most: whatever the server does, a test comes to its end.
const ATTACK_MAX: Duration = Duration::from_secs(20);

const MB: u64 = 1 << 20;
