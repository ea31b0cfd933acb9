//! IDs of members and clusters: the first eight bytes of SHA-1 sums, as in etcd's membership/member.go and cluster.go.

use crate::ids::{ClusterId, MemberId};
use sha1::{Digest, Sha1};

/// The ID of a member with these peer URLs. `token` is `--initial-cluster-token` for the members of a new cluster. For a
/// member added later, it is the time of the addition in decimal Unix seconds.
pub fn member_id<'a>(peer_urls: impl IntoIterator<Item = &'a str>, token: &str) -> MemberId {
    let mut sorted: Vec<&str> = peer_urls.into_iter().collect();
    sorted.sort_unstable();
    let mut sum = Sha1::new();
    for url in sorted {
        sum.update(url);
    }
    sum.update(token);
    MemberId(first_eight(&sum.finalize()))
}

/// The ID of a cluster that starts with these members.
pub fn cluster_id(members: impl IntoIterator<Item = MemberId>) -> ClusterId {
    let mut sorted: Vec<MemberId> = members.into_iter().collect();
    sorted.sort_unstable();
    let mut sum = Sha1::new();
    for member in sorted {
        sum.update(member.get().to_be_bytes());
    }
    ClusterId(first_eight(&sum.finalize()))
}

fn first_eight(sum: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&sum[..8]);
    u64::from_be_bytes(bytes)
}
