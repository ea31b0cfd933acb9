//! Who is in the cluster: URLs, ids, the first list of members and the membership as the log has made it.
//!
//! Everything here is pure. Ids are computed as etcd does (server/etcdserver/api/membership), so that a cluster started
//! with the same flags has the same ids and the output of `member list` can be compared. Dialling members is `peer`'s
//! work, changing the membership that of `consensus` and `state`.

mod id;
mod initial;
mod member_url;
mod membership;

pub use id::{cluster_id, member_id};
pub use initial::{InitialCluster, InitialClusterError, Resolved};
pub use member_url::{MemberUrl, Scheme, UrlError};
pub use membership::Membership;
