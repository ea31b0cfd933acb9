//! Trouble: one file per kind, each with one line that says what it is. What strikes when is in
//! `schedule`; whom and how hard comes from the strike's own random numbers.

mod crash_loop;
mod flap;
mod isolate_leader;
mod kill;
mod one_way;
mod partition;
mod pause;
mod power_loss;
pub mod schedule;

use crate::cluster::Cluster;
use crate::options::FaultKind;
use crate::random::Stream;
use std::rc::Rc;
use std::time::Duration;

/// Where trouble happens.
pub struct Stage {
    pub cluster: Rc<Cluster>,
    pub random: Stream,
}

impl Stage {
    /// The leader in half of the cases, else anybody.
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

    async fn wait(&mut self, ms_min: u64, ms_max: u64) {
        madsim::time::sleep(Duration::from_millis(self.random.between(ms_min, ms_max))).await;
    }
}

async fn strike(kind: FaultKind, stage: &mut Stage) {
    match kind {
        FaultKind::Kill => kill::strike(stage).await,
        FaultKind::CrashLoop => crash_loop::strike(stage).await,
        FaultKind::PowerLoss => power_loss::strike(stage).await,
        FaultKind::Pause => pause::strike(stage).await,
        FaultKind::Partition => partition::strike(stage).await,
        FaultKind::OneWay => one_way::strike(stage).await,
        FaultKind::IsolateLeader => isolate_leader::strike(stage).await,
        FaultKind::Flap => flap::strike(stage).await,
    }
}

/// Under which name the report counts it.
pub const fn counter(kind: FaultKind) -> &'static str {
    match kind {
        FaultKind::Kill => "fault: kill",
        FaultKind::CrashLoop => "fault: crash loop",
        FaultKind::PowerLoss => "fault: power loss",
        FaultKind::Pause => "fault: pause",
        FaultKind::Partition => "fault: partition",
        FaultKind::OneWay => "fault: one way",
        FaultKind::IsolateLeader => "fault: isolate leader",
        FaultKind::Flap => "fault: flap",
    }
}
