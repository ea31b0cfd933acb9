//! The members of the cluster: URLs, IDs, the initial members, and the membership according to the log.
//!
//! Everything here is pure. IDs are computed as in etcd (server/etcdserver/api/membership), so that a cluster started with the
//! same flags has the same IDs and the output of `member list` can be compared. `peer` dials members; `consensus` and `state`
//! change the membership.

mod id;
mod initial;
mod member_url;
mod membership;

pub use id::{cluster_id, member_id};
pub use initial::{InitialCluster, InitialClusterError, Resolved};
pub use member_url::{MemberUrl, Scheme, UrlError};
pub use membership::Membership;
