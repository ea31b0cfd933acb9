//! The flags themselves, and how the environment joins them (etcd's pkg/flags/flag.go).

use super::arguments::Normalised;
use super::discovery_flags::DiscoveryFlags;
use super::log_flags::LogFlags;
use super::server::Server;
use super::tls_flags::TlsFlags;
use super::values::{
    Origins, UrlList, boolean, duration, optional_urls, origins, signed, unsigned, unsigned_32, urls,
};
use super::{Error, Invocation, file, groups, other_flags};
use crate::logging::Notice;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{ArgAction, CommandFactory, FromArgMatches, Parser};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

/// Start a member. Names, defaults and meaning are etcd's; each flag has an environment variable, ETCD_NAME for --name.
#[derive(Debug, Parser)]
#[command(name = "callboard", disable_version_flag = true, args_override_self = true)]
pub struct Flags {
    /// Human-readable name of this member.
    #[arg(long, default_value = "default")]
    pub name: String,
    /// Path to the data directory; <name>.etcd if empty.
    #[arg(long, default_value = "")]
    pub data_dir: String,
    /// Directory of the log, for a disk of its own; below the data directory if empty.
    #[arg(long, default_value = "")]
    pub wal_dir: String,
    /// URLs to listen on for clients, comma-separated.
    #[arg(long, default_value = "http://localhost:2379", value_parser = urls)]
    pub listen_client_urls: UrlList,
    /// URLs to listen on for plain HTTP of clients, comma-separated. With any, --listen-client-urls serve gRPC alone.
    #[arg(long, default_value = "", value_parser = optional_urls)]
    pub listen_client_http_urls: UrlList,
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
    #[command(flatten)]
    pub discovery: DiscoveryFlags,
    /// Go on alone after the majority is lost for good: all other members are removed, and nobody is asked. For one start.
    #[arg(long, default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true,
        action = ArgAction::Set, value_parser = boolean)]
    pub force_new_cluster: bool,
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
    /// Interval after which an idle connection of a client is pinged, for example 2h.
    #[arg(long, default_value = "2h", value_parser = duration)]
    pub grpc_keepalive_interval: Duration,
    /// Time after which a connection is closed whose client has not answered a ping.
    #[arg(long, default_value = "20s", value_parser = duration)]
    pub grpc_keepalive_timeout: Duration,
    /// Serve the JSON API on client URLs.
    #[arg(long, default_value = "true", default_missing_value = "true", num_args = 0..=1, require_equals = true,
        action = ArgAction::Set, value_parser = boolean)]
    pub enable_grpc_gateway: bool,
    /// Allowed CORS origins, comma-separated; * for all.
    #[arg(long, default_value = "*", value_parser = origins)]
    pub cors: Origins,
    /// Names under which plain HTTP without TLS is answered, comma-separated; empty or * for any.
    #[arg(long, default_value = "*")]
    pub host_whitelist: String,
    /// Let other processes listen on the same ports (SO_REUSEPORT).
    #[arg(long, default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true,
        action = ArgAction::Set, value_parser = boolean)]
    pub socket_reuse_port: bool,
    /// Run a pre-vote before an election.
    #[arg(long, default_value = "true", default_missing_value = "true", num_args = 0..=1, require_equals = true,
        action = ArgAction::Set, value_parser = boolean)]
    pub pre_vote: bool,
    /// Reject membership changes that would lose the quorum.
    #[arg(long, default_value = "true", default_missing_value = "true", num_args = 0..=1, require_equals = true,
        action = ArgAction::Set, value_parser = boolean)]
    pub strict_reconfig_check: bool,
    /// Make this member a voter as soon as it has caught up, if it was added as a learner. Not in etcd.
    #[arg(long, default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true,
        action = ArgAction::Set, value_parser = boolean)]
    pub auto_promote: bool,
    /// So many learners the cluster may have at a time.
    #[arg(long, alias = "experimental-max-learners", default_value = "1", value_parser = unsigned)]
    pub max_learners: u64,
    /// Serve the v2 API. Not yet: a warning says so.
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
    /// Number of entries to keep for slow followers when the log is truncated.
    #[arg(long, alias = "experimental-snapshot-catchup-entries", default_value = "5000", value_parser = unsigned)]
    pub snapshot_catchup_entries: u64,
    /// Interval between progress notifications to watchers that request them, for example 10m; at least 100ms.
    #[arg(long, alias = "experimental-watch-progress-notify-interval", default_value = "10m", value_parser = duration,
        allow_hyphen_values = true)]
    pub watch_progress_notify_interval: Duration,
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
    #[command(flatten)]
    pub log: LogFlags,
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
    /// Log a warning when a unary request takes longer, for example 300ms.
    #[arg(long, alias = "experimental-warning-unary-request-duration", default_value = "300ms", value_parser = duration,
        allow_hyphen_values = true)]
    pub warning_unary_request_duration: Duration,
    /// Go profiling. Only false is supported.
    #[arg(long, default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true,
        action = ArgAction::Set, value_parser = boolean)]
    pub enable_pprof: bool,
    /// Configuration file in YAML or JSON. All other flags and the environment are ignored.
    #[arg(long, default_value = "")]
    pub config_file: String,
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
    sets_something(name) || other_flags::known(name)
}

/// Whether it is one of [`Flags`].
pub fn sets_something(name: &str) -> bool {
    find(name).is_some()
}

/// Whether it needs no value; one can follow `=`.
pub fn is_switch(name: &str) -> bool {
    let has_optional_value = |argument: clap::Arg| {
        argument
            .get_num_args()
            .is_some_and(|values| values.min_values() == 0)
    };
    find(name).is_some_and(has_optional_value) || other_flags::is_switch(name)
}

