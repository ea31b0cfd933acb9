//! What can be wrong with a command line, and the exit code that etcd leaves with.

use crate::cluster::{InitialClusterError, UrlError};

/// A command line or environment that no member can be started with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The flags cannot be read.
    #[error("{0}")]
    Usage(String),
    /// A word that is no flag.
    #[error("{0:?} is not a valid flag")]
    Positional(String),
    /// A variable's value cannot be read.
    #[error("invalid value {value:?} for {variable}: {reason}")]
    Environment {
        variable: String,
        value: String,
        reason: String,
    },
    /// `--config-file` cannot be read, or does not say what a configuration file may say.
    #[error("error parsing configuration file {path}: {reason}")]
    File { path: String, reason: String },
    #[error(transparent)]
    Url(#[from] UrlError),
    #[error("--initial-advertise-peer-urls {0:?} must be \"host:port\" ({1})")]
    AdvertisePeerUrls(String, UrlError),
    #[error(
        "--advertise-client-urls {0:?} must be in the format \"host:port\", \"unix:/path/to/socket\" or \"unixs:/path/to/socket\" ({1})"
    )]
    AdvertiseClientUrls(String, UrlError),
    #[error("--advertise-client-urls is required when --listen-client-urls is set explicitly")]
    AdvertiseClientUrlsUnset,
    /// etcd 3.6's text: it has the same four.
    #[error(
        "multiple discovery or bootstrap flags are set. Choose one of \"initial-cluster\", \"discovery\", \"discovery-endpoints\" \
         or \"discovery-srv\""
    )]
    BootstrapFlags,
    #[error("both --discovery-token and --discovery-endpoints must be set")]
    DiscoveryTokenOrEndpoints,
    #[error("--discovery-endpoints must not contain empty endpoints")]
    DiscoveryEndpointEmpty,
    #[error("cannot bind both --listen-client-urls and --listen-client-http-urls on the same url {0}")]
    ListenClientHttpUrlTaken(String),
    #[error("--heartbeat-interval must be >0 (set to 0ms)")]
    HeartbeatZero,
    #[error("--election-timeout must be >0 (set to 0ms)")]
    ElectionZero,
    #[error(
        "--election-timeout[{election_ms}ms] should be at least as 5 times as --heartbeat-interval[{heartbeat_ms}ms]"
    )]
    ElectionShort { election_ms: u64, heartbeat_ms: u64 },
    #[error("--election-timeout[{0}ms] is too long, and should be set less than 50000ms")]
    ElectionLong(u64),
    #[error("--compact-hash-check-time must be >0 (set to 0s)")]
    CompactHashCheckTimeZero,
    #[error("undefined auto-compaction-mode")]
    CompactionModeEmpty,
    #[error("unknown auto-compaction-mode {0:?}")]
    CompactionMode(String),
    #[error("unexpected TLS version {0:?} (must be one of: TLS1.2, TLS1.3)")]
    TlsVersion(String),
    #[error("min version ({min}) is greater than max version ({max})")]
    TlsVersions { min: String, max: String },
    #[error("cipher suites cannot be configured when only TLS1.3 is enabled")]
    CipherSuitesTls13,
    #[error("unexpected TLS cipher suite {0:?}")]
    CipherSuite(String),
    #[error(
        "AllowedCNs and AllowedHostnames are mutually exclusive: give --peer-cert-allowed-cn or --peer-cert-allowed-hostname"
    )]
    AllowedNames,
    #[error("error parsing CompactionRetention: time: invalid duration {0:?}")]
    CompactionRetention(String),
    #[error("--logger=capnslog is removed in v3.5")]
    LoggerRemoved,
    #[error("unknown logger option {0:?}")]
    Logger(String),
    #[error("unrecognized level: {0:?}")]
    LogLevel(String),
    #[error("unknown log format: {0}, supported values json, console")]
    LogFormat(String),
    #[error("multi logoutput for \"default\" is not supported yet")]
    LogOutputsDefault,
    #[error(
        "running with systemd/journal but other '--log-outputs' values ({0}) are configured with 'default'; override 'default' value with something else"
    )]
    LogOutputsJournal(String),
    #[error("--log-outputs requires a single file path when --log-rotate-config-json is defined")]
    LogRotationOutputs,
    #[error("improperly formatted log rotation config: {0}")]
    LogRotationSyntax(String),
    #[error("invalid log rotation config: {0}")]
    LogRotationConfig(String),
    /// etcd has it, Callboard does not yet.
    #[error("--{flag}={value} is not supported yet{hint}")]
    Unsupported {
        flag: &'static str,
        value: String,
        hint: &'static str,
    },
    /// The first list of members does not fit.
    #[error("error setting up initial cluster: {0}")]
    InitialCluster(#[from] InitialClusterError),
}

impl Error {
    /// etcd leaves with 2 when it cannot read its flags, and with 1 when it does not like what they say.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Usage(_) => 2,
            _ => 1,
        }
    }
}
