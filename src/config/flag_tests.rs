//! Every flag of etcd 3.4 to 3.7, walked: another value than etcd's default changes what is parsed, is refused, or is warned of.

use super::*;
use crate::logging::NoticeLevel;

/// Flags of 3.4.23, 3.5, 3.6 and 3.7.1, each with another value than its default. Those that etcd itself takes and ignores are left
/// out, as are `version`, which runs no member, and `config-file`.
const FLAGS: &[(&str, &str)] = &[
    // Member.
    ("name", "m1"),
    ("data-dir", "/d"),
    ("wal-dir", "/w"),
    ("snapshot-count", "7"),
    ("heartbeat-interval", "77"),
    ("election-timeout", "2000"),
    ("initial-election-tick-advance", "false"),
    ("listen-peer-urls", "http://127.0.0.1:1"),
    ("listen-client-urls", "http://127.0.0.1:1"),
    ("listen-client-http-urls", "http://127.0.0.1:1"),
    ("max-snapshots", "7"),
    ("max-wals", "7"),
    ("quota-backend-bytes", "7"),
    ("backend-bbolt-freelist-type", "array"),
    ("backend-batch-interval", "7s"),
    ("backend-batch-limit", "7"),
    ("max-txn-ops", "7"),
    ("max-request-bytes", "7"),
    ("max-concurrent-streams", "7"),
    ("grpc-keepalive-min-time", "7s"),
    ("grpc-keepalive-interval", "7s"),
    ("grpc-keepalive-timeout", "7s"),
    ("socket-reuse-port", "true"),
    ("socket-reuse-address", "true"),
    ("enable-grpc-gateway", "false"),
    ("raft-read-timeout", "7s"),
    ("raft-write-timeout", "7s"),
    ("memory-mlock", "true"),
    ("feature-gates", "InitialCorruptCheck=true"),
    // Clustering.
    ("initial-advertise-peer-urls", "http://127.0.0.1:1"),
    ("initial-cluster", "default=http://127.0.0.1:1"),
    ("initial-cluster-state", "existing"),
    ("initial-cluster-token", "t"),
    ("advertise-client-urls", "http://127.0.0.1:1"),
    ("discovery", "http://127.0.0.1:1/t"),
    ("discovery-proxy", "http://127.0.0.1:1"),
    ("discovery-fallback", "exit"),
    ("discovery-srv", "example"),
    ("discovery-srv-name", "s"),
    ("discovery-token", "t"),
    ("discovery-endpoints", "127.0.0.1:1"),
    ("discovery-dial-timeout", "7s"),
    ("discovery-request-timeout", "7s"),
    ("discovery-keepalive-time", "7s"),
    ("discovery-keepalive-timeout", "7s"),
    ("discovery-insecure-transport", "false"),
    ("discovery-insecure-skip-tls-verify", "true"),
    ("discovery-cert", "/c"),
    ("discovery-key", "/k"),
    ("discovery-cacert", "/a"),
    ("discovery-user", "u"),
    ("discovery-password", "p"),
    ("strict-reconfig-check", "false"),
    ("pre-vote", "false"),
    ("auto-compaction-mode", "other"),
    ("auto-compaction-retention", "7"),
    ("v2-deprecation", "gone"),
    // Security.
    ("cert-file", "/c"),
    ("key-file", "/k"),
    ("client-cert-file", "/c"),
    ("client-key-file", "/k"),
    ("client-cert-auth", "true"),
    ("client-crl-file", "/r"),
    ("client-cert-allowed-hostname", "h"),
    ("trusted-ca-file", "/a"),
    ("auto-tls", "true"),
    ("peer-cert-file", "/c"),
    ("peer-key-file", "/k"),
    ("peer-client-cert-file", "/c"),
    ("peer-client-key-file", "/k"),
    ("peer-client-cert-auth", "true"),
    ("peer-trusted-ca-file", "/a"),
    ("peer-cert-allowed-cn", "n"),
    ("peer-cert-allowed-hostname", "h"),
    ("peer-auto-tls", "true"),
    ("peer-crl-file", "/r"),
    ("self-signed-cert-validity", "7"),
    ("cipher-suites", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"),
    ("tls-min-version", "TLS1.3"),
    ("tls-max-version", "TLS1.2"),
    ("cors", "http://127.0.0.1:1"),
    ("host-whitelist", "h"),
    // Auth.
    ("auth-token", "jwt"),
    ("bcrypt-cost", "7"),
    ("auth-token-ttl", "7"),
    // Profiling and monitoring.
    ("enable-pprof", "true"),
    ("metrics", "extensive"),
    ("listen-metrics-urls", "http://127.0.0.1:1"),
    // Logging.
    ("logger", "capnslog"),
    ("log-output", "stdout"),
    ("log-outputs", "stdout"),
    ("log-level", "debug"),
    ("log-format", "console"),
    ("enable-log-rotation", "true"),
    ("log-rotation-config-json", "{}"),
    ("log-package-levels", "raft=DEBUG"),
    ("debug", "true"),
    ("warning-unary-request-duration", "7s"),
    // Distributed tracing.
    ("enable-distributed-tracing", "true"),
    ("distributed-tracing-address", "127.0.0.1:1"),
    ("distributed-tracing-service-name", "s"),
    ("distributed-tracing-instance-id", "i"),
    ("distributed-tracing-sampling-rate", "7"),
    // Features.
    ("corrupt-check-time", "7s"),
    ("compact-hash-check-time", "0s"),
    ("compaction-batch-limit", "7"),
    ("compaction-sleep-interval", "7s"),
    ("peer-skip-client-san-verification", "true"),
    ("watch-progress-notify-interval", "7s"),
    ("warning-apply-duration", "7s"),
    ("bootstrap-defrag-threshold-megabytes", "7"),
    ("max-learners", "7"),
    ("downgrade-check-time", "7s"),
    ("snapshot-catchup-entries", "7"),
    // Unsafe.
    ("force-new-cluster", "true"),
    ("unsafe-no-fsync", "true"),
    // v2.
    ("enable-v2", "true"),
    ("proxy", "on"),
    ("proxy-failure-wait", "7"),
    ("proxy-refresh-interval", "7"),
    ("proxy-dial-timeout", "7"),
    ("proxy-write-timeout", "7"),
    ("proxy-read-timeout", "7"),
    ("next-cluster-version-compatible", "true"),
    // Experimental in 3.4 to 3.6, where they have no such name without the word or another one.
    ("experimental-initial-corrupt-check", "true"),
    ("experimental-compact-hash-check-enabled", "true"),
    ("experimental-enable-v2v3", "/v2"),
    ("experimental-enable-lease-checkpoint", "true"),
    ("experimental-enable-lease-checkpoint-persist", "true"),
    ("experimental-txn-mode-write-with-shared-buffer", "false"),
    ("experimental-stop-grpc-service-on-defrag", "true"),
    ("experimental-wait-cluster-ready-timeout", "7s"),
];

/// Those above that 3.4 to 3.6 have with `experimental-` before their names as well.
const ALSO_EXPERIMENTAL: &[&str] = &[
    "backend-bbolt-freelist-type",
    "bootstrap-defrag-threshold-megabytes",
    "compact-hash-check-time",
    "compaction-batch-limit",
    "compaction-sleep-interval",
    "corrupt-check-time",
    "distributed-tracing-address",
    "distributed-tracing-instance-id",
    "distributed-tracing-sampling-rate",
    "distributed-tracing-service-name",
    "downgrade-check-time",
    "enable-distributed-tracing",
    "max-learners",
    "memory-mlock",
    "peer-skip-client-san-verification",
    "snapshot-catchup-entries",
    "warning-apply-duration",
    "warning-unary-request-duration",
    "watch-progress-notify-interval",
];

/// What a member would run with, and be told, or why it would not.
fn outcome(arguments: &[String], environment: &[(&str, &str)], file: &str) -> String {
    let arguments = std::iter::once("callboard").chain(arguments.iter().map(String::as_str));
    let environment = environment
        .iter()
        .map(|(name, value)| (name.into(), value.into()));
    match parse(
        arguments.map(OsString::from),
        environment,
        |_| Ok(file.to_owned()),
    ) {
        Ok(Invocation::Server(mut server)) => {
            server.notices.retain(|notice| notice.level == NoticeLevel::Warn);
            format!("{server:?}")
        }
        Ok(other) => format!("{other:?}"),
        Err(error) => error.to_string(),
    }
}

fn on_line(name: &str, value: &str) -> String {
    outcome(&[format!("--{name}={value}")], &[], "")
}

fn all_flags() -> impl Iterator<Item = (String, &'static str)> {
    let experimental = FLAGS.iter().filter(|(name, _)| ALSO_EXPERIMENTAL.contains(name));
    let experimental = experimental.map(|(name, value)| (format!("experimental-{name}"), *value));
    let plain = FLAGS.iter().map(|(name, value)| ((*name).to_owned(), *value));
    plain.chain(experimental)
}

#[test]
fn no_flag_is_swallowed_in_silence() {
    let without = outcome(&[], &[], "");
    let swallowed: Vec<_> = all_flags()
        .filter(|(name, value)| on_line(name, value) == without)
        .map(|(name, _)| name)
        .collect();
    assert!(swallowed.is_empty(), "{swallowed:?}");
}

#[test]
fn every_flag_is_known_and_has_its_variable_and_its_key_in_a_file() {
    for (name, value) in all_flags() {
        let on_line = on_line(&name, value);
        assert!(!on_line.contains("not defined"), "{on_line}");
        let variable = format!("ETCD_{}", name.to_uppercase().replace('-', "_"));
        assert_eq!(outcome(&[], &[(&variable, value)], ""), on_line, "{variable}");
        // In a file, as a word: numbers and switches are read the same way.
        let value = value.replace('"', "\\\"");
        let in_file = outcome(
            &["--config-file=f".to_owned()],
            &[],
            &format!("{name}: \"{value}\"\n"),
        );
        assert_eq!(in_file, on_line, "{name} in a file");
    }
}

#[test]
fn a_duration_in_a_file_can_be_a_number_of_nanoseconds() {
    for (name, value) in all_flags().filter(|(_, value)| *value == "7s") {
        let file = format!("{name}: 7000000000\n");
        let in_file = outcome(&["--config-file=f".to_owned()], &[], &file);
        let expected = on_line(&name, value).replace("7s", "7000000000ns");
        assert_eq!(in_file.replace("7s", "7000000000ns"), expected, "{name}");
    }
}

#[test]
fn both_names_of_a_flag_mean_the_same() {
    for name in ALSO_EXPERIMENTAL {
        let (_, value) = FLAGS
            .iter()
            .find(|(known, _)| known == name)
            .expect("it is listed");
        let experimental = format!("experimental-{name}");
        let told = on_line(&experimental, value).replace(&experimental, name);
        assert_eq!(told, on_line(name, value));
    }
}
