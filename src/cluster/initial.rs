//! The members that a new cluster starts with: `--initial-cluster`. Mirrors etcd's client/pkg/types/urlsmap.go and the
//! checks of server/config/config.go.

use super::{MemberUrl, Membership, UrlError, cluster_id, member_id};
use crate::ids::{ClusterId, MemberId};
use crate::proto::log::Member;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;

/// The members of a new cluster, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitialCluster {
    urls: BTreeMap<String, Vec<MemberUrl>>,
}

/// What is wrong with `--initial-cluster`; the texts are etcd's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InitialClusterError {
    #[error(transparent)]
    Url(#[from] UrlError),
    #[error("initial cluster unset and no discovery endpoints found")]
    Unset,
    #[error("initial cluster {0} has duplicate url")]
    DuplicateUrl(String),
    #[error(
        "couldn't find local name {0:?} in the initial cluster configuration: --initial-cluster lists every member as \
         name=URL, and --name must be one of these names"
    )]
    NameMissing(String),
    #[error(
        "--initial-cluster has {missing} but missing from --initial-advertise-peer-urls={advertised} ({reason})"
    )]
    NotAdvertised {
        missing: String,
        advertised: String,
        reason: String,
    },
    #[error("--initial-advertise-peer-urls has {missing} but missing from --initial-cluster={listed}")]
    NotListed { missing: String, listed: String },
    #[error("member exists with identical ID {0}")]
    IdTaken(MemberId),
    #[error("cannot use 0 as member id")]
    IdZero,
}

impl InitialClusterError {
    /// The same with another reason, if it has any.
    #[must_use]
    pub fn because(mut self, why: String) -> Self {
        if let Self::NotAdvertised { reason, .. } = &mut self {
            *reason = why;
        }
        self
    }
}

/// The addresses of URLs whose hosts are names: two that look different may be one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolved(BTreeMap<MemberUrl, Vec<SocketAddr>>);

impl Resolved {
    /// Takes note of where a URL is.
    pub fn insert(&mut self, url: &MemberUrl, addresses: Vec<SocketAddr>) {
        self.0.insert(url.clone(), addresses);
    }

    /// Where it is; nowhere if it was not resolved.
    fn addresses(&self, url: &MemberUrl) -> &[SocketAddr] {
        self.0.get(url).map_or(&[], Vec::as_slice)
    }

    /// Whether two URLs are the same place. `localhost` is 127.0.0.1 before anything is resolved. Of a name with several
    /// addresses etcd compares one that it picks; here one in common is enough.
    fn are_same(&self, one: &MemberUrl, other: &MemberUrl) -> bool {
        let share_one = || {
            let others = self.addresses(other);
            self.addresses(one).iter().any(|address| others.contains(address))
        };
        normalised(one) == normalised(other) || (one.scheme() == other.scheme() && share_one())
    }

    /// Those URLs that are in none of the others' places.
    fn lacking(&self, these: &[MemberUrl], those: &[MemberUrl]) -> Vec<MemberUrl> {
        let lacks = |url: &&MemberUrl| !those.iter().any(|other| self.are_same(url, other));
        these.iter().filter(lacks).cloned().collect()
    }

    /// Whether two lists name the same places.
    pub fn are_all_same(&self, these: &[MemberUrl], those: &[MemberUrl]) -> bool {
        these.len() == those.len()
            && self.lacking(these, those).is_empty()
            && self.lacking(those, these).is_empty()
    }

    /// Why these do not count as the same, for the operator.
    fn difference(&self, these: &[MemberUrl], those: &[MemberUrl]) -> String {
        let shown = |urls: &[MemberUrl]| {
            join(urls.iter().map(|url| match self.addresses(url) {
                [] => url.to_string(),
                addresses => {
                    let scheme = url.as_str().split(':').next().unwrap_or_default();
                    join(addresses.iter().map(|address| format!("{scheme}://{address}")))
                }
            }))
        };
        if these.len() == those.len() {
            format!("resolved urls: {:?} != {:?}", shown(these), shown(those))
        } else {
            format!("len({:?}) != len({:?})", texts(these), texts(those))
        }
    }
}

impl InitialCluster {
    /// The list of a member that knows of itself alone.
    pub fn single(name: &str, urls: &[MemberUrl]) -> Self {
        Self {
            urls: BTreeMap::from([(name.to_owned(), urls.to_vec())]),
        }
    }