/// Whether its value is a duration.
pub fn is_duration(name: &str) -> bool {
    let default = find(name).and_then(|argument| {
        let default = argument.get_default_values().first()?;
        default.to_str().map(ToOwned::to_owned)
    });
    default.is_some_and(|default| duration(&default).is_ok() && unsigned(&default).is_err())
        || other_flags::is_duration(name)
}

fn find(name: &str) -> Option<clap::Arg> {
    let command = Flags::command();
    let mut arguments = command.get_arguments();
    let found = arguments.find(|argument| {
        let aliases = argument.get_all_aliases().unwrap_or_default();
        argument.get_long() == Some(name) || aliases.contains(&name)
    });
    found.cloned()
}

/// Reads flags, environment and configuration file into what they ask for.
pub fn read(
    line: Normalised,
    environment: &[(String, String)],
    read_file: impl Fn(&Path) -> Result<String, String>,
) -> Result<Invocation, Error> {
    let mut notices = Vec::new();
    let on_line = match read_flags(&line.flags, &mut Vec::new()) {
        Ok(flags) => flags,
        Err(failure) => return failure.into_outcome(),
    };
    if let Some(word) = line.word {
        return Err(Error::Positional(word));
    }
    if on_line.version {
        return Ok(Invocation::Print(super::version_text()));
    }
    let in_environment = environment
        .iter()
        .find(|(name, value)| name == "ETCD_CONFIG_FILE" && !value.is_empty())
        .map(|(_, path)| path.clone());
    let path = Some(on_line.config_file).filter(|path| !path.is_empty());
    let words = if let Some(path) = path.or(in_environment) {
        notices.push(Notice::info(
            "loaded server configuration, other configuration command line flags and environment variables will be ignored if provided",
            [("path", &path)],
        ));
        let text = read_file(Path::new(&path)).map_err(|reason| Error::File {
            path: path.clone(),
            reason,
        })?;
        file::flags(&path, &text)?
    } else {
        let mut words = line.flags;
        words.extend(words_of_environment(environment, &on_line.given, &mut notices)?);
        words
    };
    match read_flags(&words, &mut notices) {
        Ok(flags) => Server::new(flags, notices).map(|server| Invocation::Server(Box::new(server))),
        Err(failure) => failure.into_outcome(),
    }
}

/// Variables as flags, but for those that stand on the command line.
fn words_of_environment(
    environment: &[(String, String)],
    given: &BTreeSet<String>,
    notices: &mut Vec<Notice>,
) -> Result<Vec<String>, Error> {
    let mut words = Vec::new();
    for (variable, value) in environment {
        let Some(name) = flag_of(variable) else {
            continue;
        };
        if name == "version" {
            notices.push(Notice::warn(
                "cannot set special environment variable",
                [("key", variable), ("value", value)],
            ));
        } else if !known(&name) {
            let setting = format!("{variable}={value}");
            notices.push(Notice::warn(
                "unrecognized environment variable",
                [("environment-variable", &setting)],
            ));
        } else if given.contains(&name) {
            // Unit files with a file of defaults and flags behind it are common. etcd refuses them since 3.3.
            notices.push(Notice::warn(
                "environment variable is shadowed by corresponding command-line flag",
                [("environment-variable", variable)],
            ));
        } else if !value.is_empty() {
            let word = format!("--{name}={value}");
            if let Err(FlagFailure::Bad(reason, _)) = read_flags(std::slice::from_ref(&word), &mut Vec::new())
            {
                return Err(Error::Environment {
                    variable: variable.clone(),
                    value: value.clone(),
                    reason,
                });
            }
            words.push(word);
            let hidden = "******".to_owned();
            let shown = match name.as_str() {
                "discovery-user" | "discovery-password" => &hidden,
                _ => value,
            };
            notices.push(Notice::info(
                "recognized and used environment variable",
                [("variable-name", variable), ("variable-value", shown)],
            ));
        }
    }
    Ok(words)
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
    Refused(Error),
}

impl FlagFailure {
    fn into_outcome(self) -> Result<Invocation, Error> {
        match self {
            Self::Help(text) => Ok(Invocation::Print(text)),
            Self::Bad(_, message) => Err(Error::Usage(message)),
            Self::Refused(error) => Err(error),
        }
    }
}

/// What the words set, and what is to be said of those that set nothing.
fn read_flags(words: &[String], notices: &mut Vec<Notice>) -> Result<Flags, FlagFailure> {
    let mut setting = vec!["callboard"];
    let mut given = BTreeSet::new();
    for word in words {
        let flag = word.trim_start_matches('-');
        let (name, value) = flag.split_once('=').unwrap_or((flag, "true"));
        if !other_flags::known(name) {
            setting.push(word);
            continue;
        }
        let taken = other_flags::take(name, value).map_err(|reason| bad(name, value, reason.to_owned()))?;
        notices.extend(taken.map_err(FlagFailure::Refused)?);
        given.insert(name.to_owned());
    }
    let matches = groups::grouped(Flags::command().args(other_flags::arguments()))
        .after_help("Subcommands: bench. See `callboard bench --help`.")
        .try_get_matches_from(setting)
        .map_err(|error| failure(&error))?;
    let mut flags = Flags::from_arg_matches(&matches).map_err(|error| failure(&error))?;
    flags.given = given;
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
    if name.is_empty() {
        return FlagFailure::Bad(reason, error.to_string());
    }
    bad(name, &value, reason)
}

fn bad(name: &str, value: &str, reason: String) -> FlagFailure {
    let message = if is_switch(name) {
        format!("invalid boolean value {value:?} for -{name}: {reason}")
    } else {
        format!("invalid value {value:?} for flag -{name}: {reason}")
    };
    FlagFailure::Bad(reason, message)
}
