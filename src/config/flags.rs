//! The flags themselves, and how the environment joins them (etcd's pkg/flags/flag.go).

use super::arguments::{Normalised, SWITCHES};
use super::server::Server;
use super::tls_flags::TlsFlags;
use super::values::{
    Origins, UrlList, boolean, duration, optional_urls, origins, signed, unsigned, unsigned_32, urls,
};
use super::{Error, Invocation};
use crate::logging::Notice;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{ArgAction, CommandFactory, FromArgMatches, Parser};
use std::collections::BTreeSet;
use std::time::Duration;

/// Start a member. Names, defaults and meaning are etcd's; each flag has an environment variable, ETCD_NAME for --name.
#[derive(Debug, Parser)]
#[command(
    name = "callboard",
    disable_version_flag = true,
    args_override_self = true,
    after_help = "Subcommands: bench. See `callboard bench --help`."
)]
pub struct Flags {
    /// Human-readable name of this member.
    #[arg(long, default_value = "default")]
    pub name: String,
    /// Path to the data directory; <name>.etcd if empty.
    #[arg(long, default_value = "")]
    pub data_dir: String,
    /// URLs to listen on for clients, comma-separated.
    #[arg(long, default_value = "http://localhost:2379", value_parser = urls)]
    pub listen_client_urls: UrlList,
    /// Client URLs that this member advertises. Required with --listen-client-urls.
    #[arg(long, default_value = "http://localhost:2379", value_parser = urls)]
    pub advertise_client_urls: UrlList,
    /// URLs to listen on for other members, comma-separated.
    #[arg(long, default_value = "http://localhost:2380", value_parser = urls)]
    pub listen_peer_urls: UrlList,
    /// Peer URLs that this member advertises to the others.
    #[arg(long, default_value = "http://localhost:2380", value_parser = urls)]
    pub initial_advertise_peer_urls: UrlList,
    /// Members of a new cluster: name=url,name=url.
    #[arg(long, default_value = "default=http://localhost:2380")]
    pub initial_cluster: String,
    /// Token from which the ids of a new cluster are derived; clusters with the same URLs need different tokens.
    #[arg(long, default_value = "etcd-cluster")]
    pub initial_cluster_token: String,
    /// `new`, or `existing` to join a cluster.
    #[arg(long, default_value = "new", value_parser = cluster_state)]
    pub initial_cluster_state: String,
    /// Heartbeat interval in milliseconds.
    #[arg(long, default_value = "100", value_parser = unsigned)]
    pub heartbeat_interval: u64,
    /// Election timeout in milliseconds.
    #[arg(long, default_value = "1000", value_parser = unsigned)]
    pub election_timeout: u64,
    /// Number of applied entries after which the log is truncated.
    #[arg(long, default_value = "10000", value_parser = unsigned)]
    pub snapshot_count: u64,
    /// Maximum size of a request in bytes.
    #[arg(long, default_value = "1572864", value_parser = unsigned_32)]
    pub max_request_bytes: u32,
    /// Maximum number of operations in a transaction.
    #[arg(long, default_value = "128", value_parser = unsigned_32)]
    pub max_txn_ops: u32,
    /// Maximum number of concurrent requests on a connection.
    #[arg(long, default_value = "4294967295", value_parser = unsigned_32)]
    pub max_concurrent_streams: u32,
    /// Interval between progress notifications to watchers that request them, for example 10m; at least 100ms.
    #[arg(long, alias = "experimental-watch-progress-notify-interval", default_value = "10m", value_parser = duration,
        allow_hyphen_values = true)]
    pub watch_progress_notify_interval: Duration,
    /// Serve the JSON API on client URLs.
    #[arg(long, default_value = "true", default_missing_value = "true", num_args = 0..=1, require_equals = true,
        action = ArgAction::Set, value_parser = boolean)]
    pub enable_grpc_gateway: bool,
    /// Allowed CORS origins, comma-separated; * for all.
    #[arg(long, default_value = "*", value_parser = origins)]
    pub cors: Origins,
    /// Run a pre-vote before an election.
    #[arg(long, default_value = "true", default_missing_value = "true", num_args = 0..=1, require_equals = true,
        action = ArgAction::Set, value_parser = boolean)]
    pub pre_vote: bool,
    /// Reject membership changes that would lose the quorum. Only true is supported.
    #[arg(long, default_value = "true", default_missing_value = "true", num_args = 0..=1, require_equals = true,
        action = ArgAction::Set, value_parser = boolean)]
    pub strict_reconfig_check: bool,
    /// Serve the v2 API. Only false is supported.
    #[arg(long, default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true,
        action = ArgAction::Set, value_parser = boolean)]
    pub enable_v2: bool,
    /// Maximum live bytes: all revisions that are not compacted. Beyond it, writes are rejected. 0 means 2 GiB, a negative
    /// value no limit.
    #[arg(long, default_value = "0", value_parser = signed, allow_hyphen_values = true)]
    pub quota_backend_bytes: i64,
    /// Free bytes to keep on the disk: with fewer, writes are rejected. 0 means 256 MiB, or a quarter of a small disk; a
    /// negative value none. Not in etcd.
    #[arg(long, default_value = "0", value_parser = signed, allow_hyphen_values = true)]
    pub quota_free_disk_bytes: i64,
    /// `periodic` or `revision`.
    #[arg(long, default_value = "periodic")]
    pub auto_compaction_mode: String,
    /// Retention of automatic compaction: a period, such as 30m (a bare number means hours), or a number of revisions. 0
    /// disables it.
    #[arg(long, default_value = "0", allow_hyphen_values = true)]
    pub auto_compaction_retention: String,
    #[command(flatten)]
    pub tls: TlsFlags,
    /// Experimental features: Name=true,Name=false.
    #[arg(long, default_value = "")]
    pub feature_gates: String,
    /// Compare with the other members before serving clients; same as --feature-gates=InitialCorruptCheck=true.
    #[arg(long, default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true,
        action = ArgAction::Set, value_parser = boolean)]
    pub experimental_initial_corrupt_check: bool,
    /// Interval between corruption checks of the whole state, for example 10m; 0s disables them.
    #[arg(long, alias = "experimental-corrupt-check-time", default_value = "0s", value_parser = duration,
        allow_hyphen_values = true)]
    pub corrupt_check_time: Duration,
    /// Compare hashes at the newest compaction; same as --feature-gates=CompactHashCheck=true.
    #[arg(long, default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true,
        action = ArgAction::Set, value_parser = boolean)]
    pub experimental_compact_hash_check_enabled: bool,
    /// Interval between compaction hash checks.
    #[arg(long, alias = "experimental-compact-hash-check-time", default_value = "1m", value_parser = duration,
        allow_hyphen_values = true)]
    pub compact_hash_check_time: Duration,
    /// Rate of the hourly scrub, which reads all data from the disk and verifies it; 0 disables it. Not in etcd.
    #[arg(long, default_value = "4194304", value_parser = unsigned)]
    pub scrub_bytes_per_second: u64,
    /// Only zap: JSON lines in its layout.
    #[arg(long, default_value = "zap")]
    pub logger: String,
    /// `stderr`, `stdout`, or `default`, which is stderr.
    #[arg(long, default_value = "default")]
    pub log_outputs: String,
    /// debug, info, warn, error, panic or fatal.
    #[arg(long, default_value = "info")]
    pub log_level: String,
    /// `json` or `console`.
    #[arg(long, default_value = "json")]
    pub log_format: String,
    /// Additional URLs that serve /metrics, /health, /livez and /readyz, comma-separated.
    #[arg(long, default_value = "", value_parser = optional_urls)]
    pub listen_metrics_urls: UrlList,
    /// `basic`, or `extensive` to add latency histograms of calls.
    #[arg(long, default_value = "basic")]
    pub metrics: String,
    /// Log a warning when applying a batch takes longer, for example 100ms.
    #[arg(long, alias = "experimental-warning-apply-duration", default_value = "100ms", value_parser = duration,
        allow_hyphen_values = true)]
    pub warning_apply_duration: Duration,
    /// Go profiling. Only false is supported.
    #[arg(long, default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true,
        action = ArgAction::Set, value_parser = boolean)]
    pub enable_pprof: bool,
    /// Print the version and exit.
    #[arg(long, default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true,
        action = ArgAction::Set, value_parser = boolean)]
    pub version: bool,
    /// Flags given on the command line or in the environment.
    #[arg(skip)]
    pub given: BTreeSet<String>,
}

