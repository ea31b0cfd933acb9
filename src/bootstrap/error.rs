//! Why a member cannot start.

use crate::config;
use crate::discovery;
use crate::ids::{ClusterId, LogIndex, MemberId, Term};
use crate::state::MachineError;
use crate::storage::directory::DirectoryError;
use crate::storage::log::LogError;
use crate::storage::state::error::StateError;
use crate::tls::TlsError;
use std::io::ErrorKind;
use std::path::Path;

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
        "the cluster {cluster} that runs at {url} lists this member's peer URL already: a member that was added to a running \
         cluster (member add) is started with --initial-cluster-state existing, and not with new"
    )]
    AddedBefore { url: String, cluster: ClusterId },
    #[error(
        "the member has been permanently removed from the cluster: member {member} is none of those that {url} lists; add it \
         again (member add), and start it with --initial-cluster-state existing"
    )]
    RemovedBefore { url: String, member: MemberId },
    #[error(
        "cluster ID mismatch: {url} is of cluster {cluster}, and the flags of this member make cluster {own}. All members of a \
         new cluster need the same --initial-cluster and --initial-cluster-token; a member that is to join a running cluster \
         is added to it (member add) and started with --initial-cluster-state existing"
    )]
    OtherCluster {
        url: String,
        cluster: ClusterId,
        own: ClusterId,
    },
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
    /// In Go's words, which scripts look for.
    #[error("listen {}: bind: {}", network(address), hint(source))]
    Listen { address: String, source: std::io::Error },
    #[error(
        "the member has been permanently removed from the cluster: {path} is the data directory of member {member}, which is \
         none any more; remove the directory, and add the member again (member add) if it is to come back"
    )]
    Removed { member: MemberId, path: String },
    #[error("{0}")]
    Raft(String),
}

/// An address as Go names it.
fn network(address: &str) -> String {
    match address.strip_prefix("unix:") {
        Some(path) => format!("unix {path}"),
        None => format!("tcp {address}"),
    }
}

/// Why nobody can listen there, and what to do.
fn hint(error: &std::io::Error) -> String {
    let text = match error.kind() {
        ErrorKind::AddrInUse => {
            "address already in use; stop the process that listens there (ss -tlnp names it), or give this member another port"
        }
        ErrorKind::AddrNotAvailable => {
            "cannot assign requested address; give an address of this machine, or 0.0.0.0 for all of them"
        }
        ErrorKind::PermissionDenied => "permission denied",
        _ => return error.to_string(),
    };
    text.to_owned()
}

impl StartError {
    /// The refusal of a data directory whose member was removed.
    pub(crate) fn removed(member: MemberId, path: &Path) -> Self {
        Self::Removed {
            member,
            path: path.display().to_string(),
        }
    }
}
