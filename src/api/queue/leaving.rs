//! Callers that have left before their turn, and the task that deletes their keys. A client that disconnects while it waits
//! leaves no key behind, and when thousands disconnect at once their deletions do not crowd out other writes.
//!
//! The task runs as long as there is an unsettled place, so that a place can be given up where no task can be started: while its
//! connection is torn down.

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

/// The delay before another attempt to delete a key.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// See the head of the file.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    state: Mutex<LeavingState>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct LeavingState {
    /// Unsettled places: their callers wait, or their keys are to be deleted.
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
    /// The key to delete when this is dropped, and the revision that created it.
    key: Option<(Bytes, i64)>,
}

impl Leaving {
    /// Admits one more place, and starts the task if it does not run.
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

    /// The next keys to delete; none, which ends the task, if there are no places left.
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

    /// Deletes this key if the place is dropped.
    pub fn guard(&mut self, key: Bytes, create_revision: i64) {
        self.key = Some((key, create_revision));
    }

    /// Keeps the key, or records that it is already deleted.
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
                // A key is deleted only if it is still the same one, so a repeated attempt does no harm.
                Err(CallError::Known(
                    EtcdError::TooManyRequests | EtcdError::Timeout | EtcdError::TimeoutLeaderFailure,
                )) => again.push(gone),
                Err(error) => {
                    // The key will be deleted with its lease.
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
