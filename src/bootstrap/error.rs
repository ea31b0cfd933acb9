//! Why a member cannot start.

use crate::config;
use crate::discovery;
use crate::ids::{LogIndex, MemberId, Term};
use crate::state::MachineError;
use crate::storage::directory::DirectoryError;
use crate::storage::log::LogError;
use crate::storage::state::error::StateError;
use crate::tls::TlsError;

/// Why a member cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    #[error(transparent)]
    Config(#[from] config::Error),
    #[error(transparent)]
    Discovery(#[from] discovery::Error),
    #[error(
        "discovery URL should not be set when joining existing initial cluster: list the members with --initial-cluster, as member \
         add prints them"
    )]
    DiscoveryOfExisting,
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Machine(#[from] MachineError),
    #[error(
        "cannot fetch cluster info from peer urls: could not retrieve cluster information from the given URLs; are the other \
         members of --initial-cluster up and in reach?"
    )]
    NoClusterInfo,
    #[error("error validating peerURLs {listed}: {reason}")]
    NotOfCluster { listed: String, reason: String },
    #[error(
        "member {member} has already been bootstrapped, and this data directory is empty; a member that lost its disk has \
         forgotten its votes: remove it from the cluster and add it again"
    )]
    StartedBefore { member: MemberId },
    #[error(
        "the log in {log_path} ends at entry {last}, but the state has applied entry {applied}: log entries were lost. \
         Remove this member from the cluster, clear its data directory and add it again"
    )]
    LogBehindState {
        log_path: String,
        last: LogIndex,
        applied: LogIndex,
    },
    #[error(
        "the log in {log_path} begins behind entry {cut}, but the state has only applied entry {applied}. Remove this \
         member from the cluster, clear its data directory and add it again"
    )]
    StateBehindLog {
        log_path: String,
        cut: LogIndex,
        applied: LogIndex,
    },
    #[error(
        "the log in {log_path} and the state do not belong together: entry {applied} is of term {log_term} in the log, and \
         what the state has applied there is of term {state_term}. Remove this member from the cluster, clear its data \
         directory and add it again"
    )]
    LogNotOfState {
        log_path: String,
        applied: LogIndex,
        log_term: Term,
        state_term: Term,
    },
    #[error(
        "the data directory {path} belongs to member {owner}, but --initial-advertise-peer-urls are those of member \
         {configured}: were the directories of two members swapped? Give each member its own"
    )]
    AnothersDirectory {
        path: String,
        owner: MemberId,
        configured: MemberId,
    },
    #[error("TLS key/cert (--cert-file, --key-file) must be provided for client url {0} with HTTPS scheme")]
    ClientUrlWithoutTls(String),
    #[error("cannot listen on TLS for {0}: KeyFile and CertFile are not presented")]
    UrlWithoutTls(String),
    #[error("TLS towards {towards}: {source}")]
    Tls { towards: &'static str, source: TlsError },
    #[error("cannot listen on {address}: {source}")]
    Listen { address: String, source: std::io::Error },
    #[error(
        "the member has been permanently removed from the cluster: {path} is the data directory of member {member}, which is \
         none any more; remove the directory, and add the member again (member add) if it is to come back"
    )]
    Removed { member: MemberId, path: String },
    #[error("{0}")]
    Raft(String),
}
