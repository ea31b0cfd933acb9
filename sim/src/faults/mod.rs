//! Faults: one file per kind, each with a description. `schedule` decides what strikes when; the victim and the severity come
//! from the strike's own random numbers.

mod bit_rot;
mod blank_disk;
mod client_cut;
mod clock_jump;
mod clog;
mod corruption;
mod crash_loop;
mod crash_point;
mod engine_error;
mod engine_work;
mod flap;
mod half_open;
mod ill_disk;
mod isolate_leader;
mod kill;
pub mod late_connection;
mod lost_sector;
mod narrow_link;
mod older_disk;
mod one_way;
mod partition;
mod pause;
mod power_loss;
mod rolling_restart;
pub mod schedule;
mod slow_links;
mod slow_reader;
mod stop;
mod suspend;
mod swapped_disks;
mod swizzle;
mod transfer_cut;

use crate::cluster::Cluster;
use crate::disk::Ailment;
use crate::fault_kind::FaultKind;
use crate::random::RandomStream;
use std::rc::Rc;
use std::time::Duration;

/// The environment of a fault.
pub struct Stage {
    pub cluster: Rc<Cluster>,
    pub random: RandomStream,
}

impl Stage {
    /// The leader in half of the cases, else any member.
    fn victim(&mut self) -> usize {
        let anybody = self.random.below(self.cluster.members.len() as u64) as usize;
        let leader = self.cluster.leader().filter(|_| self.random.chance(50));
        leader.unwrap_or(anybody)
    }

    /// Two different members, if there are two.
    fn pair(&mut self) -> Option<(usize, usize)> {
        let count = self.cluster.members.len() as u64;
        if count < 2 {
            return None;
        }
        let first = self.victim();
        let other = self.random.below(count - 1) as usize;
        Some((first, if other >= first { other + 1 } else { other }))
    }

    /// Waits for the end of this process of a member, for a bounded time; whether it has ended. Another fault may start the next
    /// process immediately.
    async fn wait_for_end(&mut self, member: usize, life: Option<u64>, limit: Duration) -> bool {
        let deadline = crate::world::elapsed() + limit;
        while life.is_some() && self.cluster.life(member) == life {
            if crate::world::elapsed() >= deadline {
                return false;
            }
            self.wait(5, 50).await;
        }
        true
    }

    /// Starts a member, unless it runs.
    fn restart(&self, member: usize) {
        if self.cluster.restart(member) {
            self.cluster.event(member, "restart", "");
        }
    }

    async fn wait(&mut self, ms_min: u64, ms_max: u64) {
        madsim::time::sleep(Duration::from_millis(self.random.between(ms_min, ms_max))).await;
    }
}

async fn strike(kind: FaultKind, stage: &mut Stage) {
    match kind {
        FaultKind::Kill => kill::strike(stage).await,
        FaultKind::CrashLoop => crash_loop::strike(stage).await,
        FaultKind::PowerLoss => power_loss::strike(stage).await,
        FaultKind::Pause => pause::strike(stage, 6_000).await,
        FaultKind::LongPause => pause::strike(stage, 120_000).await,
        FaultKind::Stop => stop::strike(stage).await,
        FaultKind::RollingRestart => rolling_restart::strike(stage).await,
        FaultKind::SyncFailure => ill_disk::strike(stage, Ailment::Syncs).await,
        FaultKind::ReadError => ill_disk::strike(stage, Ailment::Reads).await,
        FaultKind::WriteError => ill_disk::strike(stage, Ailment::Writes).await,
        FaultKind::DiskFull => ill_disk::strike(stage, Ailment::Full).await,
        FaultKind::BitRot => bit_rot::strike(stage).await,
        FaultKind::BlankDisk => blank_disk::strike(stage).await,
        FaultKind::SwappedDisks => swapped_disks::strike(stage).await,
        FaultKind::Partition => partition::strike(stage).await,
        FaultKind::OneWay => one_way::strike(stage).await,
        FaultKind::IsolateLeader => isolate_leader::strike(stage).await,
        FaultKind::Flap => flap::strike(stage).await,
        FaultKind::Clog => clog::strike(stage).await,
        FaultKind::Swizzle => swizzle::strike(stage).await,
        FaultKind::ClientCut => client_cut::strike(stage).await,
        FaultKind::Corruption => corruption::strike(stage).await,
        FaultKind::HalfOpen => half_open::strike(stage).await,
        FaultKind::LateConnection => late_connection::strike(stage),
        FaultKind::TransferCut => transfer_cut::strike(stage).await,
        FaultKind::OlderDisk => older_disk::strike(stage).await,
        FaultKind::SlowLinks => slow_links::strike(stage).await,
        FaultKind::NarrowLink => narrow_link::strike(stage).await,
        FaultKind::SlowReader => slow_reader::strike(stage).await,
        FaultKind::ClockJump => clock_jump::strike(stage).await,
        FaultKind::Suspend => suspend::strike(stage).await,
        FaultKind::EngineWork => engine_work::strike(stage).await,
        FaultKind::EngineError => engine_error::strike(stage).await,
        FaultKind::CrashPoint => crash_point::strike(stage).await,
        FaultKind::LostSector => lost_sector::strike(stage).await,
    }
}
