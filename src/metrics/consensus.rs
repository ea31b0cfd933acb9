//! Events of raft that its status does not show. etcd: server/etcdserver/metrics.go.

use super::register::Register;
use prometheus::{IntCounter, IntGauge};

/// Counters of the consensus actor and of the requests that wait for it.
#[derive(Debug)]
pub struct ConsensusMetrics {
    pub leader_changes: IntCounter,
    pub late_heartbeats: IntCounter,
    pub failed_proposals: IntCounter,
    pub slow_reads: IntCounter,
    pub failed_reads: IntCounter,
    pub restoring: IntGauge,
}

impl ConsensusMetrics {
    pub(super) fn new(register: Register<'_>) -> Self {
        let counter = |name, help| register.counter(name, help);
        Self {
            leader_changes: counter(
                "etcd_server_leader_changes_seen_total",
                "How often this member has seen a new leader.",
            ),
            late_heartbeats: counter(
                "etcd_server_heartbeat_send_failures_total",
                "Heartbeats that this member, as leader, sent too late: it was too busy, or its disk too slow.",
            ),
            failed_proposals: counter(
                "etcd_server_proposals_failed_total",
                "Proposals of this member that did not come through in time.",
            ),
            slow_reads: counter(
                "etcd_server_slow_read_indexes_total",
                "Questions for a read index that were not answered in time and had to be asked again.",
            ),
            failed_reads: counter(
                "etcd_server_read_indexes_failed_total",
                "Read indexes that were given up.",
            ),
            restoring: register.gauge(
                "etcd_server_snapshot_apply_in_progress_total",
                "Whether a snapshot from the leader is being put in place. 1 if it is.",
            ),
        }
    }
}
