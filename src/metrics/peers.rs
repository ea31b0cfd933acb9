//! Traffic to and from other members. etcd: server/etcdserver/api/rafthttp/metrics.go.

use super::register::Register;
use crate::ids::MemberId;
use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

/// The series of all members, from which those of one member are taken.
#[derive(Debug)]
pub struct PeerFamilies {
    active: IntGaugeVec,
    disconnected: IntCounterVec,
    sent_bytes: IntCounterVec,
    send_failures: IntCounterVec,
    round_trip_seconds: HistogramVec,
    snapshots_sent: IntCounterVec,
    snapshots_not_sent: IntCounterVec,
    sending: IntGaugeVec,
    send_seconds: HistogramVec,
    received_bytes: IntCounterVec,
    receive_failures: IntCounterVec,
    snapshots_received: IntCounterVec,
    snapshots_not_received: IntCounterVec,
    receiving: IntGaugeVec,
    receive_seconds: HistogramVec,
    pub snapshot_save_seconds: Histogram,
    pub snapshot_sync_seconds: Histogram,
}

/// Traffic to one member.
#[derive(Clone, Debug)]
pub struct SentMetrics {
    pub active: IntGauge,
    pub disconnected: IntCounter,
    pub bytes: IntCounter,
    pub failures: IntCounter,
    pub round_trip_seconds: Histogram,
    pub snapshots: IntCounter,
    pub failed_snapshots: IntCounter,
    pub snapshots_under_way: IntGauge,
    pub snapshot_seconds: Histogram,
}

/// Traffic from one member.
#[derive(Clone, Debug)]
pub struct ReceivedMetrics {
    pub bytes: IntCounter,
    pub failures: IntCounter,
    pub snapshots: IntCounter,
    pub failed_snapshots: IntCounter,
    pub snapshots_under_way: IntGauge,
    pub snapshot_seconds: Histogram,
}

/// Buckets for a snapshot transfer: 0.1 s to 51 s.
const SNAPSHOT: super::register::Buckets = (0.1, 2.0, 10);

impl PeerFamilies {
    pub(super) fn new(register: Register<'_>) -> Self {
        let to = |name, help| register.counters(name, help, &["To"]);
        let from = |name, help| register.counters(name, help, &["From"]);
        let pair = ["Local", "Remote"];
        Self {
            active: register.gauges("etcd_network_active_peers", "Connections to other members.", &pair),
            disconnected: register.counters(
                "etcd_network_disconnected_peers_total",
                "Connections to other members that were lost.",
                &pair,
            ),
            sent_bytes: to("etcd_network_peer_sent_bytes_total", "Bytes sent to a member."),
            send_failures: to(
                "etcd_network_peer_sent_failures_total",
                "Batches that could not be sent to a member.",
            ),
            round_trip_seconds: register.histograms(
                "etcd_network_peer_round_trip_time_seconds",
                "From a question to a member to its answer, over the connection that carries everything else.",
                (0.0001, 2.0, 16),
                &["To"],
            ),
            snapshots_sent: to("etcd_network_snapshot_send_success", "Snapshots sent."),
            snapshots_not_sent: to("etcd_network_snapshot_send_failures", "Snapshots that did not arrive."),
            sending: register.gauges(
                "etcd_network_snapshot_send_inflights_total",
                "Snapshots being sent.",
                &["To"],
            ),
            send_seconds: register.histograms(
                "etcd_network_snapshot_send_total_duration_seconds",
                "What sending a snapshot took.",
                SNAPSHOT,
                &["To"],
            ),
            received_bytes: from("etcd_network_peer_received_bytes_total", "Bytes received from a member."),
            receive_failures: from(
                "etcd_network_peer_received_failures_total",
                "Connections from a member that broke off or brought damaged bytes.",
            ),
            snapshots_received: from("etcd_network_snapshot_receive_success", "Snapshots received."),
            snapshots_not_received: from(
                "etcd_network_snapshot_receive_failures",
                "Snapshots that broke off on their way here.",
            ),
            receiving: register.gauges(
                "etcd_network_snapshot_receive_inflights_total",
                "Snapshots being received.",
                &["From"],
            ),
            receive_seconds: register.histograms(
                "etcd_network_snapshot_receive_total_duration_seconds",
                "What receiving a snapshot took.",
                SNAPSHOT,
                &["From"],
            ),
            snapshot_save_seconds: register.histogram(
                "etcd_snap_db_save_total_duration_seconds",
                "What a received snapshot took from its first byte to the last one on disk.",
                SNAPSHOT,
            ),
            snapshot_sync_seconds: register.histogram(
                "etcd_snap_db_fsync_duration_seconds",
                "What making a received snapshot durable took.",
                super::register::DISK,
            ),
        }
    }

    /// The series for traffic to `member`.
    pub fn to(&self, own: MemberId, member: MemberId) -> SentMetrics {
        let (own, member) = (own.to_string(), member.to_string());
        let (pair, to) = ([own.as_str(), member.as_str()], [member.as_str()]);
        SentMetrics {
            active: self.active.with_label_values(&pair),
            disconnected: self.disconnected.with_label_values(&pair),
            bytes: self.sent_bytes.with_label_values(&to),
            failures: self.send_failures.with_label_values(&to),
            round_trip_seconds: self.round_trip_seconds.with_label_values(&to),
            snapshots: self.snapshots_sent.with_label_values(&to),
            failed_snapshots: self.snapshots_not_sent.with_label_values(&to),
            snapshots_under_way: self.sending.with_label_values(&to),
            snapshot_seconds: self.send_seconds.with_label_values(&to),
        }
    }

    /// The series for traffic from `member`.
    pub fn from(&self, member: MemberId) -> ReceivedMetrics {
        let member = member.to_string();
        let from = [member.as_str()];
        ReceivedMetrics {
            bytes: self.received_bytes.with_label_values(&from),
            failures: self.receive_failures.with_label_values(&from),
            snapshots: self.snapshots_received.with_label_values(&from),
            failed_snapshots: self.snapshots_not_received.with_label_values(&from),
            snapshots_under_way: self.receiving.with_label_values(&from),
            snapshot_seconds: self.receive_seconds.with_label_values(&from),
        }
    }
}
