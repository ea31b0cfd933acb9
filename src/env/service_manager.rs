//! What a service manager is told that has started this process and waits to hear from it (systemd: sd_notify(3)). In the simulator
//! nobody waits.

#![allow(clippy::disallowed_methods)] // this is the seam

use sd_notify::NotifyState;
use std::time::Duration;

/// What the process is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceState {
    /// It serves.
    Ready,
    /// It begins to end.
    Stopping,
    /// It is not stuck.
    Alive,
}

/// Tells the service manager, if one waits to hear it.
pub fn tell_service_manager(state: ServiceState) {
    if cfg!(madsim) {
        return;
    }
    let state = match state {
        ServiceState::Ready => NotifyState::Ready,
        ServiceState::Stopping => NotifyState::Stopping,
        ServiceState::Alive => NotifyState::Watchdog,
    };
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "failed to notify systemd");
    }
}

/// Within what time it must hear that the process is not stuck; nothing if it does not want to (systemd: WatchdogSec=).
pub fn watchdog_interval() -> Option<Duration> {
    if cfg!(madsim) {
        return None;
    }
    sd_notify::watchdog_enabled()
}
