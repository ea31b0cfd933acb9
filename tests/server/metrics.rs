//! `/metrics` of real members: the series of a real etcd, and numbers that move by exactly what was done.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use callboard::proto::etcdserverpb as pb;

use super::support::cluster::{Cluster, Member};
use super::support::kv_client::{Client, block_on};
use super::support::{self, http, poll, ports};
use super::{get, put};

const LIMIT: Duration = Duration::from_secs(20);

/// What etcd 3.4 shows and Callboard does not; src/metrics/mod.rs says why. A `*` stands for anything at the end.
const ABSENT: &[&str] = &[
    "etcd_debugging_auth_revision",
    "etcd_debugging_disk_backend_commit_*",
    "etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds",
    "etcd_debugging_mvcc_db_total_size_in_bytes",
    "etcd_debugging_mvcc_delete_total",
    "etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds",
    "etcd_debugging_mvcc_put_total",
    "etcd_debugging_mvcc_range_total",
    "etcd_debugging_mvcc_txn_total",
    "etcd_debugging_snap_save_*",
    "etcd_debugging_store_*",
    "etcd_disk_backend_snapshot_duration_seconds",
    "etcd_grpc_proxy_*",
    "etcd_mvcc_db_open_read_transactions",
    "etcd_server_go_version",
    "etcd_server_learner_promote_successes",
    "etcd_snap_fsync_duration_seconds",
    "go_*",
    "promhttp_*",
];

/// What one look at the metrics found.
struct Metrics {
    /// Name to type.
    types: BTreeMap<String, String>,
    /// Name with labels to value.
    values: BTreeMap<String, String>,
}

impl Metrics {
    fn of(member: SocketAddr) -> Self {
        let response = http::get(member, "/metrics").expect("an answer");
        assert_eq!(response.status, 200);
        assert!(
            response.headers.contains("text/plain; version=0.0.4"),
            "{}",
            response.headers
        );
        let mut metrics = Self {
            types: BTreeMap::new(),
            values: BTreeMap::new(),
        };
        for line in response.body.lines() {
            if let Some(line) = line.strip_prefix("# TYPE ") {
                let (name, kind) = line.split_once(' ').expect("a name and a type");
                metrics.types.insert(name.to_owned(), kind.to_owned());
            } else if !line.starts_with('#') {
                let (name, value) = line.rsplit_once(' ').expect("a name and a value");
                metrics.values.insert(name.to_owned(), value.to_owned());
            }
        }
        metrics
    }

    fn number(&self, name: &str) -> f64 {
        let value = self.values.get(name).unwrap_or_else(|| panic!("no {name}"));
        value.parse().expect("a number")
    }

    fn counts(&self, name: &str) -> i64 {
        self.number(name) as i64
    }
}

fn handled(code: &str, service: &str, method: &str, kind: &str) -> String {
    format!(
        "grpc_server_handled_total{{grpc_code=\"{code}\",grpc_method=\"{method}\",grpc_service=\"etcdserverpb.{service}\",grpc_type=\"{kind}\"}}"
    )
}

fn is_absent(name: &str) -> bool {
    ABSENT.iter().any(|absent| match absent.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == *absent,
    })
}

/// The metrics of a member that proposes nothing any more on its own: the cluster's version is the last.
fn settled(member: &Member) -> Metrics {
    let found = poll::until(LIMIT, || match Metrics::of(member.client) {
        found if found.types.contains_key("etcd_cluster_version") => Ok(found),
        _ => Err("no cluster version"),
    });
    found.expect("a cluster version")
}

