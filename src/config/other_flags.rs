//! Flags of etcd's that set nothing here. Those without a meaning for this storage or this language are taken, with one warning
//! where they ask for something else than etcd's default; those whose effect is missing are refused where they ask for it.

use super::Error;
use super::values::{boolean, duration, unsigned};
use crate::logging::Notice;

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Switch,
    Number,
    Duration,
    Text,
}

/// What to do with another value than etcd's default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Otherwise {
    /// The reason why it changes nothing.
    Warn(&'static str),
    /// What to do instead, behind a comma; or nothing.
    Refuse(&'static str),
}

/// A flag: name, how it is written, etcd's default, and what is done otherwise.
type OtherFlag = (&'static str, Kind, &'static str, Otherwise);

use Kind::{Duration, Number, Switch, Text};
use Otherwise::{Refuse, Warn};

const BBOLT: Otherwise = Warn("it tunes bbolt, and the storage engine is another one");
const NO_AUTH: Otherwise = Warn("there is no authentication yet");
const NO_TRACING: Otherwise = Warn("there is no distributed tracing");
const NO_PROXY: Otherwise = Refuse(", proxies are not supported");

const FLAGS: &[OtherFlag] = &[
    ("max-snapshots", Number, "5", Warn("no snapshot files are kept")),
    (
        "max-wals",
        Number,
        "5",
        Warn("the log is cut by --snapshot-count"),
    ),
    ("backend-bbolt-freelist-type", Text, "map", BBOLT),
    ("backend-batch-interval", Duration, "100ms", BBOLT),
    ("backend-batch-limit", Number, "10000", BBOLT),
    (
        "bootstrap-defrag-threshold-megabytes",
        Number,
        "0",
        Warn("there is nothing to defragment at a start"),
    ),
    (
        "compaction-batch-limit",
        Number,
        "1000",
        Warn("compaction does not walk over the keys"),
    ),
    (
        "compaction-sleep-interval",
        Duration,
        "10ms",
        Warn("compaction does not walk over the keys"),
    ),
    (
        "memory-mlock",
        Switch,
        "false",
        Warn("memory is not locked: turn swap off instead"),
    ),
    (
        "initial-election-tick-advance",
        Switch,
        "true",
        Warn("elections begin as if it were true"),
    ),
    (
        "raft-read-timeout",
        Duration,
        "5s",
        Warn("silent connections between members are given up after 5 s"),
    ),
    (
        "raft-write-timeout",
        Duration,
        "5s",
        Warn("silent connections between members are given up after 5 s"),
    ),
    (
        "grpc-keepalive-min-time",
        Duration,
        "5s",
        Warn("clients may ping as often as they like"),
    ),
    (
        "socket-reuse-address",
        Switch,
        "false",
        Warn("it is always on, as Go has it"),
    ),
    (
        "downgrade-check-time",
        Duration,
        "5s",
        Warn("there is no downgrade"),
    ),
    (
        "v2-deprecation",
        Text,
        "write-only",
        Warn("nothing is kept of the v2 store"),
    ),
    ("experimental-enable-v2v3", Text, "", Refuse("")),
    (
        "experimental-enable-lease-checkpoint",
        Switch,
        "false",
        Warn("leases are always checkpointed"),
    ),
    (
        "experimental-enable-lease-checkpoint-persist",
        Switch,
        "false",
        Warn("leases are always checkpointed"),
    ),
    (
        "experimental-txn-mode-write-with-shared-buffer",
        Switch,
        "true",
        BBOLT,
    ),
    (
        "experimental-wait-cluster-ready-timeout",
        Duration,
        "5s",
        Warn("clients are served at once: reads and writes wait for a leader"),
    ),
    (
        "experimental-stop-grpc-service-on-defrag",
        Switch,
        "false",
        Warn("defragmentation stops nobody"),
    ),
    (
        "log-package-levels",
        Text,
        "",
        Warn("all packages log at --log-level"),
    ),
    (
        "next-cluster-version-compatible",
        Switch,
        "false",
        Warn("there is no older member to be compatible with"),
    ),
    ("auth-token", Text, "simple", Refuse("")),
    ("bcrypt-cost", Number, "10", NO_AUTH),
    ("auth-token-ttl", Number, "300", NO_AUTH),
    ("enable-distributed-tracing", Switch, "false", NO_TRACING),
    ("distributed-tracing-address", Text, "localhost:4317", NO_TRACING),
    ("distributed-tracing-service-name", Text, "etcd", NO_TRACING),
    ("distributed-tracing-instance-id", Text, "", NO_TRACING),
    ("distributed-tracing-sampling-rate", Number, "0", NO_TRACING),
    (
        "unsafe-no-fsync",
        Switch,
        "false",
        Warn("every write is synced all the same before it is acknowledged"),
    ),
    ("proxy", Text, "off", NO_PROXY),
    ("proxy-failure-wait", Number, "5000", Warn("there is no proxy")),
    (
        "proxy-refresh-interval",
        Number,
        "30000",
        Warn("there is no proxy"),
    ),
    ("proxy-dial-timeout", Number, "1000", Warn("there is no proxy")),
    ("proxy-write-timeout", Number, "5000", Warn("there is no proxy")),
    ("proxy-read-timeout", Number, "0", Warn("there is no proxy")),
];

/// What stands before the names of flags that were new.
const EXPERIMENTAL: &str = "experimental-";

/// Flags that can be written with that word too: both names mean the same.
const ALSO_EXPERIMENTAL: [&str; 11] = [
    "backend-bbolt-freelist-type",
    "bootstrap-defrag-threshold-megabytes",
    "compaction-batch-limit",
    "compaction-sleep-interval",
    "distributed-tracing-address",
    "distributed-tracing-instance-id",
    "distributed-tracing-sampling-rate",
    "distributed-tracing-service-name",
    "downgrade-check-time",
    "enable-distributed-tracing",
    "memory-mlock",
];

fn find(name: &str) -> Option<&'static OtherFlag> {
    let settled = name.strip_prefix(EXPERIMENTAL);
    let name = settled
        .filter(|name| ALSO_EXPERIMENTAL.contains(name))
        .unwrap_or(name);
    FLAGS.iter().find(|(known, ..)| *known == name)
}

