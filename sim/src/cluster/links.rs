//! The links between machines: how to dial, their faults, and the repair of these.

use super::{Cluster, member_address, peer_url};
use callboard::cluster::MemberUrl;
use callboard::env::network;
use callboard::ids::MemberId;
use callboard::peer::link::Remote;
use callboard::tls::Settings;
use std::net::IpAddr;
use std::time::Duration;

impl Cluster {
    /// What one member needs to dial another, if both have run.
    pub fn remote(&self, from: usize, to: usize) -> Option<Remote> {
        let dialler = self.peer_tls.then(|| {
            let settings = Settings {
                self_signed: true,
                ..Settings::default()
            };
            settings.connector().expect("no file is read")
        });
        Some(Remote {
            own: self.identity(from)?,
            member: MemberId(self.member_id(to)?),
            urls: vec![MemberUrl::parse(&peer_url(to, self.peer_tls)).expect("a URL")],
            own_urls: vec![peer_url(from, self.peer_tls)],
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
