//! A member lags so far that it is sent a snapshot, and is cut off once that has begun to arrive. The transfer resumes later, or
//! a new one begins.

use super::Stage;
use std::time::Duration;

/// In this time clients write enough that the others cut their logs, if these are short.
const AWAY_MS_MAX: u64 = 5_000;
/// A transfer that has not begun by then will not begin.
const BEGINS_MAX: Duration = Duration::from_secs(5);
/// How often the same transfer is cut off at most.
const CUTS_MAX: u64 = 3;

/// After this time both ends have detected the cut, and what has arrived is kept for the next attempt.
const NOTICED_MS_MAX: u64 = 15_500;

/// The log message of a receiver when a snapshot begins.
const BEGINS: &str = "receiving a snapshot";

pub async fn strike(stage: &mut Stage) {
    let victim = stage.victim();
    if stage.cluster.members.len() < 3 || !stage.cluster.kill(victim).await {
        return;
    }
    stage.cluster.event(victim, "! killed, to lag", "");
    stage.wait(500, AWAY_MS_MAX).await;
    let mut begun = stage.cluster.world.messages(BEGINS);
    stage.restart(victim);
    for _ in 0..stage.random.between(1, CUTS_MAX) {
        if !begins(stage, begun).await {
            break;
        }
        begun = stage.cluster.world.messages(BEGINS);
        stage.wait(0, 60).await;
        stage.cluster.event(victim, "! cut off in mid-transfer", "");
        stage.cluster.world.count("transfers cut", 1);
        stage.cluster.cut_off(&[victim]);
        if stage.random.chance(30) {
            stage.wait(50, 5_000).await;
        } else {
            stage.wait(NOTICED_MS_MAX, NOTICED_MS_MAX + 4_000).await;
        }
        let everybody: Vec<usize> = (0..stage.cluster.members.len()).collect();
        stage.cluster.mend_all(&everybody);
        stage.cluster.event(victim, "heard again", "");
    }
}

/// Whether another transfer begins.
async fn begins(stage: &mut Stage, begun: u64) -> bool {
    let deadline = crate::world::elapsed() + BEGINS_MAX;
    while stage.cluster.world.messages(BEGINS) == begun {
        if crate::world::elapsed() >= deadline {
            return false;
        }
        stage.wait(1, 2).await;
    }
    true
}
