//! Where the simulated machines are.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

/// The port on which members serve clients.
const CLIENT_PORT: u16 = 2379;
/// The port on which members serve each other, until they move.
const PEER_PORT: u16 = 2380;

/// The address of a member's machine.
pub fn member_address(number: usize) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, number as u8 + 1).into()
}

/// Where other members reach the members. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct PeerPlaces {
    ports: Arc<[AtomicU16]>,
    is_secure: bool,
}

impl PeerPlaces {
    pub fn new(members: usize, is_secure: bool) -> Self {
        Self {
            ports: (0..members).map(|_| AtomicU16::new(PEER_PORT)).collect(),
            is_secure,
        }
    }

    /// The URL at which other members reach a member, after so many moves.
    pub fn url(&self, number: usize, moves: u16) -> String {
        let scheme = if self.is_secure { "https" } else { "http" };
        // A member that is only ever listed has no place of its own.
        let port = self
            .ports
            .get(number)
            .map_or(PEER_PORT, |port| port.load(Ordering::Relaxed))
            + moves;
        format!("{scheme}://{}:{port}", member_address(number))
    }

    pub fn has_moved(&self, number: usize) -> bool {
        self.ports[number].load(Ordering::Relaxed) != PEER_PORT
    }

    /// Moves a member.
    pub fn advance(&self, number: usize) {
        self.ports[number].fetch_add(1, Ordering::Relaxed);
    }

    /// The flag that lists members, where they are now.
    pub fn initial_cluster(&self, members: impl IntoIterator<Item = usize>) -> String {
        let members = members.into_iter();
        let pairs: Vec<_> = members
            .map(|number| format!("m{}={}", number + 1, self.url(number, 0)))
            .collect();
        pairs.join(",")
    }

    /// The same flag as the cluster was founded with. Who moves a member leaves it alone.
    pub fn founders(&self) -> String {
        let count = self.ports.len();
        Self::new(count, self.is_secure).initial_cluster(0..count)
    }
}

/// The address of a client's machine.
pub fn client_address(number: usize) -> IpAddr {
    Ipv4Addr::new(10, 0, 1, number as u8 + 1).into()
}

/// The address at which a member serves clients.
pub fn endpoint(number: usize) -> String {
    format!("{}:{CLIENT_PORT}", member_address(number))
}
