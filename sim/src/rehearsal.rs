//! One rehearsal: safety under faults, then liveness on a healthy core, then the audit.

use crate::checkers::{Violation, compaction, linearizable, revisions, space, violation};
use crate::clients::{self, Clients};
use crate::cluster::Cluster;
use crate::coverage::Counters;
use crate::faults::schedule;
use crate::history::{Input, Outcome};
use crate::observer::Observer;
use crate::options::Options;
use crate::random::RandomStream;
use crate::record::Record;
use crate::scenario::play::Telling;
use crate::scenario::steps::Scenario;
use crate::scratch::Scratch;
use crate::trace::Trace;
use crate::workloads::election::Election;
use crate::workloads::lease::LeaseHolders;
use crate::workloads::lock::Contenders;
use crate::workloads::quota::{self, Operator};
use crate::workloads::replacement::Replacer;
use crate::workloads::requests::Requesters;
use crate::workloads::watch::Watchers;
use crate::workloads::{self, corrupt_alarm, downgrade, move_leader, renewal};
use crate::world::{Recorder, World, elapsed};
use crate::{audit, disk, epilogue, trials};
use callboard::env::First;
use callboard::env::network::{self, Weather};
use callboard::proto::etcdserverpb::HashKvRequest;
use madsim::runtime::Runtime;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::Future;
use std::net::Ipv4Addr;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// The safety phase ends after this time, however little the clients have done.
const SAFETY_MAX: Duration = schedule::REACH;
/// Interval between observations of the members' states.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Within this time a healthy core serves, and a healthy cluster converges.
const LIVENESS_MAX: Duration = Duration::from_secs(60);
/// The client number of the director's own requests in the history.
pub const DIRECTOR: usize = 99;
/// The director's address.
const DIRECTOR_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 1);

/// The result of a rehearsal.
#[derive(Clone, Debug)]
pub struct Verdict {
    pub violations: Vec<Violation>,
    pub counters: Counters,
    /// The strikes that began, by number.
    pub struck: Vec<u32>,
    pub record: Record,
    pub fingerprint: u64,
    pub simulated: Duration,
    pub real: Duration,
}

impl Verdict {
    pub fn passed(&self) -> bool {
        self.violations.is_empty()
    }

    /// The first words of the first violation, without numbers, which differ between rehearsals that fail in the same way.
    pub fn what_was_wrong(&self) -> Option<String> {
        let words = self.violations.first()?.0.split_whitespace();
        let telling = words.filter(|word| !word.contains(|letter: char| letter.is_ascii_digit()));
        Some(telling.take(5).collect::<Vec<_>>().join(" "))
    }
}

/// Rehearses on a separate thread, so that thread-local state does not carry over to the next rehearsal.
pub fn rehearse(options: &Options, print: bool, verbose: bool) -> Verdict {
    rehearse_story(options, None, print, verbose)
}

/// The same, with a scenario in the place of the safety phase.
pub fn rehearse_story(options: &Options, story: Option<&Scenario>, print: bool, verbose: bool) -> Verdict {
    let story = story.cloned();
    let begin = Instant::now();
    let options = options.clone();
    let thread = std::thread::Builder::new().name(format!("seed {}", options.seed));
    let joined = thread
        .spawn(move || run(&options, story.as_ref(), Trace::new(print, verbose)))
        .expect("the operating system refuses a thread")
        .join();
    let mut verdict = joined.unwrap_or_else(|panic| Verdict {
        violations: vec![Violation(format!("panicked: {}", message(&*panic)))],
        counters: BTreeMap::new(),
        struck: Vec::new(),
        record: Record::default(),
        fingerprint: 0,
        simulated: Duration::ZERO,
        real: Duration::ZERO,
    });
    verdict.real = begin.elapsed();
    verdict
}

fn message(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message")
}

