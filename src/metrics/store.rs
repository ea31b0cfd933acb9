//! The state machine and its disk: operations, batches, merges, hashes.
//!
//! etcd: server/storage/mvcc/metrics.go, server/storage/backend/metrics.go. A batch of many puts is one commit here, as it is one
//! bbolt transaction there.

use super::register::{DISK, Register};
use prometheus::{Histogram, IntCounter, IntGauge};

/// Counters of the applier, of readers and of the state's disk.
#[derive(Debug)]
pub struct StoreMetrics {
    pub puts: IntCounter,
    pub deletes: IntCounter,
    pub ranges: IntCounter,
    pub txns: IntCounter,
    pub put_bytes: IntGauge,
    pub commit_seconds: Histogram,
    pub slow_applies: IntCounter,
    pub hash_seconds: Histogram,
    pub hash_revision_seconds: Histogram,
    pub compaction_milliseconds: Histogram,
    pub last_compaction: IntGauge,
    pub defragment_seconds: Histogram,
    pub defragmenting: IntGauge,
}

/// Buckets for work on all keys: 10 ms to 164 s.
const HASH: super::register::Buckets = (0.01, 2.0, 15);

impl StoreMetrics {
    pub(super) fn new(register: Register<'_>) -> Self {
        let counter = |name, help| register.counter(name, help);
        Self {
            puts: counter("etcd_mvcc_put_total", "Puts that this member has applied."),
            deletes: counter("etcd_mvcc_delete_total", "Deletes that this member has applied."),
            ranges: counter("etcd_mvcc_range_total", "Ranges that this member has read."),
            txns: counter(
                "etcd_mvcc_txn_total",
                "Requests of more than one operation that this member has carried out.",
            ),
            put_bytes: register.gauge(
                "etcd_debugging_mvcc_total_put_size_in_bytes",
                "Keys and values of all puts that this member has applied.",
            ),
            commit_seconds: register.histogram(
                "etcd_disk_backend_commit_duration_seconds",
                "What writing one batch of applied changes took.",
                DISK,
            ),
            slow_applies: counter(
                "etcd_server_slow_apply_total",
                "Batches whose application took longer than --warning-apply-duration.",
            ),
            hash_seconds: register.histogram(
                "etcd_mvcc_hash_duration_seconds",
                "What hashing the whole state took.",
                HASH,
            ),
            hash_revision_seconds: register.histogram(
                "etcd_mvcc_hash_rev_duration_seconds",
                "What hashing the keys up to a revision took.",
                HASH,
            ),
            compaction_milliseconds: register.histogram(
                "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds",
                "What giving the space of compacted revisions back took, when a client waited for it.",
                (100.0, 2.0, 14),
            ),
            last_compaction: register.gauge(
                "etcd_debugging_mvcc_db_compaction_last",
                "When the space of compacted revisions was given back last, in seconds since 1970; 0 since the start.",
            ),
            defragment_seconds: register.histogram(
                "etcd_disk_backend_defrag_duration_seconds",
                "What rewriting the state took.",
                (0.1, 2.0, 13),
            ),
            defragmenting: register.gauge(
                "etcd_disk_defrag_inflight",
                "Whether the state is being rewritten. 1 if it is.",
            ),
        }
    }

    /// Adds the operations of a batch or of a read-only request.
    pub fn add(&self, done: &Operations) {
        for (counter, count) in [
            (&self.puts, done.puts),
            (&self.deletes, done.deletes),
            (&self.ranges, done.ranges),
            (&self.txns, done.txns),
        ] {
            if count > 0 {
                counter.inc_by(count);
            }
        }
        if done.put_bytes > 0 {
            self.put_bytes.add(done.put_bytes as i64);
        }
    }
}

/// Operations, counted where they are executed and then added together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Operations {
    pub puts: u64,
    pub deletes: u64,
    pub ranges: u64,
    pub txns: u64,
    pub put_bytes: u64,
}

impl Operations {
    /// Ends a request that began at `before`: it counts as a transaction if it had more than one operation.
    pub fn end_request(&mut self, before: &Self) {
        let sum = |operations: &Self| operations.puts + operations.deletes + operations.ranges;
        self.txns += u64::from(sum(self) - sum(before) > 1);
    }
}

/// The log's disk. etcd: server/storage/wal/metrics.go.
#[derive(Debug)]
pub struct LogMetrics {
    pub sync_seconds: Histogram,
    pub write_seconds: Histogram,
    pub written_bytes: IntGauge,
}

impl LogMetrics {
    pub(super) fn new(register: Register<'_>) -> Self {
        Self {
            sync_seconds: register.histogram(
                "etcd_disk_wal_fsync_duration_seconds",
                "What making the log durable took.",
                DISK,
            ),
            write_seconds: register.histogram(
                "etcd_disk_wal_write_duration_seconds",
                "What writing to the log took, without making it durable.",
                DISK,
            ),
            written_bytes: register.gauge(
                "etcd_disk_wal_write_bytes_total",
                "Bytes of records written to the log.",
            ),
        }
    }
}
