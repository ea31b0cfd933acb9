//! Watchers and their events. etcd: server/storage/mvcc/metrics.go.

use super::register::Register;
use prometheus::{IntCounter, IntGauge};

/// Counters of the watch hub and of its streams.
#[derive(Debug)]
pub struct WatchMetrics {
    pub streams: IntGauge,
    pub watchers: IntGauge,
    /// Watchers that are behind.
    pub slow_watchers: IntGauge,
    pub events: IntCounter,
    /// Events in outboxes.
    pub pending_events: IntGauge,
}

impl WatchMetrics {
    pub(super) fn new(register: Register<'_>) -> Self {
        Self {
            streams: register.gauge("etcd_debugging_mvcc_watch_stream_total", "Watch streams."),
            watchers: register.gauge("etcd_debugging_mvcc_watcher_total", "Watchers."),
            slow_watchers: register.gauge(
                "etcd_debugging_mvcc_slow_watcher_total",
                "Watchers that have not been sent everything yet.",
            ),
            events: register.counter(
                "etcd_debugging_mvcc_events_total",
                "Events sent to watchers by this member.",
            ),
            pending_events: register.gauge(
                "etcd_debugging_mvcc_pending_events_total",
                "Events that wait for their stream to take them.",
            ),
        }
    }
}

impl Default for WatchMetrics {
    /// In a registry that is not shown.
    fn default() -> Self {
        Self::new(Register(&prometheus::Registry::new()))
    }
}
