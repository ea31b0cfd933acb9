//! The operator of the cluster, who does one thing after the other and waits until all members are well again.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::support::authority::Authority;
use crate::support::cluster::{Cluster, Member};
use crate::support::{self, etcdctl, poll, ports};

/// Members must have been in reach for five seconds before the cluster changes.
const CHANGE_LIMIT: Duration = Duration::from_mins(1);
const MEMBERS: usize = 3;

/// What an operator does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Deed {
    Kill,
    Restart,
    Replace,
    Relocate,
    MoveLeader,
    RenewCertificates,
    ReplaceAuthority,
    Compact,
}

impl Deed {
    const ALL: [Self; 8] = [
        Self::Kill,
        Self::Restart,
        Self::Replace,
        Self::Relocate,
        Self::MoveLeader,
        Self::RenewCertificates,
        Self::ReplaceAuthority,
        Self::Compact,
    ];
}

pub struct Operator {
    cluster: Cluster,
    authority: Authority,
    authorities: u64,
    /// What all members trust.
    trusted: PathBuf,
    random: u64,
    counts: BTreeMap<Deed, u64>,
    /// Those not done yet in this round: a round has all of them, in any order.
    left: Vec<Deed>,
}

impl Operator {
    /// Starts the members, with certificates towards each other.
    pub fn start(seed: u64) -> Self {
        let flags = ["--snapshot-count=2000", "--peer-client-cert-auth"];
        let mut cluster = Cluster::prepare(&support::callboard_bin(), &ports::free(2 * MEMBERS), &flags);
        let authority = Authority::new(cluster.directory(), "authority-0");
        let trusted = cluster.directory().join("trusted.ca");
        let peers: Vec<_> = cluster.members.iter().map(|member| member.peer).collect();
        for peer in peers {
            substitute(
                &mut cluster,
                &format!("http://{peer}"),
                &format!("https://{peer}"),
            );
        }
        for member in &mut cluster.members {
            let file = |extension: &str| member.data_dir.with_extension(extension).display().to_string();
            let flags = [
                format!("--peer-cert-file={}", file("crt")),
                format!("--peer-key-file={}", file("key")),
                format!("--peer-trusted-ca-file={}", trusted.display()),
            ];
            member.arguments.extend(flags.map(OsString::from));
        }
        let mut this = Self {
            authority,
            authorities: 1,
            trusted,
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            counts: BTreeMap::new(),
            left: Vec::new(),
            cluster,
        };
        fs::copy(&this.authority.file, &this.trusted).expect("a scratch file");
        this.sign_all();
        for member in &mut this.cluster.members {
            member.start();
        }
        this.settle();
        this
    }

    pub fn clients(&self) -> Vec<SocketAddr> {
        self.cluster.members.iter().map(|member| member.client).collect()
    }

    pub fn members(&mut self) -> &mut [Member] {
        &mut self.cluster.members
    }

    pub fn counts(&self) -> String {
        format!("{:?}", self.counts)
    }

    /// Waits until all members serve.
    pub fn settle(&mut self) {
        for member in &mut self.cluster.members {
            member.wait_ready().unwrap_or_else(|error| panic!("{error}"));
        }
    }

    /// Does one thing.
    pub fn act(&mut self) {
        if self.left.is_empty() {
            self.left = Deed::ALL.to_vec();
        }
        let place = self.below(self.left.len());
        let deed = self.left.swap_remove(place);
        let number = self.below(MEMBERS);
        println!("{deed:?} of {}", self.cluster.members[number].name);
        match deed {
            Deed::Kill => {
                self.cluster.members[number].kill();
                self.pause(2_000);
                self.cluster.members[number].start();
            }
            Deed::Restart => {
                self.cluster.members[number].terminate();
                self.pause(2_000);
                self.cluster.members[number].start();
            }
            Deed::Replace => self.replace(number),
            Deed::Relocate => self.relocate(number),
            Deed::MoveLeader => self.move_leader(number),
            Deed::RenewCertificates => self.sign_all(),
            Deed::ReplaceAuthority => self.replace_authority(),
            Deed::Compact => self.compact(number),
        }
        *self.counts.entry(deed).or_default() += 1;
        self.pause(2_000);
    }

