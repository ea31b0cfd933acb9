//! Health checks of the member. etcd: server/etcdserver/api/etcdhttp/health.go.

use super::register::Register;
use prometheus::{IntCounter, IntCounterVec, IntGaugeVec};

/// Counters of `/health`, `/livez` and `/readyz`.
#[derive(Debug)]
pub struct HealthMetrics {
    pub successes: IntCounter,
    pub failures: IntCounter,
    last: IntGaugeVec,
    checks: IntCounterVec,
}

impl HealthMetrics {
    pub(super) fn new(register: Register<'_>) -> Self {
        Self {
            successes: register.counter("etcd_server_health_success", "Healthy answers of /health."),
            failures: register.counter("etcd_server_health_failures", "Unhealthy answers of /health."),
            last: register.gauges(
                "etcd_server_healthcheck",
                "What each check of /livez and /readyz found last. 1 if all was well.",
                &["name", "type"],
            ),
            checks: register.counters(
                "etcd_server_healthchecks_total",
                "Checks of /livez and /readyz.",
                &["name", "status", "type"],
            ),
        }
    }

    /// Counts a check for `livez` or `readyz`.
    pub fn checked(&self, name: &str, kind: &str, healthy: bool) {
        self.last.with_label_values(&[name, kind]).set(i64::from(healthy));
        let status = if healthy { "success" } else { "error" };
        self.checks.with_label_values(&[name, status, kind]).inc();
    }
}
