//! Why there is no list of members. Texts are etcd's; what the operator does next stands behind them.

use crate::client;
use crate::tls::TlsError;

/// Why a member does not learn of the others.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("failed to join discovery cluster ({0}): {advice}", advice = .0.advice())]
    Join(#[from] Refusal),
    #[error(
        "discovery cluster {0} has duplicate url: give each member its own --initial-advertise-peer-urls, and generate a new token"
    )]
    DuplicateUrl(String),
    #[error("cannot find the members of the cluster in DNS: {0}")]
    Srv(String),
    #[error(
        "cannot find local etcd member {0:?} in SRV records: no target has an address and port of --initial-advertise-peer-urls"
    )]
    NotInRecords(String),
}

/// Why a member cannot take part by way of a discovery service.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    #[error("discovery: size key is bad")]
    BadSizeKey,
    #[error("discovery: size key not found")]
    SizeNotFound,
    #[error("discovery: found duplicate id")]
    DuplicateId,
    #[error("discovery: found duplicate name")]
    DuplicateName,
    #[error("discovery: cluster is full")]
    Full,
    #[error("discovery: invalid URL")]
    InvalidUrl,
    #[error("discovery: bad discovery endpoint")]
    BadEndpoint,
    /// The service's own words, by the v2 protocol.
    #[error("{code}: {text}")]
    Service { code: u64, text: String },
    #[error("invalid proxy address {0:?}")]
    Proxy(String),
    #[error("{0}")]
    Client(#[from] client::Error),
    #[error("{0}")]
    Tls(String),
}

/// The v2 protocol's code for a key that is not there.
pub(super) const KEY_NOT_FOUND: u64 = 100;

impl Refusal {
    /// What the operator does next.
    fn advice(&self) -> &'static str {
        match self {
            Self::SizeNotFound
            | Self::Service {
                code: KEY_NOT_FOUND, ..
            } => {
                "is the token right? whoever makes one writes the number of members to its key _config/size first"
            }
            Self::BadSizeKey => "the token's key _config/size must hold the number of members",
            Self::DuplicateId => {
                "this member has registered before; check --data-dir if the previous bootstrap succeeded, or use a new discovery \
                 token if it failed"
            }
            Self::DuplicateName => {
                "give each member its own --name; do not reuse the discovery token, generate a new one to bootstrap a cluster"
            }
            Self::Full => {
                "as many members as were asked for have registered; do not reuse a discovery token, generate a new one to bootstrap \
                 a cluster; to join the running one, add the member to it (member add) and start it with \
                 --initial-cluster-state existing"
            }
            Self::InvalidUrl => {
                "a member has registered without a name and peer URLs, or --discovery is no http or https URL; generate a new token"
            }
            Self::BadEndpoint => "--discovery must be the URL of a token in the v2 key space of an etcd",
            Self::Proxy(_) => "--discovery-proxy must be http://host:port",
            Self::Client(_) | Self::Service { .. } => {
                "the discovery service refuses; is this member allowed to read and write the token's keys there?"
            }
            Self::Tls(_) => "check --discovery-cert, --discovery-key and --discovery-cacert",
        }
    }
}

impl From<TlsError> for Refusal {
    fn from(error: TlsError) -> Self {
        Self::Tls(error.to_string())
    }
}

/// Why a step did not succeed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The service was not reached, or says that it cannot answer now: the step is taken again.
    Passing(String),
    /// There is no use in another try.
    Final(Refusal),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Final(refusal)
    }
}
