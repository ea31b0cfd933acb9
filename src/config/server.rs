//! What a member is started with, checked.

use super::Error;
use super::discovery_flags::{self, Discovery};
use super::features::Features;
use super::flags::Flags;
use super::log_flags;
use super::tls_flags::{self, Tls};
use super::values::duration;
use crate::cluster::{InitialCluster, MemberUrl, UrlError};
use crate::compactor::Retention;
use crate::corruption::{CheckOptions, ScrubOptions};
use crate::logging::{self, Notice};
use crate::quota::Rules;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// etcd's upper bound (server/embed/config.go, `maxElectionMs`): longer, and a cluster would seem dead.
const ELECTION_MS_MAX: u64 = 50_000;
const DEFAULT_NAME: &str = "default";
const DEFAULT_INITIAL_CLUSTER: &str = "default=http://localhost:2380";

/// The settings of one member.
#[derive(Clone, Debug)]
pub struct Server {
    pub name: String,
    pub data_dir: PathBuf,
    /// Where the log has a directory of its own.
    pub wal_dir: Option<PathBuf>,
    pub listen_client_urls: Vec<MemberUrl>,
    /// If there are any, they alone answer plain HTTP, and the ones above gRPC alone.
    pub listen_client_http_urls: Vec<MemberUrl>,
    pub advertise_client_urls: Vec<MemberUrl>,
    pub listen_peer_urls: Vec<MemberUrl>,
    pub initial_advertise_peer_urls: Vec<MemberUrl>,
    /// Whether the operator gave them. If so, the other members find this one there, even if the membership does not say so yet.
    pub peer_urls_given: bool,
    /// As given: it is read only for a data directory without a member, see [`Server::initial_cluster`].
    pub initial_cluster_text: String,
    pub initial_cluster_token: String,
    pub initial_cluster_state: ClusterState,
    /// Whether a member that is there goes on alone.
    pub force_new_cluster: bool,
    /// Where a new cluster learns of its members; none: from the list above.
    pub discovery: Option<Discovery>,
    pub heartbeat_interval_ms: u64,
    pub election_timeout_ms: u64,
    pub snapshot_count: u64,
    pub snapshot_catchup_entries: u64,
    pub keep_alive_interval: Duration,
    pub keep_alive_timeout: Duration,
    pub max_request_bytes: u32,
    pub max_txn_ops: u32,
    pub max_concurrent_streams: u32,
    pub watch_progress_notify_interval: Duration,
    /// Whether client URLs answer the JSON form of the API.
    pub enable_grpc_gateway: bool,
    /// Origins of web pages, or `*`.
    pub cors: Vec<String>,
    /// Names under which plain HTTP without TLS is answered; empty, or with `*`, for any.
    pub host_whitelist: Vec<String>,
    /// Whether other processes may listen on the same ports.
    pub socket_reuse_port: bool,
    pub pre_vote: bool,
    pub strict_reconfig_check: bool,
    pub auto_promote: bool,
    pub max_learners: u32,
    pub tls: Tls,
    pub listen_metrics_urls: Vec<MemberUrl>,
    /// Whether metrics say how long calls take.
    pub extensive_metrics: bool,
    pub warning_apply_duration: Duration,
    pub warning_unary_request_duration: Duration,
    pub initial_corrupt_check: bool,
    pub checks: CheckOptions,
    pub space: Rules,
    /// None: nothing is compacted automatically.
    pub auto_compaction: Option<Retention>,
    pub log: logging::Options,
    /// What to log once logging has begun.
    pub notices: Vec<Notice>,
}

/// Whether the member founds its cluster or joins one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterState {
    New,
    Existing,
}