fn cluster_state(text: &str) -> Result<String, &'static str> {
    match text {
        "new" | "existing" => Ok(text.to_owned()),
        _ => Err("invalid value"),
    }
}

/// Whether there is such a flag.
pub fn known(name: &str) -> bool {
    Flags::command().get_arguments().any(|argument| {
        let aliases = argument.get_all_aliases().unwrap_or_default();
        argument.get_long() == Some(name) || aliases.contains(&name)
    })
}

/// Reads flags and environment into what they ask for.
pub fn read(line: Normalised, environment: &[(String, String)]) -> Result<Invocation, Error> {
    let given = match read_flags(&line.flags) {
        Ok(flags) => flags.given,
        Err(FlagFailure::Help(text)) => return Ok(Invocation::Print(text)),
        Err(FlagFailure::Bad(_, message)) => return Err(Error::Usage(message)),
    };
    if let Some(word) = line.word {
        return Err(Error::Positional(word));
    }
    let mut words = line.flags;
    let mut notices = Vec::new();
    for (variable, value) in environment {
        let Some(name) = flag_of(variable) else {
            continue;
        };
        if name == "version" {
            notices.push(Notice::warn(
                "cannot set special environment variable",
                [("key", variable), ("value", value)],
            ));
        } else if name == "config-file" && !value.is_empty() {
            return Err(Error::Unsupported {
                flag: "config-file",
                value: value.clone(),
                hint: ", unset ETCD_CONFIG_FILE",
            });
        } else if !known(&name) {
            let setting = format!("{variable}={value}");
            notices.push(Notice::warn(
                "unrecognized environment variable",
                [("environment-variable", &setting)],
            ));
        } else if given.contains(&name) {
            return Err(Error::Shadowed(variable.clone()));
        } else if !value.is_empty() {
            let word = format!("--{name}={value}");
            if let Err(FlagFailure::Bad(reason, _)) = read_flags(std::slice::from_ref(&word)) {
                return Err(Error::Environment {
                    variable: variable.clone(),
                    value: value.clone(),
                    reason,
                });
            }
            words.push(word);
            notices.push(Notice::info(
                "recognized and used environment variable",
                [("variable-name", variable), ("variable-value", value)],
            ));
        }
    }
    match read_flags(&words) {
        Ok(flags) if flags.version => Ok(Invocation::Print(super::version_text())),
        Ok(flags) => Server::new(flags, notices).map(|server| Invocation::Server(Box::new(server))),
        Err(FlagFailure::Help(text)) => Ok(Invocation::Print(text)),
        Err(FlagFailure::Bad(_, message)) => Err(Error::Usage(message)),
    }
}

