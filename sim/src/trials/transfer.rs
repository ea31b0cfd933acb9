//! The transfer of a snapshot to a lagging member is disturbed, and the member still gets the complete state.
//!
//! | action in mid-transfer | expected result |
//! |---|---|
//! | the receiver is killed, and the sender gives up | a new transfer once it is back |
//! | the receiver is cut off until both ends detect it | the transfer resumes where it stopped |
//! | a chunk vanishes, as a frame does whose type is flipped | the receiver detects the gap, and the transfer begins again |
//! | the sender is cut off, another leader sends its state, the first sender returns and resumes | late records do no harm |
//! | the sender loses power, reapplies its log, leads again at the same index | its records differ: the transfer begins again |
//!
//! The comparison of all stores at the end of the rehearsal checks that the received records are the sender's.

use super::{ANSWERED_WITHIN, ELECTION_TIMEOUT, all_but, answers, calm, everybody, follower, until, write};
use crate::checkers::{Violation, violation};
use crate::clients;
use crate::cluster::Cluster;
use crate::history::Input;
use crate::options::{Options, PeerTls};
use crate::random::RandomStream;
use crate::rehearsal::{DIRECTOR, fair_weather};
use crate::workloads;
use crate::world::elapsed;
use callboard::env::network::{self, Weather};
use callboard::limits::{self, Sizes};
use std::time::Duration;

/// Entries that are written so that logs are cut. If that takes more, the trial is left out.
const ENTRIES_MAX: u64 = 150;
/// All attempts of a sender of snapshots end within this time, if the receiver's machine refuses connections.
const GIVEN_UP_MAX: Duration = Duration::from_secs(60);
/// After this time both ends of a transfer have detected the cut, and what has arrived is kept.
const NOTICED_MAX: Duration = Duration::from_secs(16);
/// If the log is cut at all, it is cut within this time.
const CUT_WITHIN: Duration = Duration::from_secs(10);
/// Some of these are frames of the links, whose loss is not noticed and does no harm.
const FRAMES_LOST: u64 = 3;
/// This many frames are sent within this time.
const VANISHED_WITHIN: Duration = Duration::from_secs(3);
/// A transfer may finish before it can be disturbed.
const ATTEMPTS_MAX: u64 = 3;
/// Routes on which a transfer takes many round trips.
const SLOW_ROADS: Weather = Weather {
    latency_us_min: 5_000,
    latency_us_max: 5_000,
    loss_permille: 0,
    window_bytes: 700,
};
/// How far a transfer may have come when it is disturbed.
const DISTURBED_WITHIN_MS: u64 = 250;
/// After this time compacted records are gone.
const RECLAIMED_AFTER: Duration = Duration::from_secs(2);
/// After this time an unconfirmed entry is on its leader's disk.
const WRITTEN_AFTER: Duration = Duration::from_millis(30);

/// Log messages: of a receiver when a snapshot begins to arrive, and of a sender when it gives up or resumes.
const BEGINS: &str = "receiving a snapshot";
const FAILED: &str = "failed to send a snapshot";
const GOES_ON: &str = "sending the snapshot goes on";
/// The log message of a member when it has switched to a snapshot.
const IN_USE: &str = "applySnapshot: opened snapshot backend";

/// How a transfer is disturbed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Disturbance {
    /// The receiver is killed.
    Fails,
    /// The receiver is cut off.
    Resumes,
    /// A chunk is lost on an intact connection.
    Vanishes,
    /// The sender is cut off, and another leader sends.
    Overtaken,
    /// The sender loses power.
    Repacked,
}

impl Disturbance {
    const fn counter(self) -> &'static str {
        match self {
            Self::Fails => "trial: transfer fails",
            Self::Resumes => "trial: transfer resumes",
            Self::Vanishes => "trial: chunk vanishes",
            Self::Overtaken => "trial: transfer overtaken",
            Self::Repacked => "trial: transfer repacked",
        }
    }
}

/// The disturbance of one transfer.
pub struct Trial {
    how: Disturbance,
    snapshot_count: u64,
    catch_up_entries: u64,
    random: RandomStream,
}

impl Trial {
    /// None if no member can lag far enough.
    pub fn of(options: &Options, mut random: RandomStream) -> Option<Self> {
        let (snapshot_count, catch_up_entries) = (options.snapshot_count, options.catch_up_entries);
        if options.members < 3 || 2 * snapshot_count + catch_up_entries > ENTRIES_MAX {
            return None;
        }
        let mut several = vec![Disturbance::Fails, Disturbance::Resumes, Disturbance::Overtaken];
        if options.peer_tls == PeerTls::None {
            several.push(Disturbance::Vanishes);
        }
        if options.members == 3 {
            // The sender must lead again with only the receiver's vote.
            several.extend([Disturbance::Repacked; 3]);
        }
        let how = *random.pick(&several);
        Some(Self {
            how,
            snapshot_count,
            catch_up_entries,
            random,
        })
    }

