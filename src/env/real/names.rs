//! Names as the operating system and its name servers know them.

use crate::env::ServiceRecord;
use hickory_resolver::TokioResolver;
use hickory_resolver::proto::rr::{Name, RData};
use std::io;
use std::net::{IpAddr, SocketAddr};

/// Where `host:port` is: all its addresses, by the system's own rules (`/etc/hosts` and others come before DNS).
pub async fn resolve(address: &str) -> io::Result<Vec<SocketAddr>> {
    Ok(tokio::net::lookup_host(address).await?.collect())
}

/// The records of a service, such as `_etcd-server._tcp.example.com`, from the name servers of `/etc/resolv.conf`.
pub async fn lookup_service(name: &str) -> io::Result<Vec<ServiceRecord>> {
    let found = resolver()?.srv_lookup(name).await;
    let found = found.map_err(|error| {
        let reason = match &error {
            error if error.is_no_records_found() => "no such host".to_owned(),
            error => error.to_string(),
        };
        io::Error::other(format!("lookup {name}: {reason}"))
    })?;
    let records = found.answers().iter().filter_map(|record| match &record.data {
        RData::SRV(service) => Some(ServiceRecord {
            priority: service.priority,
            target: service.target.to_ascii().trim_end_matches('.').to_owned(),
            port: service.port,
        }),
        _ => None,
    });
    let mut records: Vec<_> = records.collect();
    records.sort();
    Ok(records)
}

/// The names of an address, from `/etc/hosts` and the name servers; none if it has none.
pub async fn names_of(address: IpAddr) -> Vec<String> {
    let Ok(resolver) = resolver() else {
        return Vec::new();
    };
    let Ok(found) = resolver.reverse_lookup(Name::from(address)).await else {
        return Vec::new();
    };
    let names = found.answers().iter().filter_map(|record| match &record.data {
        RData::PTR(name) => Some(name.0.to_ascii().trim_end_matches('.').to_owned()),
        _ => None,
    });
    names.collect()
}

/// A resolver that asks the name servers of `/etc/resolv.conf`, as that is now.
fn resolver() -> io::Result<TokioResolver> {
    let built = TokioResolver::builder_tokio().and_then(hickory_resolver::ResolverBuilder::build);
    built.map_err(io::Error::other)
}