    /// Reads `name=url,name=url`. A name may occur several times, once for each of its URLs.
    pub fn parse(text: &str) -> Result<Self, InitialClusterError> {
        let mut urls: BTreeMap<String, Vec<MemberUrl>> = BTreeMap::new();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (name, url) = part.split_once('=').unwrap_or((part, ""));
            let url = MemberUrl::parse(url)?;
            urls.entry(name.to_owned()).or_default().push(url);
        }
        for list in urls.values_mut() {
            list.sort();
        }
        Ok(Self { urls })
    }

    /// Checks that a new cluster lists this member under exactly these URLs, and no URL twice.
    pub fn check_bootstrap(
        &self,
        name: &str,
        advertised: &[MemberUrl],
        resolved: &Resolved,
    ) -> Result<(), InitialClusterError> {
        if self.urls.is_empty() {
            return Err(InitialClusterError::Unset);
        }
        self.check_join(name)?;
        let of_name = |url: &MemberUrl| format!("{name}={url}");
        let listed = &self.urls[name];
        let missing = resolved.lacking(listed, advertised);
        if !missing.is_empty() {
            return Err(InitialClusterError::NotAdvertised {
                missing: join(missing.iter().map(of_name)),
                advertised: join(texts(advertised).into_iter()),
                reason: resolved.difference(advertised, listed),
            });
        }
        let missing = resolved.lacking(advertised, listed);
        if !missing.is_empty() {
            return Err(InitialClusterError::NotListed {
                missing: join(texts(&missing).into_iter()),
                listed: join(advertised.iter().map(of_name)),
            });
        }
        Ok(())
    }

    /// The URLs of one member; none if it is not listed.
    pub fn urls_of(&self, name: &str) -> &[MemberUrl] {
        self.urls.get(name).map_or(&[], Vec::as_slice)
    }

    /// How many members are listed.
    pub fn len(&self) -> usize {
        self.urls.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.urls.is_empty()
    }

    /// Checks that a member that joins a running cluster is listed, and no URL twice. The others already know its URLs.
    pub fn check_join(&self, name: &str) -> Result<(), InitialClusterError> {
        if !self.urls.contains_key(name) {
            return Err(InitialClusterError::NameMissing(name.to_owned()));
        }
        let mut seen = BTreeSet::new();
        if self.urls.values().flatten().any(|url| !seen.insert(url)) {
            return Err(InitialClusterError::DuplicateUrl(self.to_string()));
        }
        Ok(())
    }

    /// Names and their URLs, sorted.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[MemberUrl])> {
        self.urls
            .iter()
            .map(|(name, urls)| (name.as_str(), urls.as_slice()))
    }

    /// The URLs of all members but one.
    pub fn others(&self, name: &str) -> Vec<&MemberUrl> {
        let others = self.urls.iter().filter(|(other, _)| *other != name);
        others.flat_map(|(_, urls)| urls).collect()
    }

    /// The initial membership of a new cluster, and the cluster's ID.
    pub fn found(&self, token: &str) -> Result<(ClusterId, Membership), InitialClusterError> {
        let mut membership = Membership::default();
        for (name, urls) in &self.urls {
            let id = member_id(urls.iter().map(MemberUrl::as_str), token);
            if id.get() == 0 {
                return Err(InitialClusterError::IdZero);
            }
            if membership.get(id).is_some() {
                return Err(InitialClusterError::IdTaken(id));
            }
            membership.insert(Member {
                id: id.get(),
                name: name.clone(),
                peer_urls: urls.iter().map(ToString::to_string).collect(),
                ..Member::default()
            });
        }
        Ok((cluster_id(membership.ids()), membership))
    }
}

/// Treats `localhost` as 127.0.0.1.
fn normalised(url: &MemberUrl) -> String {
    match url.host() {
        "localhost" => url.as_str().replacen("localhost", "127.0.0.1", 1),
        _ => url.as_str().to_owned(),
    }
}

fn texts(urls: &[MemberUrl]) -> Vec<String> {
    urls.iter().map(ToString::to_string).collect()
}

fn join(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(",")
}

