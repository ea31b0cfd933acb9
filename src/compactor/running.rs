//! Waits between checks, and proposes the compactions that are due.

use super::core::{Compactor, Retention};
use crate::env;
use crate::proto::etcdserverpb::CompactionRequest;
use crate::proto::log::command::Request;
use crate::requests::{Handle, ProposeError};
use crate::state::ApplyError;
use crate::state::Views;
use std::sync::atomic::Ordering;

#[derive(Debug)]
pub struct CompactorOptions {
    pub retention: Retention,
    pub views: Views,
    pub consensus: Handle,
}

/// Compacts as long as the member runs.
pub async fn run(parts: CompactorOptions) {
    let begin = env::now();
    let mut compactor = Compactor::new(parts.retention);
    loop {
        compactor.note(parts.views.load().revision());
        env::sleep(compactor.interval()).await;
        if !parts.consensus.status.is_leader.load(Ordering::Acquire) {
            continue;
        }
        let newest = parts.views.load().revision();
        let Some(revision) = compactor.due(env::now() - begin, newest) else {
            continue;
        };
        tracing::info!(revision, retention = ?parts.retention, "starting auto compaction");
        let request = CompactionRequest {
            revision,
            physical: false,
        };
        let outcome = parts.consensus.propose_own(Request::Compaction(request)).await;
        let done = matches!(outcome, Ok(_) | Err(ProposeError::Apply(ApplyError::Compacted)));
        compactor.tried(revision, done, env::now() - begin);
        match outcome {
            Err(error) if !done => tracing::warn!(revision, %error, "failed auto compaction"),
            _ => tracing::info!(revision, "completed auto compaction"),
        }
    }
}
