//! Leases. etcd: server/lease/metrics.go. Changes through the log count on every member, everything else on the leader.

use super::register::Register;
use prometheus::{Histogram, IntCounter};

/// Counters of the lessor.
#[derive(Debug)]
pub struct LeaseMetrics {
    pub granted: IntCounter,
    pub revoked: IntCounter,
    pub renewed: IntCounter,
    pub expired: IntCounter,
    /// The TTLs of granted leases, in seconds.
    pub ttls: Histogram,
}

impl LeaseMetrics {
    pub(super) fn new(register: Register<'_>) -> Self {
        let counter = |name, help| register.counter(name, help);
        Self {
            granted: counter("etcd_debugging_lease_granted_total", "Leases granted."),
            revoked: counter(
                "etcd_debugging_lease_revoked_total",
                "Leases revoked, those that expired among them.",
            ),
            renewed: counter(
                "etcd_debugging_lease_renewed_total",
                "Times that this member, as leader, has kept a lease alive.",
            ),
            expired: counter(
                "etcd_debugging_server_lease_expired_total",
                "Leases that this member, as leader, has ended because their time was over.",
            ),
            ttls: register.histogram(
                "etcd_debugging_lease_ttl_total",
                "Times to live, in seconds, of leases granted.",
                (1.0, 2.0, 24),
            ),
        }
    }
}
