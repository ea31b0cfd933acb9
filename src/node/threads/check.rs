//! The thread that compares this member's data with the others', and reads it back from disk.

use crate::config;
use crate::corruption::HashHandle;
use crate::corruption::actor::Checker;
use crate::env::{self, ThreadHandle};
use crate::node::backend::MemberBackend;
use crate::storage::log::LogDatabase;

pub(in crate::node) fn start(
    hashes: HashHandle,
    log: LogDatabase,
    backend: &MemberBackend,
    config: &config::Server,
) -> ThreadHandle {
    let checker = Checker {
        own: backend.identity,
        hashes,
        caller: backend.caller.clone(),
        consensus: backend.handle.clone(),
        log,
        options: config.checks,
    };
    env::run_actor_in_background("check", checker)
}
