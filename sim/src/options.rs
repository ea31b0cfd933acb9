//! The options of a rehearsal: everything that differs between rehearsals, drawn from the seed and printed. The command line
//! overrides some; the seed draws the others as if none were overridden.

use crate::engine::Engine;
use crate::fault_kind::FaultKind;
use crate::mix::Mix;
use crate::random::RandomStream;
use crate::scenario::steps::Scenario;
use crate::space::Space;
use callboard::limits::Sizes;
use callboard::mutants::Mutant;
use std::fmt;

/// The size of the largest cluster.
const MEMBERS_MAX: usize = 7;
/// The lowest latency.
const LATENCY_US_MIN: u64 = 500;

/// The options of one rehearsal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    pub seed: u64,
    pub members: usize,
    pub clients: usize,
    pub keys: u32,
    pub mix: Mix,
    pub space: Space,
    pub engine: Engine,
    /// Operations of all clients together before the safety phase ends.
    pub operations: u64,
    /// Entries between cuts of the log: small, so that lagging followers need a snapshot.
    pub snapshot_count: u64,
    /// Entries kept behind a cut for lagging followers.
    pub catch_up_entries: u64,
    /// Pieces that are lost and retransmitted, per thousand.
    pub loss_permille: u64,
    /// The lowest latency of a piece.
    pub latency_us_min: u64,
    /// The highest latency of a piece.
    pub latency_ms_max: u64,
    /// Bytes that may be in flight in one direction of a connection.
    pub window_bytes: usize,
    /// The drift of each member's monotonic clock.
    pub clock_drift_ppm: Vec<i64>,
    /// The longest sync of a disk.
    pub fsync_ms_max: u64,
    /// The longest pause between faults.
    pub calm_ms_max: u64,
    pub faults: Vec<FaultKind>,
    /// Interval between comparisons of the members' hashes; 0 for none.
    pub hashes_ms: u64,
    /// How the members' connections to each other are secured.
    pub peer_tls: PeerTls,
    /// Members compare their hashes at their start.
    pub initial_check: bool,
    /// The rate at which members scrub their disks; 0 for not at all.
    pub scrub_bytes_per_second: u64,
    /// The members' limits.
    pub sizes: Sizes,
    /// The only strikes of the schedule that occur, by number; None for all.
    pub strikes: Option<Vec<u32>>,
    /// The mutant under test.
    pub mutant: Option<Mutant>,
}

/// What the command line may fix.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Fixed {
    /// Members of the cluster.
    #[arg(long)]
    pub members: Option<usize>,
    /// Clients that work at the same time.
    #[arg(long)]
    pub clients: Option<usize>,
    /// Keys that they work on.
    #[arg(long)]
    pub keys: Option<u32>,
    /// Operations of all clients together.
    #[arg(long)]
    pub operations: Option<u64>,
    /// Entries between cuts of the log.
    #[arg(long)]
    pub snapshot_count: Option<u64>,
    /// Kinds of faults, between commas; an empty list for none.
    #[arg(long, value_delimiter = ',', num_args = 0..)]
    pub faults: Option<Vec<FaultKind>>,
    /// The only strikes of the seed's schedule that are to happen, by number, between commas; an empty list for none.
    #[arg(long, value_delimiter = ',', num_args = 0..)]
    pub strikes: Option<Vec<u32>>,
    /// A mistake that the code is to make on purpose.
    #[arg(long, value_parser = mutant)]
    pub mutant: Option<Mutant>,
}

pub fn mutant(name: &str) -> Result<Mutant, String> {
    let names: Vec<_> = Mutant::ALL.iter().map(|mutant| mutant.name()).collect();
    let found = Mutant::ALL.iter().copied().find(|mutant| mutant.name() == name);
    found.ok_or_else(|| format!("not one of {}", names.join(", ")))
}

impl Fixed {
    /// The same without the mutant.
    pub fn without_mutant(&self) -> Self {
        Self {
            mutant: None,
            ..self.clone()
        }
    }

