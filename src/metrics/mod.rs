//! The metrics of a member under `/metrics`, with etcd's names, types and buckets, in Prometheus' text form.
//!
//! Each member has a registry of its own. Each folder gets a small struct of its counters and does not know their names. To count
//! is an addition to a number that was found beforehand: no lock, no allocation, no look-up. Values that are known anyway
//! (indexes, sizes, revisions) are not counted but [observed](Observed) on request.
//!
//! # What etcd has and Callboard does not
//!
//! Every series here is measured, so those without a counterpart are absent:
//!
//! | series | why |
//! |---|---|
//! | `go_*`, `etcd_server_go_version`, `promhttp_*`, `process_network_*` | they describe Go's runtime and library |
//! | `etcd_debugging_disk_backend_commit_{rebalance,spill,write}_duration_seconds` | steps of bbolt's commit |
//! | `etcd_disk_backend_snapshot_duration_seconds` | a snapshot is a view, which takes no time |
//! | `etcd_mvcc_db_open_read_transactions` | the engine's views are not counted |
//! | `etcd_debugging_mvcc_{db,index}_compaction_pause_duration_milliseconds` | compaction causes no pauses |
//! | `etcd_debugging_snap_save_*`, `etcd_snap_fsync_duration_seconds` | there is no snapshot file |
//! | `etcd_debugging_store_*` | the v2 store |
//! | `etcd_debugging_mvcc_{put,delete,range,txn}_total`, `etcd_debugging_mvcc_db_total_size_in_bytes` | 3.4's second names |
//! | `etcd_debugging_auth_revision` | there are no users |
//! | `etcd_debugging_server_alarms` | `/health` and `Status` report them |
//! | `etcd_debugging_server_watch_send_loop_*` | there is no such loop |
//! | `etcd_grpc_proxy_*` | there is no proxy |
//! | `etcd_server_learner_promote_*` | promotions are not counted |
//! | `etcd_server_feature_enabled` | of etcd's features only the corruption checks are switches here |
//! | `etcd_server_{apply,request,range}_duration_seconds`, `etcd_server_client_requests_total`, `etcd_network_server_stream_failures_total` | two clock readings, or a check of the headers, per request |

mod consensus;
mod grpc;
mod health;
mod lease;
mod observed;
mod peers;
mod register;
mod store;
mod watch;

#[cfg(test)]
mod tests;

pub use consensus::ConsensusMetrics;
pub use grpc::{CountedCall, GrpcMetrics, Receipts};
pub use health::HealthMetrics;
pub use lease::LeaseMetrics;
pub use observed::Observed;
pub use peers::{PeerFamilies, ReceivedMetrics, SentMetrics};
pub use store::{LogMetrics, Operations, StoreMetrics};
pub use watch::WatchMetrics;

use prometheus::{Registry, TextEncoder};
use register::Register;
use std::sync::Arc;

/// The content type of Prometheus' text form.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All metrics of one member.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    pub grpc: GrpcMetrics,
    pub health: HealthMetrics,
    pub consensus: Arc<ConsensusMetrics>,
    pub log: Arc<LogMetrics>,
    pub store: Arc<StoreMetrics>,
    pub watch: Arc<WatchMetrics>,
    pub lease: Arc<LeaseMetrics>,
    pub peers: Arc<PeerFamilies>,
}

impl Metrics {
    /// All counters at 0. `extensive` adds the duration of calls (`--metrics=extensive`).
    pub fn new(extensive: bool) -> Self {
        let registry = Registry::new();
        let register = Register(&registry);
        Self {
            grpc: GrpcMetrics::new(register, extensive),
            health: HealthMetrics::new(register),
            consensus: Arc::new(ConsensusMetrics::new(register)),
            log: Arc::new(LogMetrics::new(register)),
            store: Arc::new(StoreMetrics::new(register)),
            watch: Arc::new(WatchMetrics::new(register)),
            lease: Arc::new(LeaseMetrics::new(register)),
            peers: Arc::new(PeerFamilies::new(register)),
            registry,
        }
    }

    /// All series, and the observed values, as text.
    pub fn text(&self, observed: &Observed) -> String {
        self.grpc.show_all();
        let mut families = self.registry.gather();
        families.extend(observed.families());
        families.sort_by(|one, other| one.name().cmp(other.name()));
        let text = TextEncoder::new().encode_to_string(&families);
        text.expect("series with sound names have a text")
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new(false)
    }
}
