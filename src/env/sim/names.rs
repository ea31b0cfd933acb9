//! Names in the simulator: addresses alone.

use crate::env::ServiceRecord;
use std::io;
use std::net::{IpAddr, SocketAddr};

/// Where `host:port` is, if the host is an address.
pub async fn resolve(address: &str) -> io::Result<Vec<SocketAddr>> {
    match address.parse() {
        Ok(address) => Ok(vec![address]),
        Err(_) => Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!("lookup {address}: there are no names in the simulator"),
        )),
    }
}

/// No address has a name.
pub async fn names_of(_: IpAddr) -> Vec<String> {
    Vec::new()
}

/// No service is known.
pub async fn lookup_service(name: &str) -> io::Result<Vec<ServiceRecord>> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        format!("lookup {name}: not supported in the simulator"),
    ))
}