fn run(options: &Options, story: Option<&Scenario>, mut trace: Trace) -> Verdict {
    #[cfg(mutants)]
    callboard::mutants::activate(options.mutant);
    callboard::limits::set_sizes(options.sizes);
    fastrand::seed(options.seed);
    let scratch = Scratch::new();
    disk::seal_journals_after(&scratch.0, options.engine.journal_bytes);
    trace.hide(&scratch.0.to_string_lossy());
    let world = World::new(trace);
    let recorded = tracing::subscriber::set_default(Recorder(world.clone()));
    let mut runtime = Runtime::with_seed_and_config(options.seed, madsim::Config::default());
    runtime.set_allow_system_thread(true);
    let simulated = runtime.block_on(direct(options, story, &world, &scratch.0));
    drop(recorded);
    let engines = disk::engine_counts(&scratch.0);
    world.count("tables made by engines", engines.tables_written);
    world.count("tables removed", engines.tables_removed);
    world.count("journals sealed", engines.journals_sealed);
    world.count("journals removed", engines.journals_removed);
    Verdict {
        violations: world.violations(),
        counters: world.counters(),
        struck: world.strikes(),
        record: world.record(),
        fingerprint: world.fingerprint().0,
        simulated,
        real: Duration::ZERO,
    }
}

/// Runs all phases.
async fn direct(options: &Options, story: Option<&Scenario>, world: &World, scratch: &Path) -> Duration {
    weather(options);
    network::settle(madsim::plugin::node(), DIRECTOR_ADDRESS.into());
    let cluster = Cluster::start(options, world.clone(), scratch);
    let clients = Clients::start(options, world);
    let watchers = Watchers::start(options, world);
    let lease_holders = LeaseHolders::start(options, world);
    let operator = Operator::start(options, world, &cluster);
    let contenders = Contenders::start(options, world);
    let election = Election::start(options, world);
    let requesters = Requesters::start(options, world);
    let mover = move_leader::start(options, world);
    let downgrader = downgrade::start(options, world);
    let replacer = Replacer::start(options, &cluster);
    renewal::start(options, &cluster);
    let play = Play {
        options,
        world,
        cluster: &cluster,
        clients: &clients,
        observer: Observer::default(),
        safe_until: Cell::new(Duration::ZERO),
        lease_holders: &lease_holders,
        contenders: &contenders,
        election: &election,
        requesters: &requesters,
    };
    match story {
        Some(story) => play.tell(story).await,
        None => play.safety().await,
    }
    lease_holders.leave();
    operator.leave();
    contenders.leave();
    election.leave();
    requesters.leave();
    mover.leave();
    downgrader.leave();
    if world.violations().is_empty() {
        fair_weather();
        if let Err(violation) = replacer.finish(&cluster).await {
            world.violated(violation);
        } else if let Err(violation) = play.end_well().await {
            for number in 0..options.members {
                cluster.event(number, "at the end", "");
            }
            world.violated(violation);
        } else if let Err(violation) = watchers.review(&cluster, &play.observer.records()).await {
            world.violated(violation);
        } else if story.is_none()
            && let Err(violation) = epilogue::play(&cluster, options).await
        {
            world.violated(violation);
        }
    }
    count_network(world);
    let simulated = elapsed();
    clients.leave();
    watchers.leave();
    for number in 0..options.members {
        cluster.kill(number).await;
    }
    simulated
}

/// Sets loss, latency, windows and disk speed from the options.
fn weather(options: &Options) {
    network::set_weather(Weather {
        latency_us_min: options.latency_us_min,
        latency_us_max: options.latency_ms_max * 1000,
        loss_permille: options.loss_permille,
        window_bytes: options.window_bytes,
    });
    callboard::env::set_disk_sync_us_max(options.fsync_ms_max * 1000);
}

/// Removes all faults, except those of a single member.
pub fn fair_weather() {
    network::set_weather(Weather::default());
    network::mend_everything();
    callboard::env::set_disk_sync_us_max(2_000);
}

/// Adds the network's counts to the report.
fn count_network(world: &World) {
    let counts = network::counts();
    world.count("net: pieces", counts.pieces);
    world.count("net: pieces lost", counts.lost);
    world.count("net: pieces corrupted", counts.corrupted);
    world.count("net: pieces held up", counts.held_up);
    world.count("net: windows full", counts.full_windows);
    world.count("net: pipes reset", counts.resets);
    world.count("net: pipes silenced", counts.silenced);
    world.count("net: half-opened", counts.half_opened);
}

struct Play<'a> {
    options: &'a Options,
    world: &'a World,
    cluster: &'a Rc<Cluster>,
    clients: &'a Clients,
    observer: Observer,
    /// When the safety phase ended.
    safe_until: Cell<Duration>,
    lease_holders: &'a LeaseHolders,
    contenders: &'a Contenders,
    election: &'a Election,
    requesters: &'a Requesters,
}

