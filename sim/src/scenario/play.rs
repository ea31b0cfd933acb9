//! Executes a scenario step by step. A step without its expected result is a violation that names its line. The final checks of
//! every rehearsal (liveness, the audit) follow the last step as always.

use super::steps::{Access, Blow, Name, Scenario, Step};
use crate::checkers::{Violation, violation};
use crate::clients;
use crate::cluster::{Cluster, Trouble};
use crate::disk::{self, Ailment};
use crate::history::{Input, Key, Outcome};
use crate::random::RandomStream;
use crate::rehearsal::DIRECTOR;
use crate::workloads;
use crate::world::elapsed;
use std::collections::BTreeMap;
use std::time::Duration;

/// Interval between checks of the members: shorter than the latency of any message (`Options::of_story`), so that a scenario can
/// act between the sending and the receipt of a message.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// Within this time a member leads, or becomes a candidate.
const ELECTION_MAX: Duration = Duration::from_secs(30);

/// The log message of a member when a snapshot begins to arrive.
const TRANSFER_BEGINS: &str = "receiving a snapshot";
/// The log message of a member when it has switched to a snapshot.
const SNAPSHOT_IN_USE: &str = "applySnapshot: opened snapshot backend";

/// The timeout of a request that the scenario does not wait for.
const STARTED_MAX: Duration = Duration::from_secs(30);

/// A scenario in progress.
pub struct Telling<'a> {
    cluster: &'a Cluster,
    random: RandomStream,
    named: BTreeMap<Name, usize>,
    term: u64,
}

impl<'a> Telling<'a> {
    pub fn new(cluster: &'a Cluster, seed: u64) -> Self {
        let named = cluster.members.iter().enumerate();
        Self {
            cluster,
            random: RandomStream::of(seed, "scenario"),
            named: named
                .map(|(number, member)| (member.name.clone(), number))
                .collect(),
            term: 0,
        }
    }

    /// Executes all steps. `look` is called between steps and while a step waits.
    pub async fn tell(
        &mut self,
        scenario: &Scenario,
        look: &dyn Fn() -> Result<(), Violation>,
    ) -> Result<(), Violation> {
        for (line, step) in &scenario.steps {
            self.cluster
                .world
                .note(&format!("line {line}"), &format!("{step:?}"));
            self.step(step)
                .await
                .map_err(|reason| Violation(format!("line {line}: {}", reason.0)))?;
            look()?;
        }
        Ok(())
    }

    async fn step(&mut self, step: &Step) -> Result<(), Violation> {
        match step {
            Step::Leader(name) => {
                let found = self.until(ELECTION_MAX, |telling| telling.cluster.leader()).await;
                self.name(name, found, "leads")
            }
            Step::Candidate(name) => {
                let before = self.highest_term();
                let stands = |telling: &Self| {
                    let members = 0..telling.cluster.members.len();
                    let mut above = members.filter(|number| telling.term_of(*number) > before);
                    above.next()
                };
                let found = self.until(ELECTION_MAX, stands).await;
                self.name(name, found, "stands for election")
            }
            Step::Others(names) => self.name_others(names),
            Step::Cut { from, to, both } => self.link(from, to, *both, Cluster::cut),
            Step::Garble {
                from,
                to,
                both,
                permille,
            } => self.link(from, to, *both, |cluster, from, to| {
                cluster.garble(from, to, *permille)
            }),
            Step::Delay { from, to, both, time } => self.link(from, to, *both, |cluster, from, to| {
                cluster.delay(from, to, *time)
            }),
            Step::Mend { from, to, both } => self.link(from, to, *both, Cluster::mend),
            Step::MendAll => {
                let everybody: Vec<_> = (0..self.cluster.members.len()).collect();
                self.cluster.mend_all(&everybody);
                Ok(())
            }
            Step::Strike(name, blow) => {
                let member = self.member(name)?;
                self.strike(member, *blow).await;
                Ok(())
            }
            Step::Ask {
                what,
                key,
                via,
                answered,
                within,
            } => self.ask(input(*what, *key), via, *answered, *within).await,
            Step::Start { what, key, via } => self.start(input(*what, *key), via),
            Step::Wait(time) => {
                madsim::time::sleep(*time).await;
                Ok(())
            }
            Step::NoteTerm => {
                self.term = self.highest_term();
                Ok(())
            }
            expectation => self.expect(expectation).await,
        }
    }

