//! Values that need no counter because they can be looked up: they are, at each request for the metrics.

use super::register::Register;
use crate::env::ProcessUsage;
use crate::ids::MemberId;
use prometheus::core::Number;
use prometheus::{Counter, Gauge, Registry, proto::MetricFamily};

/// The present values of a member.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    pub member: MemberId,
    /// Major, minor and patch.
    pub version: &'static str,
    /// Major, minor and patch; empty until the members have agreed on a version.
    pub cluster_version: String,
    pub has_leader: bool,
    pub is_leader: bool,
    pub is_learner: bool,
    pub committed: u64,
    pub applied: u64,
    pub proposals_pending: u64,
    /// Negative: there is no quota.
    pub quota_bytes: i64,
    pub state_bytes: u64,
    pub state_in_use_bytes: u64,
    pub revision: i64,
    pub compact_revision: i64,
    pub keys: u64,
    /// Compacted records that were dropped.
    pub compacted_records: u64,
    pub members: Vec<MemberId>,
    pub process: Option<ProcessUsage>,
}

impl Observed {
    pub(super) fn families(&self) -> Vec<MetricFamily> {
        let registry = Registry::new();
        let register = Register(&registry);
        self.raft(register);
        self.state(register);
        if let Some(process) = &self.process {
            resources(register, process);
        }
        registry.gather()
    }

    fn raft(&self, register: Register<'_>) {
        let gauge = |name, help, value: i64| register.gauge(name, help).set(value);
        let is = i64::from;
        gauge(
            "etcd_server_has_leader",
            "Whether this member knows a leader. 1 if it does.",
            is(self.has_leader),
        );
        gauge(
            "etcd_server_is_leader",
            "Whether this member leads. 1 if it does.",
            is(self.is_leader),
        );
        gauge(
            "etcd_server_is_learner",
            "Whether this member is a learner. 1 if it is.",
            is(self.is_learner),
        );
        gauge(
            "etcd_server_proposals_committed_total",
            "The newest entry that is committed, as far as this member knows.",
            self.committed as i64,
        );
        gauge(
            "etcd_server_proposals_applied_total",
            "The newest entry that this member has applied.",
            self.applied as i64,
        );
        gauge(
            "etcd_server_proposals_pending",
            "Proposals of this member that wait for their outcome.",
            self.proposals_pending as i64,
        );
        let own = self.member.to_string();
        register.note(
            "etcd_server_id",
            "Whose metrics these are, in its label.",
            "server_id",
            &own,
        );
        register.note(
            "etcd_server_version",
            "The version of this member, in its label.",
            "server_version",
            self.version,
        );
        if let Some((minor, _)) = self.cluster_version.rsplit_once('.') {
            register.note(
                "etcd_cluster_version",
                "The version that the members have agreed on, in its label.",
                "cluster_version",
                minor,
            );
        }
        let known = register.gauges(
            "etcd_network_known_peers",
            "The members of the cluster, this one among them.",
            &["Local", "Remote"],
        );
        for member in &self.members {
            known.with_label_values(&[&own, &member.to_string()]).set(1);
        }
    }

    fn state(&self, register: Register<'_>) {
        let gauge = |name, help, value: i64| register.gauge(name, help).set(value);
        gauge(
            "etcd_server_quota_backend_bytes",
            "What the state may take; negative if there is no bound.",
            self.quota_bytes,
        );
        gauge(
            "etcd_mvcc_db_total_size_in_bytes",
            "What the state takes.",
            self.state_bytes as i64,
        );
        gauge(
            "etcd_mvcc_db_total_size_in_use_in_bytes",
            "What the state takes and needs.",
            self.state_in_use_bytes as i64,
        );
        gauge(
            "etcd_debugging_mvcc_current_revision",
            "The newest revision.",
            self.revision,
        );
        gauge(
            "etcd_debugging_mvcc_compact_revision",
            "The revision of the last compaction; -1 before the first.",
            self.compact_revision,
        );
        gauge("etcd_debugging_mvcc_keys_total", "Keys.", self.keys as i64);
        register
            .counter(
                "etcd_debugging_mvcc_db_compaction_keys_total",
                "Records that were dropped because all they hold had been compacted.",
            )
            .inc_by(self.compacted_records);
    }
}

/// The names that every Prometheus client library uses, and etcd's own for open files.
fn resources(register: Register<'_>, process: &ProcessUsage) {
    let gauge = |name, help, value: f64| register.add(Gauge::new(name, help)).set(value);
    let cpu = Counter::new(
        "process_cpu_seconds_total",
        "Processor time of this process, in seconds.",
    );
    register.add(cpu).inc_by(process.cpu_seconds);
    for (name, help, value) in [
        (
            "process_resident_memory_bytes",
            "Memory of this process.",
            process.resident_bytes,
        ),
        (
            "process_virtual_memory_bytes",
            "Address space of this process.",
            process.virtual_bytes,
        ),
        (
            "process_virtual_memory_max_bytes",
            "The limit of this process's address space.",
            process.virtual_bytes_max,
        ),
        ("process_open_fds", "Open files.", process.open_files),
        (
            "process_max_fds",
            "The limit of open files.",
            process.open_files_max,
        ),
        ("os_fd_used", "Open files.", process.open_files),
        ("os_fd_limit", "The limit of open files.", process.open_files_max),
    ] {
        gauge(name, help, value.into_f64());
    }
    gauge(
        "process_start_time_seconds",
        "When this process began, in seconds since 1970.",
        process.start_seconds,
    );
}
