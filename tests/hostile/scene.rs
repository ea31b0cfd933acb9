//! A cluster under attack, and what must hold meanwhile.

use crate::bystander::Bystander;
use crate::support::cluster::Cluster;
use crate::support::kv_client::{Client, block_on};
use crate::support::{self, poll};
use crate::{ATTACK_MAX, ATTACK_MIN, MB, P99_MAX};
use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(10);

/// Tests take turns: each measures.
static TURN: Mutex<()> = Mutex::new(());

pub struct Scene {
    pub cluster: Cluster,
    _turn: MutexGuard<'static, ()>,
}

/// Who leads, in which term, in the eyes of one member.
type Leadership = (u64, u64);

impl Scene {
    pub fn start(members: usize) -> Self {
        Self::start_with(members, &[])
    }

    /// The same, with more flags for every member.
    pub fn start_with(members: usize, flags: &[&str]) -> Self {
        Self::start_by(|| Cluster::start_with(&support::callboard_bin(), members, flags))
    }

    /// The same with a cluster of the test's own.
    pub fn start_by(start: impl FnOnce() -> Cluster) -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        Self {
            cluster: start(),
            _turn: turn,
        }
    }

    /// The leader's place.
    pub fn leader(&self) -> usize {
        let found = poll::until(LIMIT, || {
            let statuses = self.statuses()?;
            statuses
                .iter()
                .position(|(member, (leader, _))| member == leader)
                .ok_or_else(|| "nobody leads".to_owned())
        });
        found.expect("a leader")
    }

    fn statuses(&self) -> Result<Vec<(u64, Leadership)>, String> {
        let ask = |address: SocketAddr| {
            block_on(async {
                let status = Client::new(&[address], LIMIT).status().await.acked()?;
                let member = status.header.as_ref().map_or(0, |header| header.member_id);
                Ok((member, (status.leader, status.raft_term)))
            })
        };
        self.cluster
            .members
            .iter()
            .map(|member| ask(member.client))
            .collect()
    }

    /// Does something to the leader, without a bystander.
    pub fn attack_once<F: Future<Output = ()>>(&mut self, attack: impl Fn(SocketAddr) -> F) {
        let member = self.cluster.members[self.leader()].client;
        block_on(async {
            let done = tokio::time::timeout(ATTACK_MAX, attack(member)).await;
            assert!(done.is_ok(), "it took longer than {ATTACK_MAX:?}");
        });
    }

    /// Attacks the leader and says how its memory, its bystanders and the cluster fared. `attack` is begun again until it has lasted
    /// long enough. `memory_mb` is what the member may take beside what it took before.
    pub fn attack<F: Future<Output = ()>>(
        &mut self,
        name: &str,
        memory_mb: u64,
        attack: impl Fn(SocketAddr) -> F,
    ) {
        let place = self.leader();
        let before = self.statuses().expect("all members answer");
        let id = self.cluster.members[place].process().id();
        let resident_before = memory(id, "VmRSS:");
        // From here on the peak counts anew.
        std::fs::write(format!("/proc/{id}/clear_refs"), "5").expect("a process of our own");
        let member = self.cluster.members[place].client;
        let bystander = Bystander::start(member);
        let begin = Instant::now();
        let mut rounds = 0;
        block_on(async {
            while begin.elapsed() < ATTACK_MIN {
                let round = tokio::time::timeout(ATTACK_MAX, attack(member)).await;
                assert!(round.is_ok(), "{name}: a round took longer than {ATTACK_MAX:?}");
                rounds += 1;
            }
        });
        let took = begin.elapsed();
        let latencies = bystander.stop();
        let peak = memory(id, "VmHWM:").saturating_sub(resident_before) / MB;
        println!(
            "{name}: {rounds} rounds in {took:.1?}, p99 of puts {:.0?}, of gets {:.0?}, {peak} MB more at most",
            latencies.put_p99(),
            latencies.get_p99(),
        );
        for member in &mut self.cluster.members {
            assert!(member.is_running(), "{name}: {} has ended", member.name);
        }
        assert_eq!(
            self.statuses().expect("all members answer"),
            before,
            "{name}: a new term or leader"
        );
        assert!(
            latencies.put_p99() <= P99_MAX,
            "{name}: puts waited {:?}",
            latencies.put_p99()
        );
        assert!(
            latencies.get_p99() <= P99_MAX,
            "{name}: gets waited {:?}",
            latencies.get_p99()
        );
        assert!(
            peak <= memory_mb,
            "{name}: {peak} MB, though {memory_mb} MB are allowed"
        );
    }
}

/// What the kernel says of a process's memory, in bytes.
pub fn memory(id: u32, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kilobytes = line.expect("Linux says so").trim().trim_end_matches(" kB");
    kilobytes.parse::<u64>().expect("a number") * 1024
}
