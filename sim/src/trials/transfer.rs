//! The transfer of a snapshot to a member that lags is disturbed, and the member gets the state whole all the same.
//!
//! | what is done in mid-transfer | what must follow |
//! |---|---|
//! | the receiver dies, and the sender gives up | another transfer once it is back |
//! | the receiver is cut off until both ends notice | the transfer goes on where it stopped |
//! | a chunk vanishes, as a frame does whose type is flipped | the receiver misses it, and the transfer begins anew |
//! | the sender is cut off, another leader brings its own state, and the sender is back and goes on | what arrives late harms nothing |
//! | the sender loses power, applies its log again and leads again in front of the same entry | its records are others than those that had arrived: the transfer begins anew |
//!
//! That each record that arrives is the sender's is judged at the end of the rehearsal, where all stores are compared.

use super::{ANSWERED_WITHIN, ELECTION_TIMEOUT, all_but, answers, calm, everybody, follower, until, write};
use crate::checkers::{Violation, violation};
use crate::clients;
use crate::cluster::Cluster;
use crate::history::Input;
use crate::options::Options;
use crate::random::RandomStream;
use crate::rehearsal::{DIRECTOR, fair_weather};
use crate::workloads;
use crate::world::elapsed;
use callboard::env::network::{self, Weather};
use callboard::limits::{self, Sizes};
use std::time::Duration;

/// Entries that are written to have logs cut. Where that takes more, the trial is left out.
const ENTRIES_MAX: u64 = 150;
/// Everything that a sender of snapshots tries takes no longer than this, if the receiver's machine says that nobody listens.
const GIVEN_UP_MAX: Duration = Duration::from_secs(60);
/// After this long both ends of a transfer have noticed that nothing comes, and what has arrived is kept.
const NOTICED_MAX: Duration = Duration::from_secs(16);
/// What is cut off at all is cut off within this time.
const CUT_WITHIN: Duration = Duration::from_secs(10);
/// Some of them are the links' own, where a loss is noticed by nobody and harms nobody.
const FRAMES_LOST: u64 = 3;
/// So many are sent within this time.
const VANISHED_WITHIN: Duration = Duration::from_secs(3);
/// A transfer may be over before it can be disturbed.
const ATTEMPTS_MAX: u64 = 3;
/// Roads on which a transfer takes many round trips.
const SLOW_ROADS: Weather = Weather {
    latency_us_min: 5_000,
    latency_us_max: 5_000,
    loss_permille: 0,
    window_bytes: 700,
};
/// How far a transfer may have come when it is disturbed.
const DISTURBED_WITHIN_MS: u64 = 250;
/// What was compacted is gone after this long.
const RECLAIMED_AFTER: Duration = Duration::from_secs(2);
/// An entry that nobody confirms is on its leader's disk after this long.
const WRITTEN_AFTER: Duration = Duration::from_millis(30);

/// What a member logs when a snapshot is on its way to it, and what a sender does when it gives up, or goes on.
const BEGINS: &str = "receiving a snapshot";
const FAILED: &str = "failed to send a snapshot";
const GOES_ON: &str = "sending the snapshot goes on";
/// What a member logs when it has a snapshot for its state.
const IN_USE: &str = "applySnapshot: opened snapshot backend";

/// How a transfer is disturbed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Disturbance {
    /// The receiver dies.
    Fails,
    /// The receiver is cut off.
    Resumes,
    /// A chunk is lost, and the connection stays.
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

/// A transfer that is to be disturbed.
pub struct Trial {
    how: Disturbance,
    snapshot_count: u64,
    catch_up_entries: u64,
    random: RandomStream,
}

impl Trial {
    /// None where no member can lag far enough.
    pub fn of(options: &Options, mut random: RandomStream) -> Option<Self> {
        let (snapshot_count, catch_up_entries) = (options.snapshot_count, options.catch_up_entries);
        if options.members < 3 || 2 * snapshot_count + catch_up_entries > ENTRIES_MAX {
            return None;
        }
        let mut several = vec![Disturbance::Fails, Disturbance::Resumes, Disturbance::Overtaken];
        if !options.peer_tls {
            several.push(Disturbance::Vanishes);
        }
        if options.members == 3 {
            // The sender must lead again, with no other vote than the receiver's.
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

    /// The counter of what was done, if it was.
    pub async fn play(mut self, cluster: &Cluster) -> Result<Option<&'static str>, Violation> {
        let usual = limits::sizes();
        // Records are packed in other ways only where many changes fit into one.
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
            // Only in some places is a record there no more, so this one is tried in several.
            if outcome.is_err() || outcome == Ok(true) && self.how != Disturbance::Repacked {
                break;
            }
        }
        limits::set_sizes(usual);
        outcome.map(|disturbed| disturbed.then(|| self.how.counter()))
    }

    /// Whether it came to that.
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
            // What it has on its disk is what it has in use.
            cluster.kill(victim).await;
            cluster.restart(victim);
            cluster.event(victim, "restart", "");
        }
        Ok(disturbed)
    }

    /// Has a member miss what the others cut off.
    async fn lag(&mut self, cluster: &Cluster, leader: usize, victim: usize) -> Result<bool, Violation> {
        if self.how == Disturbance::Repacked
            && let Some(views) = cluster.views(leader)
        {
            // Most of what is sent are changes that are applied again after a loss of power.
            let revision = views.load().revision();
            let compact = Input::Compact { revision };
            let client = clients::connect([leader], ANSWERED_WITHIN);
            // It may have been compacted up to there already.
            workloads::carry_out(&cluster.world, DIRECTOR, &client, &compact).await;
            madsim::time::sleep(RECLAIMED_AFTER).await;
        }
        let lags_at = cluster.standing(victim).applied;
        cluster.event(victim, "! killed, to lag", "");
        cluster.kill(victim).await;
        let entries = 2 * self.snapshot_count + self.catch_up_entries + self.random.between(5, 20);
        write(cluster, leader, &all_but(cluster, &[victim]), entries).await?;
        // How many entries that makes, and when they are cut off, is the leader's to decide.
        let cut_at = || {
            let cut = cluster.log(leader)?.0.begins_behind().ok()?;
            Some(cut.index.0)
        };
        let is_cut = until(CUT_WITHIN, || cut_at().is_some_and(|index| index > lags_at)).await;
        if is_cut && self.how == Disturbance::Repacked {
            // The state was synced before the log was cut, and is not synced again before it is time for the next cut.
            let synced = cut_at().unwrap_or_default() + self.catch_up_entries;
            let unsynced_max = synced + self.snapshot_count - 2;
            let more = unsynced_max.saturating_sub(cluster.standing(leader).applied);
            write(cluster, leader, &all_but(cluster, &[victim]), more).await?;
        }
        Ok(is_cut)
    }

    /// Leaves the leader alone, with an entry on its disk that nobody confirms, and the word that those before it are
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

    /// Does in mid-transfer what is to be done; all members run when it returns. Whether what was to come of it did.
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
                // The receiver learns that nobody sends.
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

/// Waits until every member answers: whoever asks for something after a trial is not kept waiting by what it has left.
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