impl Server {
    /// Checks the flags in etcd's order, so that of several mistakes the same one is named.
    pub(super) fn new(flags: Flags, mut notices: Vec<Notice>) -> Result<Self, Error> {
        let features = Features::read(&flags.feature_gates, &mut notices)?;
        let initial_corrupt_check =
            features.initial_corrupt_check || flags.experimental_initial_corrupt_check;
        let log = log_flags::read(&flags, &mut notices)?;
        check_urls(&flags)?;
        let discovery = discovery_flags::read(&flags, &mut notices)?;
        check_times(&flags)?;
        check_advertised(&flags)?;
        let checks = check_options(&flags, features)?;
        let auto_compaction = auto_compaction(&flags)?;
        check_unsupported(&flags)?;
        let tls = tls_flags::read(&flags, &mut notices)?;
        warn(&flags, &mut notices);
        let initial_cluster_text = initial_cluster_text(&flags);
        let data_dir = data_dir(&flags, &mut notices);
        Ok(Self {
            name: flags.name,
            wal_dir: wal_dir(flags.wal_dir, &data_dir),
            data_dir: data_dir.into(),
            listen_client_urls: flags.listen_client_urls.0,
            listen_client_http_urls: flags.listen_client_http_urls.0,
            advertise_client_urls: flags.advertise_client_urls.0,
            listen_peer_urls: flags.listen_peer_urls.0,
            peer_urls_given: flags.given.contains("initial-advertise-peer-urls"),
            initial_advertise_peer_urls: flags.initial_advertise_peer_urls.0,
            initial_cluster_text,
            initial_cluster_token: flags.initial_cluster_token,
            initial_cluster_state: match flags.initial_cluster_state.as_str() {
                "existing" => ClusterState::Existing,
                _ => ClusterState::New,
            },
            force_new_cluster: flags.force_new_cluster,
            discovery,
            heartbeat_interval_ms: flags.heartbeat_interval,
            election_timeout_ms: flags.election_timeout,
            snapshot_count: flags.snapshot_count,
            snapshot_catchup_entries: flags.snapshot_catchup_entries,
            keep_alive_interval: flags.grpc_keepalive_interval,
            keep_alive_timeout: flags.grpc_keepalive_timeout,
            max_request_bytes: flags.max_request_bytes,
            max_txn_ops: flags.max_txn_ops,
            max_concurrent_streams: flags.max_concurrent_streams,
            watch_progress_notify_interval: progress_interval(flags.watch_progress_notify_interval),
            enable_grpc_gateway: flags.enable_grpc_gateway,
            cors: flags.cors.0,
            host_whitelist: tls_flags::list(&flags.host_whitelist),
            socket_reuse_port: flags.socket_reuse_port,
            pre_vote: flags.pre_vote,
            auto_promote: flags.auto_promote,
            strict_reconfig_check: flags.strict_reconfig_check,
            max_learners: u32::try_from(flags.max_learners).unwrap_or(u32::MAX),
            tls,
            listen_metrics_urls: flags.listen_metrics_urls.0,
            // etcd takes any word; all others mean `basic`.
            extensive_metrics: flags.metrics == "extensive",
            warning_apply_duration: flags.warning_apply_duration,
            warning_unary_request_duration: flags.warning_unary_request_duration,
            initial_corrupt_check,
            checks,
            space: Rules {
                quota_bytes: flags.quota_backend_bytes,
                free_disk_bytes: flags.quota_free_disk_bytes,
            },
            auto_compaction,
            log,
            notices,
        })
    }

    /// The data directory, and the log's if that has one of its own.
    pub fn written_directories(&self) -> impl Iterator<Item = &Path> {
        std::iter::once(self.data_dir.as_path()).chain(self.wal_dir.as_deref())
    }

    /// The members that a data directory without a member begins with. A directory that has one knows its members: there
    /// the flag is not even read.
    pub fn initial_cluster(&self) -> Result<InitialCluster, Error> {
        Ok(InitialCluster::parse(&self.initial_cluster_text)?)
    }

    /// The token that goes into the ids of a new cluster and its members.
    pub fn cluster_token(&self) -> &str {
        let of_discovery = self.discovery.as_ref().and_then(Discovery::token);
        of_discovery.unwrap_or(&self.initial_cluster_token)
    }
}

/// Of what an operator may not have meant.
fn warn(flags: &Flags, notices: &mut Vec<Notice>) {
    if flags.enable_v2 {
        notices.push(Notice::warn(
            "--enable-v2 is given, and the v2 API is not served yet; clients of the v3 API are served",
            [("enable-v2", &flags.enable_v2.to_string())],
        ));
    }
    if flags.name == DEFAULT_NAME {
        notices.push(Notice::warn(
            "it isn't recommended to use default name, please set a value for --name",
            [("name", &flags.name)],
        ));
    }
}

fn data_dir(flags: &Flags, notices: &mut Vec<Notice>) -> String {
    if !flags.data_dir.is_empty() {
        return flags.data_dir.clone();
    }
    let directory = format!("{}.etcd", flags.name);
    notices.push(Notice::warn(
        "'data-dir' was empty; using default",
        [("data-dir", &directory)],
    ));
    directory
}

/// Nothing where the log has no directory of its own.
fn wal_dir(given: String, data_dir: &str) -> Option<PathBuf> {
    (!given.is_empty() && given != data_dir).then(|| given.into())
}

/// etcd: UpdateDefaultClusterFromName, for `etcd --name=abc` alone.
fn initial_cluster_text(flags: &Flags) -> String {
    if discovery_flags::replaces_initial_cluster(&flags.discovery) && !flags.given.contains("initial-cluster")
    {
        return String::new();
    }
    if flags.name == DEFAULT_NAME || flags.initial_cluster != DEFAULT_INITIAL_CLUSTER {
        return flags.initial_cluster.clone();
    }
    let urls = &flags.initial_advertise_peer_urls.0;
    let pairs: Vec<_> = urls.iter().map(|url| format!("{}={url}", flags.name)).collect();
    pairs.join(",")
}