    async fn expect(&mut self, step: &Step) -> Result<(), Violation> {
        match step {
            Step::ExpectLeader(names, time) => {
                let members = self.members(names, None)?;
                let leads =
                    |telling: &Self| telling.cluster.leader().filter(|leader| members.contains(leader));
                match self.until(*time, leads).await {
                    Some(_) => Ok(()),
                    None => violation(format!("none of {} leads within {time:?}", names.join(","))),
                }
            }
            Step::ExpectTerm(name, count, time) => {
                let member = self.member(name)?;
                let known = |telling: &Self| {
                    let term = telling.term_of(member);
                    let members = 0..telling.cluster.members.len();
                    let knows = members.filter(|number| telling.term_of(*number) >= term);
                    (knows.count() >= *count).then_some(())
                };
                match self.until(*time, known).await {
                    Some(()) => Ok(()),
                    None => violation(format!("fewer than {count} know of {name}'s term after {time:?}")),
                }
            }
            Step::ExpectDeposed(name, time) => {
                let member = self.member(name)?;
                let deposed = |telling: &Self| (!telling.cluster.leads(member)).then_some(());
                match self.until(*time, deposed).await {
                    Some(()) => Ok(()),
                    None => violation(format!("{name} takes itself for the leader for {time:?}")),
                }
            }
            Step::ExpectNoLeader(names, time) => {
                let members = self.members(names, None)?;
                let leads = |telling: &Self| {
                    members
                        .iter()
                        .copied()
                        .find(|member| telling.cluster.leads(*member))
                };
                match self.until(*time, leads).await {
                    None => Ok(()),
                    Some(member) => violation(format!("{} leads", self.cluster.members[member].name)),
                }
            }
            Step::ExpectStopped(name, time) => {
                let member = self.member(name)?;
                let stopped = |telling: &Self| (!telling.cluster.is_running(member)).then_some(());
                match self.until(*time, stopped).await {
                    Some(()) => Ok(()),
                    None => violation(format!("{name} goes on for {time:?}")),
                }
            }
            Step::ExpectTransfer(time) => self.logged(TRANSFER_BEGINS, *time).await,
            Step::ExpectSnapshot(time) => self.logged(SNAPSHOT_IN_USE, *time).await,
            Step::ExpectSameTerm if self.highest_term() != self.term => violation(format!(
                "the term was {} and is {} now",
                self.term,
                self.highest_term()
            )),
            _ => Ok(()),
        }
    }

    async fn logged(&self, message: &str, time: Duration) -> Result<(), Violation> {
        let world = &self.cluster.world;
        let logged = |_: &Self| (world.messages(message) > 0).then_some(());
        match self.until(time, logged).await {
            Some(()) => Ok(()),
            None => violation(format!("nobody says \"{message}\" within {time:?}")),
        }
    }

    /// Checks repeatedly until there is a result, or until the time is up.
    async fn until<T>(&self, time: Duration, look: impl Fn(&Self) -> Option<T>) -> Option<T> {
        let deadline = elapsed() + time;
        loop {
            let found = look(self);
            if found.is_some() || elapsed() >= deadline {
                return found;
            }
            madsim::time::sleep(LOOK_EVERY).await;
        }
    }

    fn term_of(&self, number: usize) -> u64 {
        self.cluster.standing(number).term
    }

    fn highest_term(&self) -> u64 {
        let members = 0..self.cluster.members.len();
        members.map(|number| self.term_of(number)).max().unwrap_or(0)
    }

    fn name(&mut self, name: &str, found: Option<usize>, what: &str) -> Result<(), Violation> {
        let Some(number) = found else {
            return violation(format!("nobody {what} within {ELECTION_MAX:?}"));
        };
        self.cluster.event(number, &format!("is {name}"), what);
        self.named.insert(name.to_owned(), number);
        Ok(())
    }