/// Whether there is such a flag here.
pub fn known(name: &str) -> bool {
    find(name).is_some()
}

/// Whether it is there and needs no value.
pub fn is_switch(name: &str) -> bool {
    find(name).is_some_and(|(_, kind, ..)| *kind == Switch)
}

/// Whether it is there and its value is a duration.
pub fn is_duration(name: &str) -> bool {
    find(name).is_some_and(|(_, kind, ..)| *kind == Duration)
}

/// Takes such a flag with its value. An error of its text is the reason alone, as Go's flag package puts it.
pub fn take(given: &str, value: &str) -> Result<Result<Option<Notice>, Error>, &'static str> {
    let Some((name, kind, default, otherwise)) = find(given) else {
        return Ok(Ok(None));
    };
    let is_default = match kind {
        Switch => boolean(value)? == (*default == "true"),
        Number => unsigned(value)?.to_string() == *default,
        Duration => duration(value)? == duration(default)?,
        Text => value.is_empty() || value == *default,
    };
    if is_default {
        return Ok(Ok(None));
    }
    Ok(match otherwise {
        Warn(reason) => Ok(Some(Notice::warn(
            "a flag has no effect",
            [
                ("flag", &format!("--{given}")),
                ("value", &value.to_owned()),
                ("reason", &(*reason).to_owned()),
            ],
        ))),
        Refuse(hint) => Err(Error::Unsupported {
            flag: name,
            value: value.to_owned(),
            hint,
        }),
    })
}

/// For `--help`: what becomes of each.
pub fn arguments() -> impl Iterator<Item = clap::Arg> {
    FLAGS.iter().map(|(name, kind, default, otherwise)| {
        let help = match otherwise {
            Warn(reason) => format!("No effect: {reason}"),
            Refuse(hint) => format!("Not supported yet{hint}"),
        };
        let argument = clap::Arg::new(*name)
            .long(*name)
            .help(help)
            .default_value(*default);
        match kind {
            Switch => argument.num_args(0..=1).require_equals(true),
            _ => argument,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_takes_its_default_in_silence_and_says_something_about_any_other_value() {
        let unknown = ALSO_EXPERIMENTAL.iter().find(|name| find(name).is_none());
        assert_eq!(unknown, None);
        for (name, kind, default, otherwise) in FLAGS {
            assert_eq!(take(name, default), Ok(Ok(None)), "{name}");
            let other = match kind {
                Switch if *default == "true" => "false",
                Switch => "true",
                Number => "77",
                Duration => "77s",
                Text => "other",
            };
            let taken = take(name, other).expect("it is well-formed");
            match otherwise {
                Warn(_) => assert!(matches!(taken, Ok(Some(_))), "{name}"),
                Refuse(_) => assert!(matches!(taken, Err(Error::Unsupported { .. })), "{name}"),
            }
            if *kind != Text {
                assert!(take(name, "x").is_err(), "{name}");
            }
            assert!(
                !super::super::flags::sets_something(name),
                "{name} is there twice"
            );
            assert_eq!(FLAGS.iter().filter(|row| row.0 == *name).count(), 1, "{name}");
        }
    }
}