#[test]
fn series_are_those_of_etcd() {
    let ours = Cluster::start(&support::callboard_bin(), 1);
    let theirs = Cluster::start(&support::etcd_bin(), 1);
    let (ours, theirs) = (settled(&ours.members[0]), settled(&theirs.members[0]));
    for (name, kind) in &theirs.types {
        match ours.types.get(name) {
            Some(found) => {
                assert_eq!(found, kind, "the type of {name}");
                assert!(!is_absent(name), "{name} is there, and listed as absent");
            }
            None => assert!(is_absent(name), "{name} is missing"),
        }
    }
    // Histograms have the same buckets, and calls the same labels, in the same spelling.
    let shared = |metrics: &Metrics| -> BTreeSet<String> {
        let names = metrics.values.keys();
        let wanted = names.filter(|name| name.contains("_bucket{") || name.starts_with("grpc_server_"));
        wanted.cloned().collect()
    };
    let missing: Vec<String> = shared(&theirs)
        .difference(&shared(&ours))
        .filter(|name| !is_absent(name.split("_bucket{").next().unwrap_or(name)))
        // The health service is not here, and 2^20 and more is spelt in digits.
        .filter(|name| !name.contains("grpc.health.v1") && !name.contains("e+06"))
        .cloned()
        .collect();
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn numbers_move_by_what_was_done() {
    let cluster = Cluster::start(&support::callboard_bin(), 1);
    let member = &cluster.members[0];
    let before = settled(member);
    for key in ["a", "b", "c"] {
        put(member, key, "12345");
    }
    assert_eq!(get(member, "b").as_deref(), Some("12345"));
    block_on(async {
        let client = Client::new(&[member.client], LIMIT);
        let two = ["b", "d"].map(|key| support::kv_client::put_request(key.as_bytes(), b"1"));
        client.put_all(two).await.acked().expect("a transaction");
        client.lease_grant(0, 100).await.acked().expect("a lease");
        client.hash_kv(0).await.acked().expect("a hash");
        let refused = client.range(pb::RangeRequest::default()).await.acked();
        assert!(refused.is_err(), "a range needs a key");
    });
    // Scrapers share a text for a moment.
    let after = poll::until(LIMIT, || {
        let after = Metrics::of(member.client);
        let refused = handled("InvalidArgument", "KV", "Range", "unary");
        let is_new = after.counts(&refused) > before.counts(&refused);
        is_new
            .then_some(after)
            .ok_or_else(|| "the text is an old one".to_owned())
    });
    let after = after.expect("a new text");
    let unary = |code, service, method| handled(code, service, method, "unary");
    let put_calls = unary("OK", "KV", "Put");
    let txn_calls = unary("OK", "KV", "Txn");
    let refused_ranges = unary("InvalidArgument", "KV", "Range");
    for (name, moved) in [
        ("etcd_mvcc_put_total", 5),
        ("etcd_mvcc_delete_total", 0),
        ("etcd_mvcc_range_total", 1),
        ("etcd_mvcc_txn_total", 1),
        ("etcd_debugging_mvcc_keys_total", 4),
        ("etcd_debugging_mvcc_current_revision", 4),
        ("etcd_debugging_mvcc_total_put_size_in_bytes", 22),
        ("etcd_debugging_lease_granted_total", 1),
        ("etcd_debugging_lease_ttl_total_sum", 100),
        ("etcd_mvcc_hash_rev_duration_seconds_count", 1),
        ("etcd_server_proposals_committed_total", 5),
        ("etcd_server_proposals_applied_total", 5),
        ("etcd_server_leader_changes_seen_total", 0),
        (&put_calls, 3),
        (&txn_calls, 1),
        (&refused_ranges, 1),
    ] {
        assert_eq!(after.counts(name) - before.counts(name), moved, "{name}");
    }
    for (name, value) in [
        ("etcd_server_has_leader", 1),
        ("etcd_server_is_leader", 1),
        ("etcd_server_is_learner", 0),
        ("etcd_server_proposals_pending", 0),
        ("etcd_server_leader_changes_seen_total", 1),
        ("etcd_debugging_mvcc_compact_revision", -1),
    ] {
        assert_eq!(after.counts(name), value, "{name}");
    }
    for name in [
        "etcd_disk_wal_fsync_duration_seconds_count",
        "etcd_disk_backend_commit_duration_seconds_count",
        "etcd_disk_wal_write_bytes_total",
        "etcd_network_client_grpc_received_bytes_total",
        "etcd_network_client_grpc_sent_bytes_total",
        "process_cpu_seconds_total",
    ] {
        assert!(after.number(name) > before.number(name), "{name} stands still");
    }
    for name in ["process_resident_memory_bytes", "process_open_fds", "os_fd_used"] {
        assert!(after.number(name) > 1.0, "{name}");
    }
}

#[test]
fn watches_are_counted() {
    let cluster = Cluster::start(&support::callboard_bin(), 1);
    let member = &cluster.members[0];
    put(member, "k", "1");
    let mut command = support::process::command(&support::etcdctl_bin());
    command.args([
        "--endpoints",
        &member.client.to_string(),
        "watch",
        "k",
        "--rev",
        "2",
    ]);
    let mut watching = support::process::Process::start(command, &cluster.directory().join("watch.log"));
    let reached = |wanted: &[(&str, i64)]| {
        poll::until(LIMIT, || {
            let metrics = Metrics::of(member.client);
            let wrong: Vec<_> = wanted
                .iter()
                .filter(|(name, value)| metrics.counts(name) != *value)
                .collect();
            if wrong.is_empty() {
                Ok(())
            } else {
                Err(format!("{wrong:?}"))
            }
        })
    };
    let streams = "etcd_debugging_mvcc_watch_stream_total";
    let watchers = "etcd_debugging_mvcc_watcher_total";
    let events = "etcd_debugging_mvcc_events_total";
    reached(&[(streams, 1), (watchers, 1), (events, 1)]).expect("a watch and its past");
    put(member, "k", "2");
    let pending = "etcd_debugging_mvcc_pending_events_total";
    reached(&[(events, 2), (pending, 0)]).expect("an event");
    watching.kill();
    let canceled = handled("Canceled", "Watch", "Watch", "bidi_stream");
    reached(&[(streams, 0), (watchers, 0), (&canceled, 1)]).expect("the end of the watch");
}

#[test]
fn a_killed_leader_is_seen_by_the_others() {
    let mut cluster = Cluster::start(&support::callboard_bin(), 3);
    put(&cluster.members[0], "a", "b");
    let leads = |member: &Member| Metrics::of(member.client).counts("etcd_server_is_leader") == 1;
    let leader = cluster.members.iter().position(leads).expect("a leader");
    let id = |metrics: &Metrics| {
        let mut names = metrics.values.keys();
        let found = names.find_map(|name| name.strip_prefix("etcd_server_id{server_id=\""));
        found.expect("an id").trim_end_matches("\"}").to_owned()
    };
    let leader_id = id(&Metrics::of(cluster.members[leader].client));
    let sent = format!("etcd_network_peer_sent_bytes_total{{To=\"{leader_id}\"}}");
    let received = format!("etcd_network_peer_received_bytes_total{{From=\"{leader_id}\"}}");
    let round_trips = format!("etcd_network_peer_round_trip_time_seconds_count{{To=\"{leader_id}\"}}");
    let mut changes = BTreeMap::new();
    for (place, member) in cluster
        .members
        .iter()
        .enumerate()
        .filter(|(place, _)| *place != leader)
    {
        let before = poll::until(LIMIT, || {
            let metrics = Metrics::of(member.client);
            if metrics.counts(&round_trips) > 0 {
                Ok(metrics)
            } else {
                Err("nothing was measured")
            }
        });
        let before = before.expect("round trips");
        assert!(before.number(&sent) > 0.0 && before.number(&received) > 0.0);
        changes.insert(place, before.counts("etcd_server_leader_changes_seen_total"));
    }
    cluster.members[leader].kill();
    for (place, before) in changes {
        let client = cluster.members[place].client;
        let own = id(&Metrics::of(client));
        let disconnected =
            format!("etcd_network_disconnected_peers_total{{Local=\"{own}\",Remote=\"{leader_id}\"}}");
        let active = format!("etcd_network_active_peers{{Local=\"{own}\",Remote=\"{leader_id}\"}}");
        let seen = poll::until(LIMIT, || {
            let metrics = Metrics::of(client);
            let changes = metrics.counts("etcd_server_leader_changes_seen_total");
            let done = changes > before && metrics.counts("etcd_server_has_leader") == 1;
            if done {
                Ok(metrics)
            } else {
                Err(format!("{changes} changes"))
            }
        });
        let seen = seen.expect("a new leader");
        assert!(seen.counts(&disconnected) >= 1 && seen.counts(&active) == 0);
    }
}

#[test]
fn metrics_have_ports_of_their_own() {
    let port = ports::free(1)[0];
    let url = format!("--listen-metrics-urls=http://127.0.0.1:{port}");
    let cluster = Cluster::start_with(&support::callboard_bin(), 1, &[&url, "--metrics=extensive"]);
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    get(&cluster.members[0], "a");
    let metrics = Metrics::of(address);
    let handling = "grpc_server_handling_seconds_count{grpc_method=\"Range\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"}";
    assert_eq!(metrics.counts(handling), 1);
    assert_eq!(http::get(address, "/health").expect("an answer").status, 200);
    assert_eq!(http::get(address, "/version").expect("an answer").status, 404);
}