/// The flag that a variable stands for: ETCD_DATA_DIR for data-dir.
fn flag_of(variable: &str) -> Option<String> {
    let name = variable.strip_prefix("ETCD_")?;
    Some(name.to_ascii_lowercase().replace('_', "-"))
}

enum FlagFailure {
    Help(String),
    /// The reason alone, and the whole message.
    Bad(String, String),
}

fn read_flags(words: &[String]) -> Result<Flags, FlagFailure> {
    let program = std::iter::once("callboard");
    let matches = Flags::command()
        .try_get_matches_from(program.chain(words.iter().map(String::as_str)))
        .map_err(|error| failure(&error))?;
    let mut flags = Flags::from_arg_matches(&matches).map_err(|error| failure(&error))?;
    for id in matches.ids() {
        if matches.value_source(id.as_str()) == Some(ValueSource::CommandLine) {
            flags.given.insert(id.as_str().replace('_', "-"));
        }
    }
    Ok(flags)
}

/// Puts clap's errors in Go's words.
fn failure(error: &clap::Error) -> FlagFailure {
    if error.kind() == ErrorKind::DisplayHelp {
        return FlagFailure::Help(error.to_string());
    }
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        _ => String::new(),
    };
    let argument = context(ContextKind::InvalidArg);
    let name = argument
        .trim_start_matches('-')
        .split([' ', '=', '['])
        .next()
        .unwrap_or_default();
    let value = context(ContextKind::InvalidValue);
    let reason =
        std::error::Error::source(error).map_or_else(|| error.kind().to_string(), ToString::to_string);
    let message = if name.is_empty() {
        error.to_string()
    } else if SWITCHES.contains(&name) {
        format!("invalid boolean value {value:?} for -{name}: {reason}")
    } else {
        format!("invalid value {value:?} for flag -{name}: {reason}")
    };
    FlagFailure::Bad(reason, message)
}