    /// The flags for the same overrides.
    pub fn flags(&self) -> String {
        let mut flags = String::new();
        let mut add = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                flags.extend([" --", name, " ", &value]);
            }
        };
        add("members", self.members.map(|number| number.to_string()));
        add("clients", self.clients.map(|number| number.to_string()));
        add("keys", self.keys.map(|number| number.to_string()));
        add("operations", self.operations.map(|number| number.to_string()));
        add(
            "snapshot-count",
            self.snapshot_count.map(|number| number.to_string()),
        );
        let names =
            |kinds: &Vec<FaultKind>| kinds.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(",");
        add("faults", self.faults.as_ref().map(names));
        let numbers = |strikes: &Vec<u32>| strikes.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        add("strikes", self.strikes.as_ref().map(numbers));
        add("mutant", self.mutant.map(|mutant| mutant.name().to_owned()));
        flags
    }
}

impl Options {
    /// Draws the options of a seed.
    pub fn draw(seed: u64, fixed: &Fixed) -> Self {
        let mut random = RandomStream::of(seed, "options");
        let members = *random.pick(&[1, 2, 3, 3, 3, 3, 4, 5, 5, 6, 7]);
        let clients = random.between(1, 8) as usize;
        let keys = random.between(1, 12) as u32;
        let operations = random.between(200, 1500);
        let snapshot_count = *random.pick(&[10, 50, 200, 10_000]);
        let catch_up_entries = *random.pick(&[0, 5, 50, 5_000]);
        let loss_permille = if random.chance(50) {
            random.between(1, 60)
        } else {
            0
        };
        let latency_ms_max = *random.pick(&[2, 5, 10, 10, 40]);
        let fsync_ms_max = *random.pick(&[2, 2, 10, 50, 400]);
        let calm_ms_max = *random.pick(&[500, 2_000, 5_000]);
        let window_bytes = *random.pick(&[1024, 16 * 1024, 64 * 1024, 1024 * 1024]);
        let drifting = random.chance(50);
        let drift = |_| {
            if drifting {
                random.between(0, 20_000) as i64 - 10_000
            } else {
                0
            }
        };
        let clock_drift_ppm: Vec<i64> = (0..MEMBERS_MAX).map(drift).collect();
        let members = fixed.members.unwrap_or(members).clamp(1, MEMBERS_MAX);
        let mut faults = FaultKind::ALL.to_vec();
        random.shuffle(&mut faults);
        faults.truncate(random.below(faults.len() as u64 + 1) as usize);
        faults.sort_unstable();
        let mut checks = RandomStream::of(seed, "checks");
        let hashes_ms = *checks.pick(&[0, 0, 1_000, 5_000]);
        Self {
            seed,
            members,
            clients: fixed.clients.unwrap_or(clients),
            keys: fixed.keys.unwrap_or(keys).max(1),
            mix: Mix::draw(seed),
            space: Space::draw(seed),
            engine: Engine::draw(seed),
            operations: fixed.operations.unwrap_or(operations),
            snapshot_count: fixed.snapshot_count.unwrap_or(snapshot_count),
            catch_up_entries,
            loss_permille,
            latency_us_min: LATENCY_US_MIN,
            latency_ms_max,
            window_bytes,
            clock_drift_ppm,
            fsync_ms_max,
            calm_ms_max,
            hashes_ms,
            peer_tls: PeerTls::draw(
                seed,
                &[&faults[..], fixed.faults.as_deref().unwrap_or_default()].concat(),
            ),
            faults: fixed.faults.clone().unwrap_or(faults),
            initial_check: checks.chance(40),
            scrub_bytes_per_second: *checks.pick(&[0, 10_000, 1_000_000]),
            sizes: crate::sizes::draw(seed),
            strikes: fixed.strikes.clone(),
            mutant: fixed.mutant,
        }
    }
}

/// How the members' connections to each other are secured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerTls {
    None,
    /// With certificates that nobody verifies.
    Automatic,
    /// With certificates that an authority has signed, on both sides. They expire, and are renewed while they are in use.
    Signed,
}

impl PeerTls {
    pub fn is_secure(self) -> bool {
        self != Self::None
    }