#[test]
fn the_level_of_the_log_changes_while_it_runs() {
    let cluster = Cluster::start(&support::callboard_bin(), 1);
    let member = &cluster.members[0];
    let set = |level: &str| {
        let body = format!("{{\"Level\":\"{level}\"}}");
        http::request(member.client, "PUT", "/config/local/log", &body)
            .expect("an answer")
            .status
    };
    let debug_lines = || {
        let text = member.log_text();
        text.lines()
            .filter(|line| line.contains("\"level\":\"debug\""))
            .count()
    };
    assert_eq!(debug_lines(), 0);
    assert_eq!(set("DEBUG"), 204);
    put(member, "a", "1");
    let logged = poll::until(LIMIT, || match debug_lines() {
        0 => Err("no line"),
        lines => Ok(lines),
    });
    logged.expect("raft's details");
    assert_eq!(set("INFO"), 204);
    let lines = debug_lines();
    put(member, "a", "2");
    put(member, "a", "3");
    assert_eq!(debug_lines(), lines);
    assert_eq!(set("bla"), 400);
}

#[test]
fn the_log_says_what_tools_wait_for() {
    let mut cluster = Cluster::start(&support::callboard_bin(), 1);
    let member = &mut cluster.members[0];
    let version = |text: &str| text.contains("\"msg\":\"updated storage version\"");
    poll::until(LIMIT, || {
        if version(&member.log_text()) {
            Ok(())
        } else {
            Err("no version")
        }
    })
    .expect("a cluster version");
    member.terminate();
    let text = member.log_text();
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    for message in [
        "starting an etcd server",
        "added member",
        "now serving peer/client/metrics",
        "published local member to cluster through raft",
        "ready to serve client requests",
        "serving client traffic insecurely; this is strongly discouraged!",
        "enabled capabilities for version",
        "updated storage version",
        "received signal; shutting down",
        "closing etcd server",
        "closed etcd server",
    ] {
        assert!(
            lines.iter().any(|line| line["msg"] == message),
            "{message} is not in\n{text}"
        );
    }
    let elected = |line: &&serde_json::Value| {
        line["msg"]
            .as_str()
            .is_some_and(|message| message.contains("elected leader"))
            && line["logger"] == "raft"
    };
    assert!(lines.iter().any(|line| elected(&line)), "{text}");
    for line in &lines {
        assert!(
            ["debug", "info", "warn"].contains(&line["level"].as_str().expect("a level")),
            "{line}"
        );
    }
}
