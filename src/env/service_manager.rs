//! Notifications to the service manager that has started this process (systemd: sd_notify(3)). In the simulator there is none.

#![allow(clippy::disallowed_methods)] // this is the seam

use sd_notify::NotifyState;
use std::time::Duration;

/// The state of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceState {
    /// It serves requests.
    Ready,
    /// It has begun to stop.
    Stopping,
    /// It is not stuck.
    Alive,
}

/// Notifies the service manager, if it expects notifications.
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

/// The watchdog's timeout, within which the process must report that it is not stuck; none if there is no watchdog (systemd:
/// WatchdogSec=).
pub fn watchdog_interval() -> Option<Duration> {
    if cfg!(madsim) {
        return None;
    }
    sd_notify::watchdog_enabled()
}
