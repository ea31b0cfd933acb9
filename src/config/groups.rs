//! Under which heading `--help` shows a flag: etcd's (server/etcdmain/help.go). Those that etcd does not have stand beside their
//! likes.

use clap::Command;

/// Headings, and the flags below each; a name that ends with `*` stands for all that begin so. TLS and logs have theirs where their
/// flags are.
const GROUPS: &[(&str, &[&str])] = &[
    (
        "Member",
        &[
            "name",
            "data-dir",
            "wal-dir",
            "snapshot-count",
            "heartbeat-interval",
            "election-timeout",
            "listen-peer-urls",
            "listen-client-*",
            "max-*",
            "quota-*",
            "backend-*",
            "memory-mlock",
            "initial-election-tick-advance",
            "grpc-keepalive-*",
            "raft-*",
            "socket-*",
            "enable-grpc-gateway",
            "feature-gates",
            "config-file",
            "version",
        ],
    ),
    (
        "Clustering",
        &[
            "initial-*",
            "advertise-client-urls",
            "discovery*",
            "strict-reconfig-check",
            "pre-vote",
            "auto-promote",
        ],
    ),
    ("Security", &["cors", "host-whitelist"]),
    ("Auth", &["auth-token*", "bcrypt-cost"]),
    (
        "Profiling and Monitoring",
        &["enable-pprof", "metrics", "listen-metrics-urls"],
    ),
    ("Logging", &["warning-*", "log-*"]),
    (
        "Distributed tracing",
        &["enable-distributed-tracing", "distributed-tracing-*"],
    ),
    ("Compaction", &["auto-compaction-*", "compaction-*"]),
    (
        "v2",
        &[
            "enable-v2",
            "v2-deprecation",
            "proxy*",
            "next-cluster-version-compatible",
        ],
    ),
    (
        "Features",
        &[
            "corrupt-check-time",
            "compact-hash-check-time",
            "watch-progress-notify-interval",
            "snapshot-catchup-entries",
            "scrub-bytes-per-second",
            "downgrade-check-time",
            "bootstrap-defrag-threshold-megabytes",
            "experimental-*",
        ],
    ),
    ("Unsafe", &["force-new-cluster", "unsafe-no-fsync"]),
];

/// The command with its flags below their headings.
pub fn grouped(command: Command) -> Command {
    command.mut_args(|argument| match argument.get_long().and_then(heading) {
        Some(heading) => argument.help_heading(heading),
        None => argument,
    })
}

fn heading(flag: &str) -> Option<&'static str> {
    let fits = |pattern: &&str| match pattern.strip_suffix('*') {
        Some(beginning) => flag.starts_with(beginning),
        None => flag == *pattern,
    };
    let found = GROUPS.iter().find(|(_, flags)| flags.iter().any(fits));
    found.map(|(heading, _)| *heading)
}

#[cfg(test)]
mod tests {
    use super::super::flags::Flags;
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn every_flag_has_a_heading() {
        let command = grouped(Flags::command().args(super::super::other_flags::arguments()));
        let headings: Vec<(&str, Option<&str>)> = command
            .get_arguments()
            .filter_map(|argument| Some((argument.get_long()?, argument.get_help_heading())))
            .collect();
        let without = headings.iter().filter(|(_, heading)| heading.is_none());
        assert_eq!(without.collect::<Vec<_>>(), [&("", None); 0]);
        for (flag, heading) in [
            ("name", "Member"),
            ("initial-cluster", "Clustering"),
            ("peer-cert-allowed-cn", "Security"),
            ("log-level", "Logging"),
            ("auto-compaction-mode", "Compaction"),
            ("corrupt-check-time", "Features"),
        ] {
            assert!(headings.contains(&(flag, Some(heading))), "{flag}: {headings:?}");
        }
    }
}