impl fmt::Display for InitialCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut pairs: Vec<String> = self
            .urls
            .iter()
            .flat_map(|(name, urls)| urls.iter().map(move |url| format!("{name}={url}")))
            .collect();
        pairs.sort_unstable();
        f.write_str(&pairs.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // IDs that etcd 3.7.1 printed for these flags.
    const THREE: &str = "m1=http://127.0.0.1:47380,m2=http://127.0.0.1:47381,m3=http://127.0.0.1:47382";

    fn found(text: &str, token: &str) -> (u64, Vec<(u64, String)>) {
        let (id, members) = InitialCluster::parse(text).unwrap().found(token).unwrap();
        let members = members.iter().map(|member| (member.id, member.name.clone()));
        (id.get(), members.collect())
    }

    #[test]
    fn ids_are_those_of_etcd() {
        assert_eq!(
            found("m1=http://127.0.0.1:47380", "tok"),
            (
                12_202_413_619_003_550_458,
                vec![(15_355_043_881_539_124_009, "m1".into())]
            )
        );
        assert_eq!(
            found(THREE, "etcd-cluster"),
            (
                7_078_025_900_555_152_235,
                vec![
                    (12_800_959_272_749_811_907, "m3".into()),
                    (13_551_351_000_987_130_824, "m2".into()),
                    (17_767_816_877_210_000_001, "m1".into()),
                ]
            )
        );
        let two_urls = format!("m1=http://127.0.0.1:47390,{THREE}");
        let (id, members) = found(&two_urls, "etcd-cluster");
        assert_eq!(id, 0x2896_f5e4_12dd_2085);
        assert_eq!(members[0], (0x1c53_ec7a_0a3c_5a4f, "m1".into()));
    }

    #[test]
    fn the_list_must_fit_the_member() {
        let three = InitialCluster::parse(THREE).unwrap();
        let urls = |list| MemberUrl::parse_list(list).unwrap();
        assert_eq!(three.to_string(), THREE);
        let unresolved = Resolved::default();
        for own in ["http://127.0.0.1:47380", "http://localhost:47380"] {
            assert_eq!(three.check_bootstrap("m1", &urls(own), &unresolved), Ok(()));
        }
        let cases = [
            (
                THREE,
                "m4",
                "http://127.0.0.1:1",
                "couldn't find local name \"m4\" in the initial cluster configuration: --initial-cluster lists every member \
                 as name=URL, and --name must be one of these names",
            ),
            (
                "",
                "m1",
                "http://127.0.0.1:1",
                "initial cluster unset and no discovery endpoints found",
            ),
            (
                "a=http://a:1,b=http://a:1",
                "a",
                "http://a:1",
                "initial cluster a=http://a:1,b=http://a:1 has duplicate url",
            ),
            (
                "a=http://a:1,a=http://a:2",
                "a",
                "http://a:1",
                "--initial-cluster has a=http://a:2 but missing from --initial-advertise-peer-urls=http://a:1 (len([\"http://a:1\"]) != \
                 len([\"http://a:1\", \"http://a:2\"]))",
            ),
            (
                "a=http://a:1",
                "a",
                "http://b:1",
                "--initial-cluster has a=http://a:1 but missing from --initial-advertise-peer-urls=http://b:1 (resolved urls: \
                 \"http://b:1\" != \"http://a:1\")",
            ),
            (
                "a=http://a:1",
                "a",
                "http://a:1,http://a:2",
                "--initial-advertise-peer-urls has http://a:2 but missing from --initial-cluster=a=http://a:1,a=http://a:2",
            ),
        ];
        for (list, name, advertised, message) in cases {
            let list = InitialCluster::parse(list).unwrap();
            let error = list
                .check_bootstrap(name, &urls(advertised), &unresolved)
                .unwrap_err();
            assert_eq!(error.to_string(), message);
        }
        assert!(InitialCluster::parse("m1").is_err());
    }
    #[test]
    fn urls_that_look_different_may_be_the_same_place() {
        let listed = InitialCluster::parse("a=http://a.example:1").unwrap();
        let own = MemberUrl::parse_list("http://10.0.0.1:1").unwrap();
        let mut resolved = Resolved::default();
        resolved.insert(&own[0], vec!["10.0.0.1:1".parse().unwrap()]);
        let addresses = ["10.0.0.7:1", "10.0.0.1:1"].map(|address| address.parse().unwrap());
        let name = MemberUrl::parse("http://a.example:1").unwrap();
        resolved.insert(&name, addresses[..1].to_vec());
        let error = listed
            .check_bootstrap("a", &own, &resolved)
            .unwrap_err()
            .to_string();
        assert!(
            error.ends_with("(resolved urls: \"http://10.0.0.1:1\" != \"http://10.0.0.7:1\")"),
            "{error}"
        );
        resolved.insert(&name, addresses.to_vec());
        assert_eq!(listed.check_bootstrap("a", &own, &resolved), Ok(()));
        let secure = MemberUrl::parse_list("https://10.0.0.1:1").unwrap();
        resolved.insert(&secure[0], vec![addresses[1]]);
        assert!(listed.check_bootstrap("a", &secure, &resolved).is_err());
    }
}