    /// Removes a member for ever, and adds it again with an empty directory.
    fn replace(&mut self, number: usize) {
        let other = self.cluster.members[(number + 1) % MEMBERS].client;
        let id = format!("{:x}", etcdctl::id(self.cluster.members[number].client));
        change(other, &["member", "remove", &id]);
        let is_learner = self.below(2) == 0;
        let member = &mut self.cluster.members[number];
        member.wait_for_end();
        fs::remove_dir_all(&member.data_dir).expect("removed");
        for argument in &mut member.arguments {
            if *argument == "new" {
                *argument = "existing".into();
            }
        }
        let url = peer_url(member);
        let mut words = vec!["member", "add", &member.name, "--peer-urls", &url];
        words.extend(is_learner.then_some("--learner"));
        change(other, &words);
        member.start();
        if is_learner {
            let members = etcdctl::stdout(other, &["member", "list"]);
            let line = members.lines().find(|line| line.contains(&url));
            let id = line
                .and_then(|line| line.split(',').next())
                .expect("it is listed");
            change(other, &["member", "promote", id]);
        }
    }

    /// Moves a member to another port.
    fn relocate(&mut self, number: usize) {
        let member = &mut self.cluster.members[number];
        let id = format!("{:x}", etcdctl::id(member.client));
        let before = peer_url(member);
        member.peer.set_port(ports::free(1)[0]);
        let after = peer_url(member);
        let other = self.cluster.members[(number + 1) % MEMBERS].client;
        change(other, &["member", "update", &id, "--peer-urls", &after]);
        self.cluster.members[number].terminate();
        substitute(&mut self.cluster, &before, &after);
        self.cluster.members[number].start();
    }

    /// Makes a member lead, if another one does.
    fn move_leader(&mut self, number: usize) {
        let target = etcdctl::id(self.cluster.members[number].client);
        for member in &self.cluster.members {
            let status = etcdctl::status(member.client);
            let (own, leader) = (&status["header"]["member_id"], &status["leader"]);
            if own == leader && own.as_u64() != Some(target) {
                // An election may come in between.
                etcdctl::run(member.client, &["move-leader", &format!("{target:x}")], b"");
            }
        }
    }

    /// By hand: no process lives long enough to compact automatically.
    fn compact(&self, number: usize) {
        let member = self.cluster.members[number].client;
        let revision = etcdctl::status(member)["header"]["revision"].to_string();
        let compacted = etcdctl::run(member, &["compact", &revision], b"");
        assert_eq!(compacted.code, 0, "{}", compacted.text());
    }

    fn sign_all(&self) {
        for member in &self.cluster.members {
            let name = member.data_dir.file_stem().expect("a name").to_string_lossy();
            self.authority.sign(self.cluster.directory(), &name, &member.name);
        }
    }

    /// First both authorities are trusted, then the members get other certificates, then the old authority goes.
    fn replace_authority(&mut self) {
        let name = format!("authority-{}", self.authorities);
        self.authorities += 1;
        let newer = Authority::new(self.cluster.directory(), &name);
        let read = |authority: &Authority| fs::read(&authority.file).expect("readable");
        let both = [read(&self.authority), read(&newer)].concat();
        fs::write(&self.trusted, both).expect("a scratch file");
        self.authority = newer;
        self.pause(1_000);
        self.sign_all();
        self.pause(1_000);
        fs::copy(&self.authority.file, &self.trusted).expect("a scratch file");
    }

    fn below(&mut self, limit: usize) -> usize {
        // Marsaglia's xorshift.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random % limit as u64) as usize
    }

    fn pause(&mut self, ms_max: usize) {
        std::thread::sleep(Duration::from_millis(self.below(ms_max) as u64));
    }
}

/// Repeats a change until the cluster is well enough for it. One that was given up may have been made.
fn change(member: SocketAddr, words: &[&str]) {
    let look = || {
        let ended = etcdctl::run(member, words, b"");
        let text = ended.text();
        let is_made = ended.code == 0
            || text.contains("member not found")
            || text.contains("Peer URLs already exists")
            || text.contains("can only promote a learner member\n");
        is_made.then_some(()).ok_or(text)
    };
    poll::until(CHANGE_LIMIT, look).unwrap_or_else(|complaint| panic!("{words:?}: {complaint}"));
}

fn peer_url(member: &Member) -> String {
    format!("https://{}", member.peer)
}

/// Replaces a text in all members' arguments.
fn substitute(cluster: &mut Cluster, before: &str, after: &str) {
    for argument in cluster
        .members
        .iter_mut()
        .flat_map(|member| &mut member.arguments)
    {
        let text = argument.to_str().expect("text").replace(before, after);
        *argument = text.into();
    }
}