/// As etcd has it: nothing means its default, and less than a tenth of a second is too little (server/etcdserver/api/
/// v3rpc/watch.go).
fn progress_interval(given: Duration) -> Duration {
    match given {
        Duration::ZERO => Duration::from_mins(10),
        given => given.max(Duration::from_millis(100)),
    }
}

fn check_advertised(flags: &Flags) -> Result<(), Error> {
    if flags.given.contains("listen-client-urls") && !flags.given.contains("advertise-client-urls") {
        return Err(Error::AdvertiseClientUrlsUnset);
    }
    Ok(())
}

fn check_options(flags: &Flags, features: Features) -> Result<CheckOptions, Error> {
    if flags.compact_hash_check_time.is_zero() {
        return Err(Error::CompactHashCheckTimeZero);
    }
    let compact_hash_check = features.compact_hash_check || flags.experimental_compact_hash_check_enabled;
    Ok(CheckOptions {
        hashes_every: flags.corrupt_check_time,
        compact_hashes_every: if compact_hash_check {
            flags.compact_hash_check_time
        } else {
            Duration::ZERO
        },
        scrub: ScrubOptions {
            bytes_per_second: flags.scrub_bytes_per_second,
        },
    })
}

fn check_urls(flags: &Flags) -> Result<(), Error> {
    let listen_peer = &flags.listen_peer_urls.0;
    let listen_client = &flags.listen_client_urls.0;
    let advertise_peer = &flags.initial_advertise_peer_urls.0;
    let advertise_client = &flags.advertise_client_urls.0;
    let (listen_http, listen_metrics) = (&flags.listen_client_http_urls.0, &flags.listen_metrics_urls.0);
    let of_clients = listen_client.iter().chain(listen_http);
    let listened = || listen_peer.iter().chain(of_clients.clone()).chain(listen_metrics);
    listened().try_for_each(MemberUrl::check_bind)?;
    check_hosts(advertise_peer).map_err(|(text, error)| Error::AdvertisePeerUrls(text, error))?;
    check_hosts(advertise_client).map_err(|(text, error)| Error::AdvertiseClientUrls(text, error))?;
    let is_taken = |url: &&MemberUrl| listen_client.iter().any(|other| other.address() == url.address());
    if let Some(url) = listen_http.iter().find(is_taken) {
        return Err(Error::ListenClientHttpUrlTaken(url.to_string()));
    }
    Ok(())
}

fn check_hosts(urls: &[MemberUrl]) -> Result<(), (String, UrlError)> {
    let texts = || urls.iter().map(MemberUrl::as_str).collect::<Vec<_>>();
    urls.iter()
        .try_for_each(MemberUrl::check_host)
        .map_err(|error| (texts().join(","), error))
}

fn check_times(flags: &Flags) -> Result<(), Error> {
    let (heartbeat_ms, election_ms) = (flags.heartbeat_interval, flags.election_timeout);
    if heartbeat_ms == 0 {
        return Err(Error::HeartbeatZero);
    }
    if election_ms == 0 {
        return Err(Error::ElectionZero);
    }
    if heartbeat_ms.saturating_mul(5) > election_ms {
        return Err(Error::ElectionShort {
            election_ms,
            heartbeat_ms,
        });
    }
    if election_ms > ELECTION_MS_MAX {
        return Err(Error::ElectionLong(election_ms));
    }
    Ok(())
}

/// Nothing is kept, or all: then nothing is to be done. A bare number counts hours or revisions; in either mode a duration is
/// its nanoseconds (server/embed/etcd.go, `parseCompactionRetention`).
fn auto_compaction(flags: &Flags) -> Result<Option<Retention>, Error> {
    let by_period = match flags.auto_compaction_mode.as_str() {
        "periodic" => true,
        "revision" => false,
        "" => return Err(Error::CompactionModeEmpty),
        other => return Err(Error::CompactionMode(other.to_owned())),
    };
    let text = match flags.auto_compaction_retention.as_str() {
        "" => "0",
        text => text,
    };
    let number = text.strip_prefix('+').unwrap_or(text).parse::<u32>().ok();
    if let (Some(revisions), false) = (number, by_period) {
        return Ok((revisions > 0).then_some(Retention::Revisions(revisions.into())));
    }
    let period = match number {
        Some(hours) => Duration::from_hours(hours.into()),
        None => duration(text).map_err(|_| Error::CompactionRetention(text.to_owned()))?,
    };
    Ok(match i64::try_from(period.as_nanos()) {
        _ if period.is_zero() => None,
        Ok(nanos) if !by_period => Some(Retention::Revisions(nanos)),
        _ => Some(Retention::Period(period)),
    })
}

/// What etcd would do with these values, Callboard cannot do yet: better no start than a promise not kept.
fn check_unsupported(flags: &Flags) -> Result<(), Error> {
    let unsupported = |flag, value, hint| Err(Error::Unsupported { flag, value, hint });
    if flags.enable_pprof {
        return unsupported("enable-pprof", "true".into(), ", profile the process with perf");
    }
    Ok(())
}
