//! Members as DNS lists them: records of type SRV for `_etcd-server-ssl._tcp` (https) and `_etcd-server._tcp` (http) in a domain.
//! Records have no names for members. The member itself is known by where its peer URLs are, and the others are numbered: names
//! that nobody but this member sees.
//!
//! Mirrors etcd's client/pkg/srv/srv.go and `GetDNSClusterNames` of server/embed/config.go. There the numbers begin anew with the
//! second service, which makes one member of two; here they go on.

use super::Error;
use super::addresses::Deadline;
use crate::cluster::{InitialCluster, MemberUrl};
use crate::config::{self, DiscoverySrv};
use crate::env::{self, ServiceRecord};
use std::net::SocketAddr;

/// What this member calls itself.
struct Own<'a> {
    name: &'a str,
    /// Its peer URLs, and where they are.
    urls: &'a [(&'a MemberUrl, Vec<SocketAddr>)],
}

/// A record, and where it leads.
type Target = (ServiceRecord, Vec<SocketAddr>);

/// Asks DNS for the members. One of both services is enough; but a record whose name does not resolve is no record too many: a
/// member that passed it over would begin another, smaller cluster.
pub(super) async fn find(config: &config::Server, srv: &DiscoverySrv) -> Result<InitialCluster, Error> {
    let deadline = Deadline::from_now();
    let mut urls = Vec::new();
    for url in config
        .initial_advertise_peer_urls
        .iter()
        .filter(|url| !url.is_unix())
    {
        urls.push((url, deadline.resolve(&url.address()).await.map_err(Error::Srv)?));
    }
    let own = Own {
        name: &config.name,
        urls: &urls,
    };
    let mut members = Vec::new();
    let mut complaints = Vec::new();
    let mut others = 0;
    for (scheme, service) in [("https", "etcd-server-ssl"), ("http", "etcd-server")] {
        let service = service_name(service, &srv.service_name);
        let found = match env::lookup_service(&format!("_{service}._tcp.{}", srv.domain)).await {
            Ok(records) => {
                let mut targets = Vec::new();
                for record in records {
                    let addresses = deadline.resolve(&record.address()).await;
                    targets.push((record, addresses.map_err(Error::Srv)?));
                }
                own.list(scheme, &targets, &mut others)
            }
            Err(error) => Err(error.to_string()),
        };
        tracing::info!(
            service_scheme = scheme,
            service_name = service,
            server_name = config.name,
            discovery_srv = srv.domain,
            found_cluster = ?found.as_ref().unwrap_or(&Vec::new()),
            error = found.as_ref().err(),
            "get cluster for {service} SRV"
        );
        match found {
            Ok(found) => members.extend(found),
            Err(error) => complaints.push(format!("error querying DNS SRV records for _{service} {error}")),
        }
    }
    if members.is_empty() {
        return Err(Error::Srv(complaints.join("; ")));
    }
    for node in &members {
        tracing::info!(node, "got bootstrap from DNS for etcd-server");
    }
    let listed = InitialCluster::parse(&members.join(",")).map_err(|error| Error::Srv(error.to_string()))?;
    if listed.urls_of(&config.name).is_empty() {
        return Err(Error::NotInRecords(config.name.clone()));
    }
    Ok(listed)
}

fn service_name(service: &str, suffix: &str) -> String {
    match suffix {
        "" => service.to_owned(),
        suffix => format!("{service}-{suffix}"),
    }
}

impl Own<'_> {
    /// Records as `name=url`. `others` counts the names of other members.
    fn list(&self, scheme: &str, targets: &[Target], others: &mut usize) -> Result<Vec<String>, String> {
        let mut found = Vec::new();
        let mut complaint = "no records".to_owned();
        for (record, addresses) in targets {
            let address = record.address();
            let is_here =
                |(_, known): &&(_, Vec<SocketAddr>)| known.iter().any(|known| addresses.contains(known));
            match self.urls.iter().find(is_here) {
                Some((url, _)) if !url.as_str().starts_with(&format!("{scheme}:")) => {
                    complaint = format!(
                        "bootstrap at {scheme}://{address} from DNS has scheme mismatch with expected peer {url}"
                    );
                }
                Some(_) => found.push(format!("{}={scheme}://{address}", self.name)),
                None => {
                    found.push(format!("{others}={scheme}://{address}"));
                    *others += 1;
                }
            }
        }
        if found.is_empty() {
            return Err(complaint);
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(host: &str, address: &str) -> Target {
        let record = ServiceRecord {
            priority: 0,
            target: host.to_owned(),
            port: 2380,
        };
        (record, vec![address.parse().expect("an address")])
    }

    #[test]
    fn the_member_is_known_by_its_addresses_and_others_are_numbered() {
        let url = MemberUrl::parse("http://10.0.0.2:2380").expect("a URL");
        let urls = [(&url, vec!["10.0.0.2:2380".parse().expect("an address")])];
        let own = Own {
            name: "m",
            urls: &urls,
        };
        let targets = [
            target("a.example", "10.0.0.1:2380"),
            target("b.example", "10.0.0.2:2380"),
            target("c.example", "10.0.0.2:2381"),
        ];
        let mut others = 0;
        assert_eq!(
            own.list("http", &targets, &mut others).expect("members"),
            [
                "0=http://a.example:2380",
                "m=http://b.example:2380",
                "1=http://c.example:2380",
            ]
        );
        // The other service's numbers go on, and its scheme is not that of this member's URL.
        assert_eq!(
            own.list("https", &targets[..2], &mut others).expect("a member"),
            ["2=https://a.example:2380"]
        );
        assert_eq!(
            own.list("https", &targets[1..2], &mut others)
                .expect_err("it is another one"),
            "bootstrap at https://b.example:2380 from DNS has scheme mismatch with expected peer http://10.0.0.2:2380"
        );
        assert!(own.list("http", &[], &mut others).is_err());
    }

    #[test]
    fn services_have_a_suffix_where_one_is_given() {
        assert_eq!(service_name("etcd-server-ssl", ""), "etcd-server-ssl");
        assert_eq!(service_name("etcd-server", "blue"), "etcd-server-blue");
    }
}
