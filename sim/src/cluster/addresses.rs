//! Where the simulated machines are.

use std::net::{IpAddr, Ipv4Addr};

/// The port on which members serve clients.
const CLIENT_PORT: u16 = 2379;
const PEER_PORT: u16 = 2380;

/// The address of a member's machine.
pub fn member_address(number: usize) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, number as u8 + 1).into()
}

/// The URL at which other members reach a member.
pub fn peer_url(number: usize, is_secure: bool) -> String {
    let scheme = if is_secure { "https" } else { "http" };
    format!("{scheme}://{}:{PEER_PORT}", member_address(number))
}

/// The flag that lists members.
pub(super) fn initial_cluster(members: impl IntoIterator<Item = usize>, is_secure: bool) -> String {
    let members = members.into_iter();
    let pairs: Vec<_> = members
        .map(|number| format!("m{}={}", number + 1, peer_url(number, is_secure)))
        .collect();
    pairs.join(",")
}

/// The address of a client's machine.
pub fn client_address(number: usize) -> IpAddr {
    Ipv4Addr::new(10, 0, 1, number as u8 + 1).into()
}

/// The address at which a member serves clients.
pub fn endpoint(number: usize) -> String {
    format!("{}:{CLIENT_PORT}", member_address(number))
}