impl Play<'_> {
    /// The safety phase: clients work while faults strike.
    async fn safety(&self) {
        let strikes = schedule::draw(self.options);
        let hand = madsim::task::spawn_local(schedule::play(Rc::clone(self.cluster), strikes));
        while !self.clients.is_done() && elapsed() < SAFETY_MAX {
            madsim::time::sleep(LOOK_EVERY).await;
            if let Err(violation) = self.observer.look(self.cluster) {
                self.world.violated(violation);
            }
            if !self.world.violations().is_empty() {
                break; // Nothing that follows is worth more than what was seen.
            }
        }
        self.safe_until.set(elapsed());
        self.clients.stop();
        hand.abort();
        let counters = self.world.counters();
        let count = |name| counters.get(name).copied().unwrap_or(0);
        self.world.note(
            "safety ends",
            &format!(
                "{} answered, {} unknown, {} refused",
                count("answered"),
                count("unknown"),
                count("refused")
            ),
        );
    }

    /// Plays a scenario step by step.
    async fn tell(&self, story: &Scenario) {
        let mut telling = Telling::new(self.cluster, self.options.seed);
        if let Err(violation) = telling.tell(story, &|| self.observer.look(self.cluster)).await {
            self.world.violated(violation);
        }
        self.world.note("story ends", "");
    }

    /// Recovery and final checks. The observer keeps running, so that it sees what is compacted while the members recover.
    async fn end_well(&self) -> Result<(), Violation> {
        let looking = async {
            loop {
                madsim::time::sleep(LOOK_EVERY).await;
                if let Err(violation) = self.observer.look(self.cluster) {
                    return violation;
                }
            }
        };
        match callboard::env::first(self.recover(), looking, std::future::pending::<Infallible>()).await {
            First::One(recovered) => recovered?,
            First::Two(violation) => return Err(violation),
            First::Three(never) => match never {},
        }
        self.audit()
    }

    async fn recover(&self) -> Result<(), Violation> {
        self.liveness().await?;
        if self.options.clients > 0 {
            trials::play(self.cluster, self.options).await?;
        }
        if self.options.space.can_run_out() {
            // Trials write; later requests must not be refused because of the space that they have used.
            let everybody: Vec<_> = (0..self.options.members).collect();
            quota::settle(self.cluster, self.world, &everybody).await?;
        }
        self.contenders.review(self.cluster).await?;
        self.election.review()?;
        self.requesters.end_leases(self.options).await?;
        self.lease_holders.review(self.cluster).await?;
        self.rest().await?;
        audit::replaced_states_go(self.cluster).await
    }

    /// Waits until no proposals are under way: a leader may compact automatically as long as there is something to compact.
    async fn rest(&self) -> Result<(), Violation> {
        let deadline = elapsed() + LIVENESS_MAX;
        loop {
            let views = (0..self.options.members).filter_map(|number| self.cluster.views(number));
            let mut applied: Vec<_> = views.map(|views| views.load().applied_index()).collect();
            applied.dedup();
            if applied.len() == 1 {
                return Ok(());
            }
            if elapsed() > deadline {
                return violation(format!("healthy members do not come to rest: {applied:?}"));
            }
            madsim::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The liveness phase: a healthy quorum serves, whatever the others do; once all are healthy, they converge.
    async fn liveness(&self) -> Result<(), Violation> {
        let mut everybody: Vec<_> = (0..self.options.members).collect();
        let mut core = everybody.clone();
        RandomStream::of(self.options.seed, "core").shuffle(&mut core);
        core.truncate(self.options.members / 2 + 1);
        core.sort_unstable();
        self.cluster.cut_off(&core);
        self.cluster.heal(&core).await;
        let names: Vec<_> = core
            .iter()
            .map(|number| self.cluster.members[*number].name.as_str())
            .collect();
        self.world.note("core healed", &names.join(","));
        self.with_operator(&core, async {
            self.disarm_corrupt(&core).await?;
            if self.options.space.can_run_out() {
                quota::settle(self.cluster, self.world, &core).await?;
            }
            for number in &core {
                self.serves(*number).await?;
            }
            self.agree(&core).await
        })
        .await?;
        self.world.note("core serves", "");
        everybody.sort_unstable();
        self.cluster.heal(&everybody).await;
        self.world.note("all healed", "");
        self.with_operator(&everybody, async {
            self.disarm_corrupt(&everybody).await?;
            self.agree(&everybody).await?;
            if self.options.space.can_run_out() {
                // A member that was cut off may have a pending proposal to raise the alarm, waiting for a leader.
                quota::settle(self.cluster, self.world, &everybody).await?;
            }
            Ok(())
        })
        .await?;
        for number in everybody {
            self.cluster.event(number, "healthy", "");
        }
        Ok(())
    }

    /// Waits for the expected outcome, while an operator disarms the alarms for damage that members find.
    async fn with_operator(
        &self,
        members: &[usize],
        expected: impl Future<Output = Result<(), Violation>>,
    ) -> Result<(), Violation> {
        let operator = corrupt_alarm::keep_disarmed(self.cluster, members);
        match callboard::env::first(expected, operator, std::future::pending::<Infallible>()).await {
            First::One(outcome) => outcome,
            First::Two(never) | First::Three(never) => match never {},
        }
    }

    /// Disarms the alarms for damage, once the disks are repaired.
    async fn disarm_corrupt(&self, members: &[usize]) -> Result<(), Violation> {
        if corrupt_alarm::disarm(self.cluster, members, LIVENESS_MAX).await {
            return Ok(());
        }
        violation(format!(
            "the alarm CORRUPT cannot be disarmed within {LIVENESS_MAX:?}"
        ))
    }

    /// Waits until a member serves a write and a read.
    async fn serves(&self, number: usize) -> Result<(), Violation> {
        let deadline = elapsed() + LIVENESS_MAX;
        let client = clients::connect([number], Duration::from_secs(5));
        let get = Input::Get {
            key: 0,
            serializable: false,
        };
        for input in [Input::Put { key: 0 }, get] {
            loop {
                let (_, outcome) = workloads::carry_out(self.world, DIRECTOR, &client, &input).await;
                match outcome {
                    Outcome::Answered(_) => break,
                    Outcome::Refused(reason) | Outcome::Unknown(reason) if elapsed() > deadline => {
                        return violation(format!(
                            "{} of a healthy core does not answer {input:?} within {LIVENESS_MAX:?}: {reason}",
                            self.cluster.members[number].name
                        ));
                    }
                    _ => madsim::time::sleep(Duration::from_millis(100)).await,
                }
            }
        }
        Ok(())
    }

    /// Waits until these members report the same revision and hash.
    async fn agree(&self, members: &[usize]) -> Result<(), Violation> {
        let deadline = elapsed() + LIVENESS_MAX;
        let timeout = Duration::from_secs(2);
        let clients: Vec<_> = members
            .iter()
            .map(|number| clients::connect([*number], timeout))
            .collect();
        loop {
            let mut answers = Vec::new();
            for client in &clients {
                let answer = client.hash_kv(HashKvRequest::default()).await;
                answers.push(
                    answer
                        .map(|answer| (answer.hash, answer.hash_revision))
                        .map_err(|error| error.to_string()),
                );
            }
            let same = answers.windows(2).all(|pair| pair[0] == pair[1]) && answers[0].is_ok();
            // Clients may still wait for members that are not healed.
            if same && (self.clients.is_done() || members.len() < self.options.members) {
                return Ok(());
            }
            if elapsed() > deadline {
                return violation(format!(
                    "healthy members do not come to hold the same within {LIVENESS_MAX:?}: {answers:?}"
                ));
            }
            madsim::time::sleep(Duration::from_millis(200)).await;
        }
    }

    fn audit(&self) -> Result<(), Violation> {
        self.observer.look(self.cluster)?;
        let compacted = audit::equal_stores(self.cluster)?;
        let past = self.observer.past();
        let history = self.world.history();
        let judged = revisions::check(&history, &past)?;
        self.world.judged("acknowledged changes", judged.written);
        self.world.judged("states that answers show", judged.seen);
        compaction::check(&history, compacted)?;
        if !self.options.space.shortages {
            // A paused member may continue with what it saw of its disk before.
            let reasons = self.world.no_space(|reasons| reasons.clone());
            space::check(&history, &reasons, self.safe_until.get())?;
        }
        let judged = self.requesters.review(&self.observer.records())?;
        self.world.judged("whole requests", judged);
        let searched = linearizable::check(&history, Some(&past))?;
        self.world.count("keys searched together", searched.whole);
        self.world.count("keys searched apart", searched.by_key);
        self.world.count("keys given up", searched.given_up);
        let note = format!(
            "{} operations linearizable, {} revisions and {} log entries equal",
            history.operations.len(),
            past.revision(),
            self.observer.entries()
        );
        self.world.note("audit done", &note);
        Ok(())
    }
}