    fn name_others(&mut self, names: &[Name]) -> Result<(), Violation> {
        let taken: Vec<usize> = self
            .named
            .iter()
            .filter(|(name, number)| **name != self.cluster.members[**number].name)
            .map(|(_, number)| *number)
            .collect();
        let free: Vec<usize> = (0..self.cluster.members.len())
            .filter(|number| !taken.contains(number))
            .collect();
        if free.len() != names.len() {
            return violation(format!(
                "{} members have no name yet, and here are {}",
                free.len(),
                names.len()
            ));
        }
        self.named.extend(names.iter().cloned().zip(free));
        Ok(())
    }

    fn member(&self, name: &str) -> Result<usize, Violation> {
        match self.named.get(name) {
            Some(number) => Ok(*number),
            None => violation(format!("no member is called {name}")),
        }
    }

    /// A list of names; `others` means all members except `apart_from`.
    fn members(&self, names: &[Name], apart_from: Option<usize>) -> Result<Vec<usize>, Violation> {
        if names == ["others"] {
            let everybody = 0..self.cluster.members.len();
            return Ok(everybody.filter(|number| Some(*number) != apart_from).collect());
        }
        names.iter().map(|name| self.member(name)).collect()
    }

    fn link(
        &self,
        from: &str,
        to: &[Name],
        both: bool,
        change: impl Fn(&Cluster, usize, usize),
    ) -> Result<(), Violation> {
        let from = self.member(from)?;
        for to in self.members(to, Some(from))? {
            change(self.cluster, from, to);
            if both {
                change(self.cluster, to, from);
            }
        }
        Ok(())
    }

    async fn strike(&mut self, member: usize, blow: Blow) {
        let directory = &self.cluster.members[member].directory;
        match blow {
            Blow::Kill => {
                self.cluster.kill(member).await;
            }
            Blow::PowerOff => {
                self.cluster.cut_power(member, &mut self.random).await;
            }
            Blow::Restart => {
                self.cluster.restart(member);
            }
            Blow::Pause => {
                self.cluster.pause(member);
            }
            Blow::Resume => {
                self.cluster.resume(member);
            }
            Blow::DiskFails => {
                self.cluster.trouble(member, Trouble::Ailing);
                disk::fall_ill(directory, Ailment::Syncs, 0);
            }
            Blow::CopyDisk => {
                self.cluster.copy_disk(member);
            }
            Blow::OlderDisk => {
                self.cluster.trouble(member, Trouble::Older);
                let placed = self.cluster.put_copy_in_place(member);
                placed.expect("scratch files can be moved");
            }
            Blow::BlankDisk => {
                self.cluster.trouble(member, Trouble::Blank);
                let replaced = self.cluster.replace_disk(member);
                replaced.expect("scratch files can be moved");
            }
            Blow::OwnDisk | Blow::DiskHeals => {
                self.cluster.repair(member).await;
                self.cluster.restart(member);
            }
        }
        self.cluster
            .event(member, &format!("! {blow:?}").to_lowercase(), "");
    }

    /// Sends a request to one member only, while the scenario continues.
    fn start(&self, input: Input, via: &str) -> Result<(), Violation> {
        let world = self.cluster.world.clone();
        let client = clients::connect([self.member(via)?], STARTED_MAX);
        madsim::task::spawn_local(async move {
            workloads::carry_out(&world, DIRECTOR, &client, &input).await;
        });
        Ok(())
    }

    /// Sends a request to one member only.
    async fn ask(&self, input: Input, via: &str, answered: bool, within: Duration) -> Result<(), Violation> {
        let world = &self.cluster.world;
        let deadline = elapsed() + within;
        let client = clients::connect([self.member(via)?], within);
        loop {
            let (id, outcome) = workloads::carry_out(world, DIRECTOR, &client, &input).await;
            match outcome {
                Outcome::Answered(_) if answered => return Ok(()),
                Outcome::Answered(_) => return violation(format!("operation {id} via {via} was answered")),
                Outcome::Refused(_) | Outcome::Unknown(_) if !answered => return Ok(()),
                Outcome::Refused(reason) | Outcome::Unknown(reason) if elapsed() >= deadline => {
                    return violation(format!(
                        "operation {id} via {via} has no answer after {within:?}: {reason}"
                    ));
                }
                _ => madsim::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }
}

fn input(what: Access, key: Key) -> Input {
    match what {
        Access::Write => Input::Put { key },
        Access::Read => Input::Get {
            key,
            serializable: false,
        },
    }
}
