//! The text of the metrics, and what changes it.

use super::*;
use crate::ids::MemberId;
use std::collections::BTreeMap;
use tonic::Code;

/// The series of a text: name with labels, and value.
fn series(text: &str) -> BTreeMap<&str, &str> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| line.rsplit_once(' ').expect("a name and a value"))
        .collect()
}

fn observed() -> Observed {
    Observed {
        member: MemberId(0xab),
        version: "3.7.1",
        cluster_version: "3.7.0".into(),
        has_leader: true,
        committed: 9,
        quota_bytes: -1,
        compact_revision: -1,
        keys: 4,
        compacted_records: 6,
        members: vec![MemberId(0xab), MemberId(0xcd)],
        ..Observed::default()
    }
}

#[test]
fn what_is_observed_is_shown() {
    let text = Metrics::new(false).text(&observed());
    for line in [
        "# TYPE etcd_server_has_leader gauge",
        "# TYPE etcd_debugging_mvcc_db_compaction_keys_total counter",
        "etcd_server_has_leader 1",
        "etcd_server_is_leader 0",
        "etcd_server_id{server_id=\"ab\"} 1",
        "etcd_server_version{server_version=\"3.7.1\"} 1",
        "etcd_cluster_version{cluster_version=\"3.7\"} 1",
        "etcd_server_proposals_committed_total 9",
        "etcd_server_quota_backend_bytes -1",
        "etcd_debugging_mvcc_compact_revision -1",
        "etcd_debugging_mvcc_keys_total 4",
        "etcd_debugging_mvcc_db_compaction_keys_total 6",
        "etcd_network_known_peers{Local=\"ab\",Remote=\"cd\"} 1",
    ] {
        assert!(
            text.lines().any(|found| found == line),
            "{line} is not in\n{text}"
        );
    }
    assert!(!text.contains("process_"), "nothing is known of a process");
    let undecided = Observed::default();
    assert!(
        !Metrics::new(false)
            .text(&undecided)
            .contains("etcd_cluster_version")
    );
}

#[test]
fn histograms_have_etcds_buckets() {
    let metrics = Metrics::new(false);
    metrics.log.sync_seconds.observe(0.003);
    let text = metrics.text(&observed());
    let series = series(&text);
    let name = |bound| format!("etcd_disk_wal_fsync_duration_seconds_bucket{{le=\"{bound}\"}}");
    let bounds = [
        "0.001", "0.002", "0.004", "0.008", "0.016", "0.032", "0.064", "0.128", "0.256", "0.512", "1.024",
        "2.048", "4.096", "8.192", "+Inf",
    ];
    for (place, bound) in bounds.iter().enumerate() {
        let expected = if place < 2 { "0" } else { "1" };
        assert_eq!(series.get(name(bound).as_str()), Some(&expected), "{bound}");
    }
    let buckets = text
        .lines()
        .filter(|line| line.starts_with("etcd_disk_wal_fsync_duration_seconds_bucket"));
    assert_eq!(buckets.count(), bounds.len());
    assert_eq!(series["etcd_disk_wal_fsync_duration_seconds_count"], "1");
}

#[test]
fn calls_are_counted_by_method_and_code() {
    let metrics = Metrics::new(false);
    let mut put = metrics.grpc.begin("/etcdserverpb.KV/Put");
    put.received(100);
    put.sent(1, 20);
    put.end(Code::Ok);
    put.end(Code::Internal);
    drop(put);
    let watch = metrics.grpc.begin("/etcdserverpb.Watch/Watch");
    watch.receipts().received(7);
    watch.sent(3, 60);
    drop(watch);
    let mut unknown = metrics.grpc.begin("/etcdserverpb.KV/Steal");
    unknown.end(Code::Unimplemented);
    let text = metrics.text(&observed());
    let series = series(&text);
    let labelled = |name: &str, service: &str, method: &str, kind: &str| {
        let labels =
            format!("grpc_method=\"{method}\",grpc_service=\"etcdserverpb.{service}\",grpc_type=\"{kind}\"");
        series[format!("{name}{{{labels}}}").as_str()]
    };
    assert_eq!(labelled("grpc_server_started_total", "KV", "Put", "unary"), "1");
    assert_eq!(
        labelled("grpc_server_msg_received_total", "KV", "Put", "unary"),
        "1"
    );
    assert_eq!(
        labelled("grpc_server_msg_sent_total", "Watch", "Watch", "bidi_stream"),
        "3"
    );
    let handled = |code: &str, method: &str, service: &str, kind: &str| {
        let labels = format!(
            "grpc_code=\"{code}\",grpc_method=\"{method}\",grpc_service=\"etcdserverpb.{service}\",grpc_type=\"{kind}\""
        );
        series[format!("grpc_server_handled_total{{{labels}}}").as_str()]
    };
    assert_eq!(handled("OK", "Put", "KV", "unary"), "1");
    assert_eq!(handled("Internal", "Put", "KV", "unary"), "0", "a call ends once");
    assert_eq!(
        handled("Canceled", "Watch", "Watch", "bidi_stream"),
        "1",
        "a call that was dropped"
    );
    assert_eq!(handled("OK", "AuthEnable", "Auth", "unary"), "0");
    assert_eq!(series["etcd_network_client_grpc_received_bytes_total"], "107");
    assert_eq!(series["etcd_network_client_grpc_sent_bytes_total"], "80");
    assert!(!text.contains("Steal") && !text.contains("unknown"));
    assert!(!text.contains("grpc_server_handling_seconds"));
}

#[test]
fn extensive_metrics_say_how_long_calls_took() {
    let metrics = Metrics::new(true);
    metrics.grpc.begin("/etcdserverpb.KV/Range").end(Code::Ok);
    let text = metrics.text(&observed());
    let count = "grpc_server_handling_seconds_count{grpc_method=\"Range\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"} 1";
    assert!(text.lines().any(|line| line == count), "{text}");
    assert!(text.contains("le=\"0.005\"") && text.contains("le=\"10\""));
}

#[test]
fn members_of_one_process_count_apart() {
    let (one, other) = (Metrics::new(false), Metrics::new(false));
    one.consensus.leader_changes.inc();
    let changes = |metrics: &Metrics| {
        let text = metrics.text(&observed());
        series(&text)["etcd_server_leader_changes_seen_total"].to_owned()
    };
    assert_eq!((changes(&one).as_str(), changes(&other).as_str()), ("1", "0"));
}

#[test]
fn more_than_one_operation_is_a_transaction() {
    let mut done = Operations::default();
    for (puts, deletes, ranges, txns) in [(1, 0, 0, 0), (0, 1, 1, 1), (2, 0, 0, 2), (0, 0, 1, 2)] {
        let before = done;
        done.puts += puts;
        done.deletes += deletes;
        done.ranges += ranges;
        done.end_request(&before);
        assert_eq!(done.txns, txns);
    }
    let metrics = Metrics::new(false);
    metrics.store.add(&done);
    let text = metrics.text(&observed());
    let series = series(&text);
    assert_eq!(
        (series["etcd_mvcc_put_total"], series["etcd_mvcc_txn_total"]),
        ("3", "2")
    );
}