    fn draw(seed: u64, faults: &[FaultKind]) -> Self {
        let mut random = RandomStream::of(seed, "tls");
        if !random.chance(20) {
            Self::None
        // A member whose clock is wrong rightly refuses to start with a certificate that it takes for an expired one.
        } else if random.chance(50) || faults.contains(&FaultKind::ClockJump) {
            Self::Automatic
        } else {
            Self::Signed
        }
    }
}

impl Options {
    /// The options of a scenario: no faults besides its steps, and every piece has the same latency.
    pub fn of_story(seed: u64, story: &Scenario, mutant: Option<Mutant>) -> Self {
        let latency_ms = 5;
        let (snapshot_count, catch_up_entries) = match story.log_entries {
            Some(entries) => (entries, entries / 2),
            None => (10_000, 5_000),
        };
        let drawn = Self::draw(seed, &Fixed::default());
        Self {
            members: story.members,
            clients: 0,
            operations: 0,
            snapshot_count,
            catch_up_entries,
            loss_permille: 0,
            latency_us_min: latency_ms * 1000,
            latency_ms_max: latency_ms,
            clock_drift_ppm: vec![0; MEMBERS_MAX],
            fsync_ms_max: story.sync_max.map_or(1, |time| time.as_millis() as u64),
            space: Space::default(),
            engine: Engine::default(),
            faults: Vec::new(),
            hashes_ms: 0,
            peer_tls: PeerTls::None,
            initial_check: false,
            scrub_bytes_per_second: 0,
            sizes: Sizes {
                snapshot_chunk_bytes: story.chunk_bytes.unwrap_or(Sizes::DEFAULT.snapshot_chunk_bytes),
                ..Sizes::DEFAULT
            },
            window_bytes: story.window_bytes.unwrap_or(drawn.window_bytes),
            mutant,
            ..drawn
        }
    }
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.faults.iter().map(|kind| kind.name()).collect();
        let faults = if names.is_empty() {
            "none".to_owned()
        } else {
            names.join(",")
        };
        write!(
            f,
            "seed={} members={} clients={} keys={} operations={} snapshot_count={} catch_up={} loss={:.1}% latency_ms=1..{} \
             window={} drift_ppm={:?} \
             fsync_ms=0..{} calm_ms=0..{} mix={} space={} engine={} peer_tls={:?} hashes_ms={} initial_check={} scrub={} sizes={} faults={faults}",
            self.seed,
            self.members,
            self.clients,
            self.keys,
            self.operations,
            self.snapshot_count,
            self.catch_up_entries,
            self.loss_permille as f64 / 10.0,
            self.latency_ms_max,
            self.window_bytes,
            &self.clock_drift_ppm[..self.members],
            self.fsync_ms_max,
            self.calm_ms_max,
            self.mix,
            self.space,
            self.engine,
            self.peer_tls,
            self.hashes_ms,
            self.initial_check,
            self.scrub_bytes_per_second,
            crate::sizes::text(&self.sizes),
        )?;
        if let Some(strikes) = &self.strikes {
            write!(f, " strikes={strikes:?}")?;
        }
        match self.mutant {
            Some(mutant) => write!(f, " mutant={}", mutant.name()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_draws_the_same_options_again() {
        let fixed = Fixed::default();
        assert_eq!(Options::draw(42, &fixed), Options::draw(42, &fixed));
        assert_ne!(Options::draw(42, &fixed), Options::draw(43, &fixed));
    }

    #[test]
    fn what_is_fixed_does_not_change_what_is_drawn() {
        let fixed = Fixed {
            members: Some(3),
            faults: Some(vec![FaultKind::Kill]),
            ..Fixed::default()
        };
        let drawn = Options::draw(42, &Fixed::default());
        let expected = Options {
            members: 3,
            faults: vec![FaultKind::Kill],
            ..drawn
        };
        assert_eq!(Options::draw(42, &fixed), expected);
        assert_eq!(fixed.flags(), " --members 3 --faults kill");
    }

    #[test]
    fn every_kind_of_fault_is_drawn_by_some_seed() {
        for kind in FaultKind::ALL {
            assert!((0..100).any(|seed| Options::draw(seed, &Fixed::default()).faults.contains(kind)));
        }
    }
}
