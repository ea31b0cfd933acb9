//! The schedule of faults. It is drawn from the seed before anything happens, as plain data, and each strike (one occurrence of a
//! fault) has its own random numbers. So any of them can be left out, and the others still strike as before. This is how a
//! failing schedule is shrunk, and how the remaining strikes are named on a command line.

use super::{Stage, strike};
use crate::cluster::Cluster;
use crate::fault_kind::FaultKind;
use crate::options::Options;
use crate::random::RandomStream;
use madsim::task::JoinHandle;
use std::rc::Rc;
use std::time::Duration;

/// The length of the schedule. No safety phase is longer.
pub const REACH: Duration = Duration::from_secs(300);
/// Strikes last some seconds. With this interval, in addition to the pause, a few overlap and most do not.
const GAP_MS: u64 = 2_500;

/// One strike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strike {
    /// Its place in the whole schedule of its seed, from 1.
    pub number: u32,
    /// When it begins.
    pub at: Duration,
    pub kind: FaultKind,
    /// The seed of its own random numbers, which decide the victim, the severity and the duration.
    pub seed: u64,
}

/// The schedule of these options.
pub fn draw(options: &Options) -> Vec<Strike> {
    let mut random = RandomStream::of(options.seed, "faults");
    let mut strikes = Vec::new();
    let mut at = Duration::ZERO;
    if options.faults.is_empty() {
        return strikes;
    }
    for number in 1.. {
        at += Duration::from_millis(random.between(50, options.calm_ms_max + GAP_MS));
        if at > REACH {
            break;
        }
        strikes.push(Strike {
            number,
            at,
            kind: *random.pick(&options.faults),
            seed: random.next(),
        });
    }
    if let Some(chosen) = &options.strikes {
        strikes.retain(|strike| chosen.contains(&strike.number));
    }
    strikes
}

/// Runs the strikes as scheduled, until it is dropped. The caller that drops it repairs the remaining faults.
pub async fn play(cluster: Rc<Cluster>, strikes: Vec<Strike>) {
    let mut under_way = UnderWay(Vec::new());
    for scheduled in strikes {
        madsim::time::sleep(scheduled.at.saturating_sub(crate::world::elapsed())).await;
        cluster.world.struck(scheduled.number);
        cluster.world.count(scheduled.kind.counter(), 1);
        let mut stage = Stage {
            cluster: Rc::clone(&cluster),
            random: RandomStream::of(scheduled.seed, "strike"),
        };
        under_way.0.push(madsim::task::spawn_local(async move {
            strike(scheduled.kind, &mut stage).await;
        }));
    }
    std::future::pending().await
}

/// Strikes that end with the schedule.
struct UnderWay(Vec<JoinHandle<()>>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        for strike in &self.0 {
            strike.abort();
        }
    }
}