    /// The counter of the disturbance, if there was one.
    pub async fn play(mut self, cluster: &Cluster) -> Result<Option<&'static str>, Violation> {
        let usual = limits::sizes();
        // Records are packed differently only if many changes fit into one.
        let sizes = if self.how == Disturbance::Repacked {
            Sizes::DEFAULT
        } else {
            usual
        };
        limits::set_sizes(Sizes {
            snapshot_chunk_bytes: 1,
            ..sizes
        });
        let mut outcome = Ok(false);
        for _ in 0..ATTEMPTS_MAX {
            let attempt = self.attempt(cluster).await;
            fair_weather();
            let served = all_serve(cluster).await;
            outcome = outcome.and_then(|before| Ok(attempt? || before));
            outcome = outcome.and_then(|disturbed| served.map(|()| disturbed));
            // A record is missing only at some positions, so this disturbance is tried at several.
            if outcome.is_err() || outcome == Ok(true) && self.how != Disturbance::Repacked {
                break;
            }
        }
        limits::set_sizes(usual);
        outcome.map(|disturbed| disturbed.then(|| self.how.counter()))
    }

    /// One attempt; whether the transfer was disturbed.
    async fn attempt(&mut self, cluster: &Cluster) -> Result<bool, Violation> {
        let (leader, _) = calm(cluster).await?;
        let victim = follower(cluster, leader, &mut self.random);
        let name = &cluster.members[victim].name;
        if !self.lag(cluster, leader, victim).await? {
            cluster.restart(victim);
            return Ok(false);
        }
        network::set_weather(SLOW_ROADS);
        if self.how == Disturbance::Repacked {
            self.leave_alone(cluster, leader, victim).await;
        }
        let begun = cluster.world.messages(BEGINS);
        cluster.restart(victim);
        if !until(GIVEN_UP_MAX, || cluster.world.messages(BEGINS) > begun).await {
            return violation(format!(
                "{name} lacks what the others have cut off, and is not brought a snapshot within {GIVEN_UP_MAX:?}"
            ));
        }
        let wait_ms = self.random.between(0, DISTURBED_WITHIN_MS);
        madsim::time::sleep(Duration::from_millis(wait_ms)).await;
        let disturbed = self.disturb(cluster, leader, victim).await;
        let leads = || cluster.leader().is_some();
        let applied = if until(GIVEN_UP_MAX, leads).await {
            cluster.leader().map(|leader| cluster.standing(leader).applied)
        } else {
            None
        };
        let arrives = || applied.is_some_and(|applied| cluster.standing(victim).applied >= applied);
        if !until(GIVEN_UP_MAX, arrives).await {
            return violation(format!(
                "{name} did not get the snapshot that it was sent, and is not brought another within {GIVEN_UP_MAX:?}"
            ));
        }
        if self.how == Disturbance::Overtaken {
            // Its present state must also be on its disk.
            cluster.kill(victim).await;
            cluster.restart(victim);
            cluster.event(victim, "restart", "");
        }
        Ok(disturbed)
    }

    /// Makes a member lag behind the entries that the others cut.
    async fn lag(&mut self, cluster: &Cluster, leader: usize, victim: usize) -> Result<bool, Violation> {
        if self.how == Disturbance::Repacked
            && let Some(views) = cluster.views(leader)
        {
            // So that most records sent are changes that are applied again after a power loss.
            let revision = views.load().revision();
            let compact = Input::Compact { revision };
            let client = clients::connect([leader], ANSWERED_WITHIN);
            // It may already be compacted to that revision.
            workloads::carry_out(&cluster.world, DIRECTOR, &client, &compact).await;
            madsim::time::sleep(RECLAIMED_AFTER).await;
        }
        let lags_at = cluster.standing(victim).applied;
        cluster.event(victim, "! killed, to lag", "");
        cluster.kill(victim).await;
        let entries = 2 * self.snapshot_count + self.catch_up_entries + self.random.between(5, 20);
        write(cluster, leader, &all_but(cluster, &[victim]), entries).await?;
        // The leader decides the number of entries, and when to cut them.
        let cut_at = || {
            let cut = cluster.log(leader)?.0.begins_behind().ok()?;
            Some(cut.index.0)
        };
        let is_cut = until(CUT_WITHIN, || cut_at().is_some_and(|index| index > lags_at)).await;
        if is_cut && self.how == Disturbance::Repacked {
            // The state was synced before the log was cut, and is not synced again before the next cut.
            let synced = cut_at().unwrap_or_default() + self.catch_up_entries;
            let unsynced_max = synced + self.snapshot_count - 2;
            let more = unsynced_max.saturating_sub(cluster.standing(leader).applied);
            write(cluster, leader, &all_but(cluster, &[victim]), more).await?;
        }
        Ok(is_cut)
    }

    /// Leaves the leader alone, with an unconfirmed entry on its disk, and the knowledge that the entries before it are
    /// committed.
    async fn leave_alone(&self, cluster: &Cluster, leader: usize, victim: usize) {
        for other in all_but(cluster, &[leader, victim]) {
            cluster.event(other, "! killed, to leave the leader alone", "");
            cluster.kill(other).await;
        }
        let (world, client) = (cluster.world.clone(), clients::connect([leader], GIVEN_UP_MAX));
        madsim::task::spawn_local(async move {
            workloads::carry_out(&world, DIRECTOR, &client, &Input::Put { key: 0 }).await;
        });
        madsim::time::sleep(WRITTEN_AFTER).await;
    }

    /// Disturbs a transfer; all members run when it returns. Whether the expected result was seen.
    async fn disturb(&mut self, cluster: &Cluster, leader: usize, victim: usize) -> bool {
        let world = &cluster.world;
        let [failed, went_on, in_use] = [FAILED, GOES_ON, IN_USE].map(|message| world.messages(message));
        match self.how {
            Disturbance::Fails => {
                cluster.event(victim, "! killed in mid-transfer", "");
                cluster.kill(victim).await;
                let given_up = until(GIVEN_UP_MAX, || world.messages(FAILED) > failed).await;
                cluster.restart(victim);
                cluster.event(victim, "restart", "");
                given_up
            }
            Disturbance::Resumes => {
                cluster.event(victim, "! cut off in mid-transfer", "");
                cluster.cut_off(&[victim]);
                madsim::time::sleep(NOTICED_MAX).await;
                cluster.mend_all(&everybody(cluster));
                cluster.event(victim, "heard again", "");
                world.messages(GOES_ON) > went_on
            }
            Disturbance::Vanishes => {
                cluster.event(victim, "! chunks vanish on their way", "");
                let before = network::counts().vanished_frames;
                cluster.lose_frames(leader, victim, FRAMES_LOST);
                let all_lost = || network::counts().vanished_frames == before + FRAMES_LOST;
                let lost = until(VANISHED_WITHIN, all_lost).await;
                cluster.lose_frames(leader, victim, 0);
                lost
            }
            Disturbance::Overtaken => {
                cluster.event(leader, "! cut off in mid-transfer", "");
                cluster.cut_off(&[leader]);
                let overtaken = until(GIVEN_UP_MAX, || world.messages(IN_USE) > in_use).await;
                cluster.mend_all(&everybody(cluster));
                cluster.event(leader, "heard again", "");
                overtaken && until(NOTICED_MAX, || world.messages(GOES_ON) > went_on).await
            }
            Disturbance::Repacked => {
                cluster.event(leader, "! loses power in mid-transfer", "");
                cluster.cut_off(&[leader]);
                cluster.cut_power(leader, &mut self.random).await;
                // The receiver notices that the sender is gone.
                madsim::time::sleep(2 * ELECTION_TIMEOUT).await;
                cluster.restart(leader);
                cluster.event(leader, "restart", "");
                cluster.mend_all(&everybody(cluster));
                let again = until(GIVEN_UP_MAX, || world.messages(IN_USE) > in_use).await;
                for other in all_but(cluster, &[leader, victim]) {
                    cluster.restart(other);
                    cluster.event(other, "restart", "");
                }
                again
            }
        }
    }
}

/// Waits until every member replies, so that later requests are not delayed by the remains of a trial.
async fn all_serve(cluster: &Cluster) -> Result<(), Violation> {
    let deadline = elapsed() + GIVEN_UP_MAX;
    let get = Input::Get {
        key: 0,
        serializable: false,
    };
    for number in everybody(cluster) {
        while let Err(violation) = answers(cluster, number, &get).await {
            if elapsed() > deadline {
                return Err(violation);
            }
            madsim::time::sleep(Duration::from_millis(100)).await;
        }
    }
    Ok(())
}
