//! The door of a member that starts: nobody is served, and raft takes no part in anything, before it is open. Only the
//! services between members answer, so that members that start together can compare each other.

use crate::corruption::initial::InitialCheck;
use crate::mutants::{self, Mutant};
use crate::stop::StopSignal;
use tokio::sync::watch;

/// Tells whether the door is open. An error while waiting for it means that it stays closed.
pub type EntranceOpened = watch::Receiver<bool>;

/// Who opens it.
pub struct Entrance {
    check: Option<InitialCheck>,
    opened: watch::Sender<bool>,
    stop: StopSignal,
}

impl Entrance {
    /// Open from the first moment if there is nothing to check.
    pub fn new(check: Option<InitialCheck>, stop: StopSignal) -> Self {
        let (opened, _) = watch::channel(check.is_none());
        Self { check, opened, stop }
    }

    pub fn opened(&self) -> EntranceOpened {
        self.opened.subscribe()
    }

    /// Checks what there is to check; false, and the member stops, if it must stay closed.
    pub async fn open(&mut self) -> bool {
        if let Some(check) = &self.check
            && let Err(error) = check.run().await
            && !mutants::active(Mutant::InconsistentMemberStarts)
        {
            tracing::error!(%error, "checkInitialHashKV failed");
            self.stop.fail(&error);
            return false;
        }
        self.opened.send_replace(true);
        true
    }
}
