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
    after_help = "Subcommands: bench. `callboard bench --help` tells more."
)]
pub struct Flags {
    /// Human-readable name of this member.
    #[arg(long, default_value = "default")]
    pub name: String,
    /// Path to the data directory; <name>.etcd if empty.
    #[arg(long, default_value = "")]
    pub data_dir: String,
    /// URLs to listen on for clients, between commas.
    #[arg(long, default_value = "http://localhost:2379", value_parser = urls)]
    pub listen_client_urls: UrlList,
    /// This member's client URLs, as others shall dial them. Needed when --listen-client-urls is given.
    #[arg(long, default_value = "http://localhost:2379", value_parser = urls)]
    pub advertise_client_urls: UrlList,
    /// URLs to listen on for other members, between commas.
    #[arg(long, default_value = "http://localhost:2380", value_parser = urls)]
    pub listen_peer_urls: UrlList,
    /// This member's peer URLs, as others shall dial them.
    #[arg(long, default_value = "http://localhost:2380", value_parser = urls)]
    pub initial_advertise_peer_urls: UrlList,
    /// The members of a new cluster: name=url,name=url.
    #[arg(long, default_value = "default=http://localhost:2380")]
    pub initial_cluster: String,
    /// Goes into the ids of a new cluster, so that two clusters of the same URLs can be told apart.
    #[arg(long, default_value = "etcd-cluster")]
    pub initial_cluster_token: String,
    /// `new`, or `existing` for a member that joins.
    #[arg(long, default_value = "new", value_parser = cluster_state)]
    pub initial_cluster_state: String,
    /// Milliseconds between heartbeats.
    #[arg(long, default_value = "100", value_parser = unsigned)]
    pub heartbeat_interval: u64,
    /// Milliseconds without a heartbeat until an election.
    #[arg(long, default_value = "1000", value_parser = unsigned)]
    pub election_timeout: u64,
    /// Applied entries between two cuts of the log.
    #[arg(long, default_value = "10000", value_parser = unsigned)]
    pub snapshot_count: u64,
    /// What one request may take, in bytes.
    #[arg(long, default_value = "1572864", value_parser = unsigned_32)]
    pub max_request_bytes: u32,
    /// Operations in one transaction.
    #[arg(long, default_value = "128", value_parser = unsigned_32)]
    pub max_txn_ops: u32,
    /// Requests under way on one connection.
    #[arg(long, default_value = "4294967295", value_parser = unsigned_32)]
    pub max_concurrent_streams: u32,
    /// Between two reports of progress to watchers that ask for them, for example 10m. At least 100ms.
    #[arg(long, alias = "experimental-watch-progress-notify-interval", default_value = "10m", value_parser = duration,
        allow_hyphen_values = true)]
    pub watch_progress_notify_interval: Duration,
    /// Answer the JSON form of the API on client URLs.
    #[arg(long, default_value = "true", default_missing_value = "true", num_args = 0..=1, require_equals = true,
        action = ArgAction::Set, value_parser = boolean)]
    pub enable_grpc_gateway: bool,
    /// Origins whose web pages may use the API, between commas; * for all.
    #[arg(long, default_value = "*", value_parser = origins)]
    pub cors: Origins,
    /// Ask for votes before raising the term.
    #[arg(long, default_value = "true", default_missing_value = "true", num_args = 0..=1, require_equals = true,
        action = ArgAction::Set, value_parser = boolean)]
    pub pre_vote: bool,
    /// Refuse changes of members that would lose the quorum. Only true so far.
    #[arg(long, default_value = "true", default_missing_value = "true", num_args = 0..=1, require_equals = true,
        action = ArgAction::Set, value_parser = boolean)]
    pub strict_reconfig_check: bool,
    /// The API of etcd 2. Only false so far.
    #[arg(long, default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true,
        action = ArgAction::Set, value_parser = boolean)]
    pub enable_v2: bool,
    /// Bytes that may live: all revisions that are not compacted. 0 for 2 GiB, negative for no limit. Beyond it writes are
    /// refused until there is room.
    #[arg(long, default_value = "0", value_parser = signed, allow_hyphen_values = true)]
    pub quota_backend_bytes: i64,
    /// Bytes that must stay free on the disk: with less, writes are refused until there is room. 0 for 256 MiB, or a quarter
    /// of a small disk; negative for none. Callboard's own.
    #[arg(long, default_value = "0", value_parser = signed, allow_hyphen_values = true)]
    pub quota_free_disk_bytes: i64,
    /// `periodic` or `revision`.
    #[arg(long, default_value = "periodic")]
    pub auto_compaction_mode: String,
    /// What the leader keeps when it compacts by itself: a period, such as 30m (a bare number counts hours), or a number of
    /// revisions. 0 for all.
    #[arg(long, default_value = "0", allow_hyphen_values = true)]
    pub auto_compaction_retention: String,
    #[command(flatten)]
    pub tls: TlsFlags,
    /// Experimental features: Name=true,Name=false.
    #[arg(long, default_value = "")]
    pub feature_gates: String,
    /// Compare with the other members before serving anybody, as --feature-gates=InitialCorruptCheck=true does.
    #[arg(long, default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true,
        action = ArgAction::Set, value_parser = boolean)]
    pub experimental_initial_corrupt_check: bool,
    /// Between two comparisons of all that the members hold, for example 10m. 0s: none.
    #[arg(long, alias = "experimental-corrupt-check-time", default_value = "0s", value_parser = duration,
        allow_hyphen_values = true)]
    pub corrupt_check_time: Duration,
    /// Compare what members hold at the newest compaction, as --feature-gates=CompactHashCheck=true does.
    #[arg(long, default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true,
        action = ArgAction::Set, value_parser = boolean)]
    pub experimental_compact_hash_check_enabled: bool,
    /// Between two such comparisons.
    #[arg(long, alias = "experimental-compact-hash-check-time", default_value = "1m", value_parser = duration,
        allow_hyphen_values = true)]
    pub compact_hash_check_time: Duration,
    /// How fast all data is read back from the disk and checked, once an hour. 0: not at all. etcd has no such flag.
    #[arg(long, default_value = "4194304", value_parser = unsigned)]
    pub scrub_bytes_per_second: u64,
    /// Only zap: one JSON object a line, in its layout.
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
    /// URLs to answer /metrics, /health, /livez and /readyz on, besides those for clients; between commas.
    #[arg(long, default_value = "", value_parser = optional_urls)]
    pub listen_metrics_urls: UrlList,
    /// `basic`, or `extensive`, which adds how long calls take.
    #[arg(long, default_value = "basic")]
    pub metrics: String,
    /// What applying a batch may take until a warning is logged, for example 100ms.
    #[arg(long, alias = "experimental-warning-apply-duration", default_value = "100ms", value_parser = duration,
        allow_hyphen_values = true)]
    pub warning_apply_duration: Duration,
    /// Profiles of a Go program. Only false.
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
        Err(Failure::Help(text)) => return Ok(Invocation::Print(text)),
        Err(Failure::Bad(_, message)) => return Err(Error::Usage(message)),
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
            if let Err(Failure::Bad(reason, _)) = read_flags(std::slice::from_ref(&word)) {
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
        Err(Failure::Help(text)) => Ok(Invocation::Print(text)),
        Err(Failure::Bad(_, message)) => Err(Error::Usage(message)),
    }
}

/// The flag that a variable stands for: ETCD_DATA_DIR for data-dir.
fn flag_of(variable: &str) -> Option<String> {
    let name = variable.strip_prefix("ETCD_")?;
    Some(name.to_ascii_lowercase().replace('_', "-"))
}

enum Failure {
    Help(String),
    /// The reason alone, and the whole message.
    Bad(String, String),
}

fn read_flags(words: &[String]) -> Result<Flags, Failure> {
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
fn failure(error: &clap::Error) -> Failure {
    if error.kind() == ErrorKind::DisplayHelp {
        return Failure::Help(error.to_string());
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
    Failure::Bad(reason, message)
}
