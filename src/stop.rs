//! How a member stops: any part of it may report that it cannot continue, or that the member was removed from the cluster. The
//! node then stops the other parts. A part that failed must not acknowledge anything afterwards.

use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;

/// Shared by all parts of a member. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct StopSignal {
    inner: Arc<StopState>,
}

/// Why a member stops.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It cannot continue.
    Failed(String),
    /// It was removed from the cluster.
    Removed,
}

#[derive(Debug, Default)]
struct StopState {
    reason: Mutex<Option<Reason>>,
    heard: Notify,
}

impl StopSignal {
    /// Stops the member. The first reason is reported.
    pub fn fail(&self, reason: &dyn Display) {
        tracing::error!(error = %reason, "this member cannot go on");
        self.stop(Reason::Failed(reason.to_string()));
    }

    /// Stops the member after its removal from the cluster.
    pub fn leave(&self) {
        self.stop(Reason::Removed);
    }

    fn stop(&self, reason: Reason) {
        let mut kept = self.inner.reason.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get_or_insert(reason);
        self.inner.heard.notify_one();
    }

    /// Waits for the first reason.
    pub async fn stopped(&self) -> Reason {
        loop {
            let heard = self.inner.heard.notified();
            if let Some(reason) = self
                .inner
                .reason
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone()
            {
                return reason;
            }
            heard.await;
        }
    }
}
