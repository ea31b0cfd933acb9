//! Command lines and what comes of them; the messages were taken from etcd 3.7.1.

use super::*;
use crate::compactor::Retention;
use crate::logging::NoticeLevel;
use std::path::Path;
use std::time::Duration;

fn run(line: &str, environment: &[(&str, &str)]) -> Result<Invocation, Error> {
    let arguments = std::iter::once("callboard")
        .chain(line.split_whitespace())
        .map(OsString::from);
    let environment = environment
        .iter()
        .map(|(name, value)| (OsString::from(name), OsString::from(value)));
    parse(arguments, environment, file)
}

/// The only configuration file that there is.
fn file(path: &Path) -> Result<String, String> {
    match path.to_str() {
        Some("there.yaml") => {
            Ok("name: f\ndata-dir: d\nwarning-apply-duration: 5000000000\nmax-wals: 3\n".to_owned())
        }
        Some("example.yml") => Ok(include_str!("../../deploy/callboard.yml").to_owned()),
        _ => Err("no such file or directory".to_owned()),
    }
}

#[test]
fn the_examples_are_read() {
    let from_file = server("--config-file example.yml", &[]);
    assert_eq!(
        from_file.advertise_client_urls[0].as_str(),
        "https://m1.example:2379"
    );
    assert!(from_file.initial_cluster().is_ok());
    assert!(from_file.tls.client.client_cert_auth && from_file.tls.peer.client_cert_auth);
    let lines = include_str!("../../deploy/callboard.env").lines();
    let settings = lines.filter(|line| !line.starts_with('#'));
    let variables: Vec<_> = settings.filter_map(|line| line.split_once('=')).collect();
    let from_variables = server("", &variables);
    assert_eq!(from_variables.name, "m1");
    assert!(from_variables.initial_cluster().is_ok());
    let unknown: Vec<_> = variables
        .iter()
        .filter(|(name, _)| {
            let flag = name.trim_start_matches("ETCD_").to_lowercase().replace('_', "-");
            !flags::known(&flag)
        })
        .collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

fn server(line: &str, environment: &[(&str, &str)]) -> Server {
    match run(line, environment) {
        Ok(Invocation::Server(server)) => *server,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn defaults_are_those_of_etcd() {
    let server = server("", &[]);
    assert_eq!(server.name, "default");
    assert_eq!(server.data_dir.to_str(), Some("default.etcd"));
    assert_eq!(server.initial_cluster_text, "default=http://localhost:2380");
    assert_eq!(server.initial_cluster_state, ClusterState::New);
    assert_eq!(server.heartbeat_interval_ms, 100);
    assert_eq!(server.election_timeout_ms, 1000);
    assert_eq!(server.snapshot_count, 10_000);
    assert_eq!(server.max_request_bytes, 1_572_864);
    assert_eq!(server.max_txn_ops, 128);
    assert!(server.pre_vote);
    assert!(server.enable_grpc_gateway);
    assert_eq!(server.cors, ["*"]);
    assert!(server.initial_cluster().is_ok());
}

#[test]
fn monitoring_is_asked_for() {
    let server = server(
        "--metrics=extensive --listen-metrics-urls http://127.0.0.1:1,http://127.0.0.1:2 \
         --experimental-warning-apply-duration=2s --enable-pprof=false",
        &[],
    );
    assert!(server.extensive_metrics);
    assert_eq!(server.listen_metrics_urls.len(), 2);
    assert_eq!(server.warning_apply_duration, Duration::from_secs(2));
    let server = self::server("--metrics=none --listen-metrics-urls=", &[]);
    assert!(!server.extensive_metrics && server.listen_metrics_urls.is_empty());
    assert_eq!(server.warning_apply_duration, Duration::from_millis(100));
    for (line, message) in [
        (
            "--enable-pprof",
            "--enable-pprof=true is not supported yet, profile the process with perf",
        ),
        (
            "--listen-metrics-urls http://foo:1",
            "expected IP in URL for binding (http://foo:1)",
        ),
    ] {
        assert_eq!(run(line, &[]).expect_err(line).to_string(), message);
    }
}

#[test]
fn every_way_of_writing_a_flag() {
    for line in [
        "--name x --snapshot-count 5 --pre-vote=false",
        "-name x -snapshot-count=5 -pre-vote=F",
        "--name=y --name=x --snapshot-count=0x5 --pre-vote --pre-vote=0",
        "--name=x --snapshot-count=5 --pre-vote=false --force --vv=3 -snapshot",
    ] {
        let server = server(line, &[]);
        assert_eq!(server.name, "x", "{line}");
        assert_eq!(server.snapshot_count, 5, "{line}");
        assert!(!server.pre_vote, "{line}");
        assert_eq!(server.initial_cluster_text, "x=http://localhost:2380");
    }
    let server = server("--name -x --data-dir=a=b --log-format=console", &[]);
    assert_eq!(server.name, "-x");
    assert_eq!(server.data_dir.to_str(), Some("a=b"));
    assert_eq!(server.log.format, crate::logging::Format::Console);
}

#[test]
fn who_may_use_the_api_from_the_web() {
    let server = server("--enable-grpc-gateway=false --cors http://a:1,https://b:2", &[]);
    assert!(!server.enable_grpc_gateway);
    assert_eq!(server.cors, ["http://a:1", "https://b:2"]);
    assert!(matches!(run("--cors a", &[]), Err(Error::Usage(_))));
}

fn assert_mistakes(cases: &[(&str, i32, &str)]) {
    for (line, code, message) in cases {
        let error = run(line, &[]).expect_err(line);
        assert_eq!(
            (error.exit_code(), error.to_string().as_str()),
            (*code, *message),
            "{line}"
        );
    }
}

#[test]
fn mistakes_have_etcds_messages_and_exit_codes() {
    assert_mistakes(&[
        ("--foo", 2, "flag provided but not defined: -foo"),
        ("--foo bar", 2, "flag provided but not defined: -foo"),
        ("--name", 2, "flag needs an argument: -name"),
        (
            "--snapshot-count=x",
            2,
            "invalid value \"x\" for flag -snapshot-count: parse error",
        ),
        (
            "--max-txn-ops=-1",
            2,
            "invalid value \"-1\" for flag -max-txn-ops: parse error",
        ),
        (
            "--initial-cluster-state=x",
            2,
            "invalid value \"x\" for flag -initial-cluster-state: invalid value",
        ),
        (
            "--pre-vote=x",
            2,
            "invalid boolean value \"x\" for -pre-vote: parse error",
        ),
        (
            "--listen-client-urls=foo",
            2,
            "invalid value \"foo\" for flag -listen-client-urls: URL scheme must be http, https, unix, or unixs: foo",
        ),
        ("--pre-vote false", 1, "\"false\" is not a valid flag"),
        (
            "--snapshot-count=x foo",
            2,
            "invalid value \"x\" for flag -snapshot-count: parse error",
        ),
        (
            "--listen-peer-urls http://foo:1",
            1,
            "expected IP in URL for binding (http://foo:1)",
        ),
        (
            "--listen-client-urls http://127.0.0.1:1",
            1,
            "--advertise-client-urls is required when --listen-client-urls is set explicitly",
        ),
        (
            "--election-timeout 100",
            1,
            "--election-timeout[100ms] should be at least as 5 times as --heartbeat-interval[100ms]",
        ),
        (
            "--election-timeout 50001",
            1,
            "--election-timeout[50001ms] is too long, and should be set less than 50000ms",
        ),
        (
            "--heartbeat-interval 0",
            1,
            "--heartbeat-interval must be >0 (set to 0ms)",
        ),
        (
            "--log-format=x",
            1,
            "unknown log format: x, supported values json, console",
        ),
        ("--log-level=x", 1, "unrecognized level: \"x\""),
        (
            "--auto-compaction-mode=x",
            1,
            "unknown auto-compaction-mode \"x\"",
        ),
        (
            "--advertise-client-urls http://:1",
            2,
            "invalid value \"http://:1\" for flag -advertise-client-urls: parse \"http://:1\": empty host",
        ),
    ]);
}

#[test]
fn mistakes_about_tls_and_compaction_have_etcds_messages() {
    assert_mistakes(&[
        (
            "--tls-min-version=TLS1.1",
            1,
            "unexpected TLS version \"TLS1.1\" (must be one of: TLS1.2, TLS1.3)",
        ),
        (
            "--tls-min-version=TLS1.3 --tls-max-version=TLS1.2",
            1,
            "min version (TLS1.3) is greater than max version (TLS1.2)",
        ),
        (
            "--tls-min-version=TLS1.3 --cipher-suites=TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
            1,
            "cipher suites cannot be configured when only TLS1.3 is enabled",
        ),
        (
            "--cipher-suites=ECDHE-RSA-DES-CBC3-SHA",
            1,
            "unexpected TLS cipher suite \"ECDHE-RSA-DES-CBC3-SHA\"",
        ),
        (
            "--auto-compaction-retention=-1",
            1,
            "error parsing CompactionRetention: time: invalid duration \"-1\"",
        ),
        (
            "--auto-compaction-mode=revision --auto-compaction-retention=x",
            1,
            "error parsing CompactionRetention: time: invalid duration \"x\"",
        ),
    ]);
}

#[test]
fn what_is_kept_is_read_as_etcd_reads_it() {
    let hours = |hours| Some(Retention::Period(Duration::from_hours(hours)));
    let cases = [
        ("", None),
        ("--auto-compaction-retention=", None),
        ("--auto-compaction-retention 0", None),
        ("--auto-compaction-retention 0s", None),
        ("--auto-compaction-retention=-5s", None),
        ("--auto-compaction-retention 1", hours(1)),
        ("--auto-compaction-retention +24", hours(24)),
        (
            "--auto-compaction-retention 1m30s",
            Some(Retention::Period(Duration::from_secs(90))),
        ),
        ("--auto-compaction-mode revision", None),
        (
            "--auto-compaction-mode revision --auto-compaction-retention 1000",
            Some(Retention::Revisions(1000)),
        ),
        (
            "--auto-compaction-mode revision --auto-compaction-retention 1us",
            Some(Retention::Revisions(1000)),
        ),
    ];
    for (line, expected) in cases {
        assert_eq!(server(line, &[]).auto_compaction, expected, "{line}");
    }
    let line = "--quota-backend-bytes -1 --quota-free-disk-bytes=5";
    let space = server(line, &[]).space;
    assert_eq!((space.quota_bytes, space.free_disk_bytes), (-1, 5));
}

#[test]
fn the_environment_joins_the_flags() {
    let server = server(
        "--data-dir d",
        &[
            ("ETCD_NAME", "m"),
            ("ETCD_MAX_TXN_OPS", "7"),
            ("ETCD_FOO", "x"),
            ("ETCD_SNAPSHOT_COUNT", ""),
            ("PATH", "x"),
        ],
    );
    assert_eq!((server.name.as_str(), server.max_txn_ops), ("m", 7));
    assert_eq!(server.snapshot_count, 10_000);
    let warnings: Vec<_> = server
        .notices
        .iter()
        .filter(|notice| notice.level == NoticeLevel::Warn)
        .map(|notice| (notice.message, notice.fields[0].1.as_str()))
        .collect();
    assert_eq!(warnings, [("unrecognized environment variable", "ETCD_FOO=x")]);
    let cases = [
        (
            "",
            "ETCD_SNAPSHOT_COUNT",
            "a",
            "invalid value \"a\" for ETCD_SNAPSHOT_COUNT: parse error",
        ),
        (
            "",
            "ETCD_CONFIG_FILE",
            "a",
            "error parsing configuration file a: no such file or directory",
        ),
    ];
    for (line, variable, value, message) in cases {
        let error = run(line, &[(variable, value)]).expect_err(variable);
        assert_eq!((error.exit_code(), error.to_string().as_str()), (1, message));
    }
}

/// What is said of the settings, and about what.
fn warnings(server: &Server) -> Vec<(&'static str, &str)> {
    let notices = server.notices.iter();
    let warnings = notices.filter(|notice| notice.level == NoticeLevel::Warn);
    warnings
        .map(|notice| (notice.message, notice.fields[0].1.as_str()))
        .collect()
}

#[test]
fn flags_go_before_the_environment_and_a_file_stands_alone() {
    let shadowed = server(
        "--name b --data-dir d --max-wals 5",
        &[("ETCD_NAME", "a"), ("ETCD_MAX_WALS", "9")],
    );
    assert_eq!(shadowed.name, "b");
    let message = "environment variable is shadowed by corresponding command-line flag";
    assert_eq!(
        warnings(&shadowed),
        [(message, "ETCD_NAME"), (message, "ETCD_MAX_WALS")]
    );
    for (line, variable) in [
        ("--name b --config-file there.yaml", "ETCD_NAME"),
        ("--name b", "ETCD_CONFIG_FILE"),
    ] {
        let server = server(line, &[(variable, "there.yaml")]);
        assert_eq!(
            (server.name.as_str(), server.warning_apply_duration),
            ("f", Duration::from_secs(5))
        );
        assert_eq!(warnings(&server), [("a flag has no effect", "--max-wals")]);
    }
}

#[test]
fn what_has_no_meaning_here_is_taken_with_a_warning_and_what_is_missing_is_refused() {
    let taken = server(
        "--name x --data-dir d --max-wals=0x5 --backend-batch-limit 7 --initial-election-tick-advance --proxy off --discovery= \
         --experimental-compaction-batch-limit=1000 --debug --pre-vote=false --snapshot-catchup-entries 7 \
         --grpc-keepalive-interval 1m",
        &[],
    );
    assert_eq!(
        warnings(&taken),
        [("a flag has no effect", "--backend-batch-limit")]
    );
    assert!(!taken.pre_vote && taken.log.level == crate::logging::Level::parse("debug").expect("a level"));
    assert_eq!(
        (taken.snapshot_catchup_entries, taken.keep_alive_interval),
        (7, Duration::from_mins(1))
    );
    let cases = [
        (
            "--proxy on",
            1,
            "--proxy=on is not supported yet, proxies are not supported",
        ),
        (
            "--max-wals x",
            2,
            "invalid value \"x\" for flag -max-wals: parse error",
        ),
        (
            "--unsafe-no-fsync=x",
            2,
            "invalid boolean value \"x\" for -unsafe-no-fsync: parse error",
        ),
        ("--max-wals", 2, "flag needs an argument: -max-wals"),
    ];
    for (line, code, message) in cases {
        let error = run(line, &[]).expect_err(line);
        assert_eq!(
            (error.exit_code(), error.to_string().as_str()),
            (code, message),
            "{line}"
        );
    }
    let Ok(Invocation::Print(help)) = run("--help", &[]) else {
        panic!("no help");
    };
    for words in [
        "\nMember:\n",
        "\nUnsafe:\n",
        "No effect: the log is cut by --snapshot-count",
        "Not supported yet, proxies are not supported",
    ] {
        let text = help.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(help.contains(words) || text.contains(words), "{words}: {help}");
    }
}

#[test]
fn version_help_and_subcommands_leave_the_server_alone() {
    let Ok(Invocation::Print(text)) = run("--version", &[]) else {
        panic!("no version");
    };
    assert!(text.starts_with("etcd Version: 3.7.1\nGit SHA: "), "{text}");
    assert_eq!(text.lines().count(), 4);
    for line in ["-h", "--help", "--name x -h"] {
        assert!(matches!(run(line, &[]), Ok(Invocation::Print(_))), "{line}");
    }
    let Ok(Invocation::Subcommand { name, arguments }) = run("bench put --total 5", &[]) else {
        panic!("no subcommand");
    };
    assert_eq!((name, arguments.len()), ("bench", 4));
}
