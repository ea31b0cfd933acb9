//! The links between machines: how to dial, their faults, and the repair of these.

use super::{Cluster, member_address};
use crate::options::PeerTls;
use callboard::cluster::MemberUrl;
use callboard::env::network;
use callboard::ids::MemberId;
use callboard::peer::link::Remote;
use callboard::tls::Settings;
use std::net::IpAddr;
use std::time::Duration;

impl Cluster {
    /// The URL at which other members reach a member.
    pub fn peer_url(&self, number: usize) -> String {
        self.places.url(number, 0)
    }

    /// The URL at which they would after its next move.
    pub fn next_peer_url(&self, number: usize) -> String {
        self.places.url(number, 1)
    }

    /// Moves a member to that URL, from its next process on.
    pub fn relocate(&self, number: usize) {
        self.places.advance(number);
    }

    /// Whether a member has moved since it was first started.
    pub fn has_moved(&self, number: usize) -> bool {
        self.places.has_moved(number)
    }

    /// What one member needs to dial another, if both have run.
    pub fn remote(&self, from: usize, to: usize) -> Option<Remote> {
        let settings = match (&self.certificates, self.peer_tls) {
            (Some(certificates), _) => Some(certificates.files(from).settings()),
            (None, PeerTls::None) => None,
            (None, _) => Some(Settings {
                self_signed: true,
                ..Settings::default()
            }),
        };
        let dialler = settings.map(|settings| settings.connector().expect("sound files"));
        Some(Remote {
            own: self.identity(from)?,
            member: MemberId(self.member_id(to)?),
            urls: vec![MemberUrl::parse(&self.peer_url(to)).expect("a URL")],
            own_urls: vec![self.peer_url(from)],
            dialler,
        })
    }

    pub fn cut(&self, from: usize, to: usize) {
        set_cut(member_address(from), member_address(to), true);
    }

    pub fn garble(&self, from: usize, to: usize, permille: u64) {
        network::change_road(member_address(from), member_address(to), |road| {
            road.corrupt_permille = permille;
        });
    }

    /// Drops this many of the next frames with data in one direction between two members.
    pub fn lose_frames(&self, from: usize, to: usize, frames: u64) {
        network::change_road(member_address(from), member_address(to), |road| {
            road.vanishing_frames = frames;
        });
    }

    pub fn delay(&self, from: usize, to: usize, delay: Duration) {
        network::change_road(member_address(from), member_address(to), |road| {
            road.delay = delay
        });
    }

    pub fn mend(&self, from: usize, to: usize) {
        set_cut(member_address(from), member_address(to), false);
        self.garble(from, to, 0);
        self.delay(from, to, Duration::ZERO);
    }

    /// The machines of all members and clients.
    pub fn all_addresses(&self) -> Vec<IpAddr> {
        let members = (0..self.members.len()).map(member_address);
        members.chain(self.clients.iter().copied()).collect()
    }

    pub fn clog(&self, number: usize, other: IpAddr, inwards: bool, outwards: bool, is_cut: bool) {
        let own = member_address(number);
        if inwards {
            set_cut(other, own, is_cut);
        }
        if outwards {
            set_cut(own, other, is_cut);
        }
    }

    /// Cuts these members off from all others.
    pub fn cut_off(&self, members: &[usize]) {
        for from in 0..self.members.len() {
            for to in members {
                if !members.contains(&from) {
                    self.cut(from, *to);
                    self.cut(*to, from);
                }
            }
        }
    }

    /// Restores all links among these members.
    pub fn mend_all(&self, members: &[usize]) {
        for from in members {
            for to in members {
                if from != to {
                    self.mend(*from, *to);
                }
            }
        }
    }
}

fn set_cut(from: IpAddr, to: IpAddr, is_cut: bool) {
    network::change_road(from, to, |road| road.is_cut = is_cut);
}
