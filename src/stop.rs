//! How a member comes to its end: any part of it may say why it cannot go on, the node hears it and stops the rest.
//! A part that failed must not acknowledge anything afterwards.

use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;

/// Shared by all parts of a member. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct StopSignal {
    inner: Arc<StopState>,
}

#[derive(Debug, Default)]
struct StopState {
    reason: Mutex<Option<String>>,
    heard: Notify,
}

impl StopSignal {
    /// Stops the member; the first reason is the one that is reported.
    pub fn fail(&self, reason: &dyn Display) {
        tracing::error!(error = %reason, "this member cannot go on");
        let mut kept = self.inner.reason.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get_or_insert_with(|| reason.to_string());
        self.inner.heard.notify_one();
    }

    /// Waits for the first failure.
    pub async fn failed(&self) -> String {
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
