//! Callers that have gone before their turn, and the task that deletes their keys: a client that goes away while it waits
//! leaves nothing behind, and when thousands go at once their deletions do not displace anybody else's writes.
//!
//! The task runs as long as anybody has a place that is not settled, so that a place can be given up where no task can be
//! started: while its connection is taken down.

use super::leave;
use crate::api::backend::Backend;
use crate::api::status::{CallError, EtcdError};
use crate::env;
use crate::limits::{LEAVES_IN_FLIGHT, PLACES_MAX};
use crate::requests::Caller;
use bytes::Bytes;
use futures_util::future::join_all;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// Before another attempt to delete what could not be deleted.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// See the head of the file.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    state: Mutex<LeavingState>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct LeavingState {
    /// Places that are not settled: their callers wait, or their keys are to be deleted.
    places: usize,
    gone: VecDeque<Abandoned>,
    is_running: bool,
}

/// A key to delete on behalf of its caller.
#[derive(Debug)]
struct Abandoned {
    caller: Caller,
    key: Bytes,
    create_revision: i64,
}

/// Counts a place until it is settled.
#[derive(Debug)]
pub(super) struct PlacePermit {
    leaving: Arc<Leaving>,
    caller: Caller,
    /// To be deleted when this is dropped, and the revision that created it.
    key: Option<(Bytes, i64)>,
}

impl Leaving {
    /// Room for one more place. Has the task run.
    pub fn admit<B: Backend>(
        self: &Arc<Self>,
        backend: &B,
        caller: &Caller,
    ) -> Result<PlacePermit, CallError> {
        let mut state = self.state();
        if state.places >= PLACES_MAX {
            return Err(EtcdError::TooManyRequests.into());
        }
        state.places += 1;
        let runs = std::mem::replace(&mut state.is_running, true);
        drop(state);
        if !runs {
            env::spawn(run(backend.clone(), Arc::clone(self)));
        }
        Ok(PlacePermit {
            leaving: Arc::clone(self),
            caller: caller.clone(),
            key: None,
        })
    }

    /// The next keys to delete; none if there are no places any more, and the task ends.
    async fn next(&self) -> Option<Vec<Abandoned>> {
        loop {
            {
                let mut state = self.state();
                if !state.gone.is_empty() {
                    let count = state.gone.len().min(LEAVES_IN_FLIGHT);
                    return Some(state.gone.drain(..count).collect());
                }
                if state.places == 0 {
                    state.is_running = false;
                    return None;
                }
            }
            self.changed.notified().await;
        }
    }

    fn state(&self) -> MutexGuard<'_, LeavingState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub fn places(&self) -> usize {
        self.state().places
    }
}

impl PlacePermit {
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// This key is to be deleted if the place is dropped.
    pub fn guard(&mut self, key: Bytes, create_revision: i64) {
        self.key = Some((key, create_revision));
    }

    /// The key stays, or is deleted already.
    pub fn settle(mut self) {
        self.key = None;
    }
}

impl Drop for PlacePermit {
    fn drop(&mut self) {
        let mut state = self.leaving.state();
        match self.key.take() {
            Some((key, create_revision)) => state.gone.push_back(Abandoned {
                caller: std::mem::take(&mut self.caller),
                key,
                create_revision,
            }),
            None => state.places -= 1,
        }
        drop(state);
        self.leaving.changed.notify_one();
    }
}

async fn run(backend: impl Backend, leaving: Arc<Leaving>) {
    while let Some(batch) = leaving.next().await {
        let deletions = batch
            .iter()
            .map(|gone| leave(&backend, &gone.caller, &gone.key, gone.create_revision));
        let outcomes = join_all(deletions).await;
        let mut again = vec![];
        for (gone, outcome) in batch.into_iter().zip(outcomes) {
            match outcome {
                // Only a key that is still the same is deleted: twice does no harm.
                Err(CallError::Known(
                    EtcdError::TooManyRequests | EtcdError::Timeout | EtcdError::TimeoutLeaderFailure,
                )) => again.push(gone),
                Err(error) => {
                    // It goes with its lease.
                    tracing::debug!(%error, "cannot delete the key of a caller that has gone");
                    leaving.state().places -= 1;
                }
                Ok(()) => leaving.state().places -= 1,
            }
        }
        if !again.is_empty() {
            leaving.state().gone.extend(again);
            env::sleep(RETRY_AFTER).await;
        }
    }
}
