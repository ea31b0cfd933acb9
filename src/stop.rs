//! How a member comes to its end: any part of it may say why it cannot go on, or that it was removed from the cluster; the node
//! hears it and stops the rest. A part that failed must not acknowledge anything afterwards.

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
    /// It cannot go on.
    Failed(String),
    /// It is no member any more.
    Removed,
}

#[derive(Debug, Default)]
struct StopState {
    reason: Mutex<Option<Reason>>,
    heard: Notify,
}

impl StopSignal {
    /// Stops the member; the first reason is the one that is reported.
    pub fn fail(&self, reason: &dyn Display) {
        tracing::error!(error = %reason, "this member cannot go on");
        self.stop(Reason::Failed(reason.to_string()));
    }

    /// Stops the member, which is none any more.
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
