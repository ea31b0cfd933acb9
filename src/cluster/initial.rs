//! The members that a new cluster starts with: `--initial-cluster`. Mirrors etcd's client/pkg/types/urlsmap.go and the
//! checks of server/config/config.go.

use super::{MemberUrl, Membership, UrlError, cluster_id, member_id};
use crate::ids::{ClusterId, MemberId};
use crate::proto::log::Member;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

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
    #[error("--initial-cluster has {missing} but missing from --initial-advertise-peer-urls={advertised}")]
    NotAdvertised { missing: String, advertised: String },
    #[error("--initial-advertise-peer-urls has {missing} but missing from --initial-cluster={listed}")]
    NotListed { missing: String, listed: String },
    #[error("member exists with identical ID {0}")]
    IdTaken(MemberId),
    #[error("cannot use 0 as member id")]
    IdZero,
}

impl InitialCluster {
    /// Reads `name=url,name=url`. A name can come several times, once for each of its URLs.
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

    /// A new cluster has this member in its list, under just these URLs, and no URL twice.
    pub fn check_bootstrap(&self, name: &str, advertised: &[MemberUrl]) -> Result<(), InitialClusterError> {
        if self.urls.is_empty() {
            return Err(InitialClusterError::Unset);
        }
        self.check_join(name)?;
        let of_name = |url: &MemberUrl| format!("{name}={url}");
        let listed = &self.urls[name];
        let lacking = |these: &[MemberUrl], those: &[MemberUrl]| -> Vec<MemberUrl> {
            let those: BTreeSet<_> = those.iter().map(normalised).collect();
            let lacks = |url: &&MemberUrl| !those.contains(&normalised(url));
            these.iter().filter(lacks).cloned().collect()
        };
        let missing = lacking(listed, advertised);
        if !missing.is_empty() {
            return Err(InitialClusterError::NotAdvertised {
                missing: join(missing.iter().map(of_name)),
                advertised: join(advertised.iter().map(ToString::to_string)),
            });
        }
        let missing = lacking(advertised, listed);
        if !missing.is_empty() {
            return Err(InitialClusterError::NotListed {
                missing: join(missing.iter().map(ToString::to_string)),
                listed: join(advertised.iter().map(of_name)),
            });
        }
        Ok(())
    }

    /// A member that joins a running cluster needs its name in the list; its URLs are known to the others already.
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

    /// The membership that a new cluster begins with, and its id.
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

/// `localhost` and 127.0.0.1 are the same place. etcd asks the resolver for other names too; here they must be equal.
fn normalised(url: &MemberUrl) -> String {
    match url.host() {
        "localhost" => url.as_str().replacen("localhost", "127.0.0.1", 1),
        _ => url.as_str().to_owned(),
    }
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

    // Ids that etcd 3.7.1 printed for these flags.
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
        assert_eq!(
            three.check_bootstrap("m1", &urls("http://127.0.0.1:47380")),
            Ok(())
        );
        assert_eq!(
            three.check_bootstrap("m1", &urls("http://localhost:47380")),
            Ok(())
        );
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
                "--initial-cluster has a=http://a:2 but missing from --initial-advertise-peer-urls=http://a:1",
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
            let error = list.check_bootstrap(name, &urls(advertised)).unwrap_err();
            assert_eq!(error.to_string(), message);
        }
        assert!(InitialCluster::parse("m1").is_err());
    }
}
