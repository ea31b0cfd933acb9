//! The members under rehearsal: each a simulated machine with an address and a scratch directory, running the real member from
//! its flags up. Faults of machines and links go through here.

mod addresses;
mod certificates;
mod disks;
mod links;
mod process;
mod views;

pub use addresses::{client_address, endpoint, member_address};

use crate::checkers::Violation;
use crate::disk::{self, Flip, Lost};
use crate::options::{Options, PeerTls};
use crate::random::RandomStream;
use crate::world::{World, elapsed};
use addresses::PeerPlaces;
use callboard::env::{clock, network};
use callboard::node::backend::MemberBackend;
use callboard::storage::contacts::{Contact, Start};
use callboard::storage::directory::Identity;
use callboard::storage::log::LogDatabase;
use callboard::storage::state::StateDatabase;
use certificates::Certificates;
use madsim::runtime::{Handle, NodeHandle};
use process::Machine;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::rc::{Rc, Weak};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;

/// After this time, all tasks of a dead process are gone.
const DEATH: Duration = Duration::from_millis(2);

/// A simulated cluster.
pub struct Cluster {
    pub members: Vec<MemberNode>,
    pub world: World,
    /// The clients' addresses.
    pub clients: Vec<IpAddr>,
    /// The members' quota; None if it is never reached.
    pub quota_bytes: Option<u64>,
    peer_tls: PeerTls,
    places: PeerPlaces,
    /// If members have certificates that an authority has signed.
    pub certificates: Option<Rc<Certificates>>,
    runtime: Handle,
}

/// One member's machine.
pub struct MemberNode {
    pub name: String,
    pub directory: PathBuf,
    node: NodeHandle,
    process: Arc<Mutex<Process>>,
}

/// The state of the process on a machine.
#[derive(Default)]
struct Process {
    running: bool,
    /// The number of processes that were started before it.
    life: u64,
    /// When it was killed or exited. Not all of it may be gone yet.
    dying_since: Option<Duration>,
    /// It exited, and was not reaped yet.
    leaving: bool,
    /// When it was paused.
    paused_since: Option<Duration>,
    /// It was asked to stop: the code that asked starts it again, until the faults end.
    stopping: bool,
    backend: Option<MemberBackend>,
    log: Option<LogDatabase>,
    /// The present fault of its disk, which permits the process to stop.
    trouble: Option<Trouble>,
    /// An empty disk must join the cluster, not found it.
    joins: bool,
    /// The members that an empty disk joins, itself included; all of them if empty.
    joined: Vec<usize>,
    /// The next process is to go on without the other members.
    is_forced: bool,
    /// Bits of its disk have flipped at some time: the member may have found them, and its alarm may come later than the repair.
    has_rotted: bool,
}

/// The fault of a disk, with what is needed to undo it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Calls fail.
    Ailing,
    /// Bits have flipped.
    Rotten(Vec<Flip>),
    /// An empty disk is in its place.
    Blank,
    /// An older copy of itself is in its place.
    Older,
    /// It was swapped with the disk of this other member.
    Swapped(usize),
    /// Its member is being replaced: its process may be refused.
    Replaced,
    /// A record in its store was altered, but is sound in itself. This is never undone.
    Altered,
}

/// A process that has exited, with the reason unless it was asked to.
struct Exit {
    number: usize,
    end: End,
}

#[derive(Default)]
struct End {
    reason: Option<String>,
    /// A file that was changed by a start that was refused.
    changed: Option<PathBuf>,
}

fn lock(process: &Mutex<Process>) -> MutexGuard<'_, Process> {
    process.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The member whose disk a directory is.
pub fn member_of(directory: &Path) -> Option<usize> {
    let name = directory.file_name()?.to_str()?.strip_prefix('m')?;
    name.parse::<usize>().ok()?.checked_sub(1)
}

impl Cluster {
    /// Sets the machines up and starts a member on each.
    pub fn start(options: &Options, world: World, scratch: &Path) -> Rc<Self> {
        let runtime = Handle::current();
        let (exits, exited) = mpsc::unbounded_channel();
        let mut members = Vec::new();
        let places = PeerPlaces::new(options.members, options.peer_tls.is_secure());
        let certificates = (options.peer_tls == PeerTls::Signed)
            .then(|| Certificates::issue(&scratch.join("certificates"), options.members));
        for number in 0..options.members {
            let name = format!("m{}", number + 1);
            let directory = scratch.join(&name);
            let engine = process::engine_options(options);
            let process = Arc::new(Mutex::new(Process {
                running: true,
                ..Process::default()
            }));
            let (shared, exits) = (Arc::clone(&process), exits.clone());
            let machine = Machine {
                number,
                directory: directory.clone(),
                options: options.clone(),
                places: places.clone(),
                files: certificates.as_ref().map(|all| all.files(number)),
            };
            let node = runtime
                .create_node()
                .name(&name)
                .init(move || {
                    let mut process = lock(&shared);
                    let mut config = machine.config(&process);
                    config.force_new_cluster = std::mem::take(&mut process.is_forced);
                    drop(process);
                    let life = process::live(config, engine.clone(), Arc::clone(&shared));
                    let exits = exits.clone();
                    async move {
                        let end = life.await;
                        // The receiver is gone once the rehearsal is over.
                        let _ = exits.send(Exit { number, end });
                    }
                })
                .build();
            world.name(node.id(), &name);
            network::settle(node.id(), member_address(number));
            clock::drift(member_address(number), options.clock_drift_ppm[number]);
            members.push(MemberNode {
                name,
                directory,
                node,
                process,
            });
        }
        let cluster = Rc::new(Self {
            members,
            world,
            clients: (0..options.clients).map(client_address).collect(),
            quota_bytes: options.space.quota_bytes,
            peer_tls: options.peer_tls,
            places,
            certificates: certificates.map(Rc::new),
            runtime,
        });
        cluster.world.count(
            "clusters with TLS between members",
            u64::from(options.peer_tls.is_secure()),
        );
        madsim::task::spawn_local(Self::reap(Rc::downgrade(&cluster), exited));
        cluster
    }

    /// Reaps processes that have exited. Unless its disk has a fault, no process may exit without being asked to. The listening
    /// task is never told that the rehearsal is over, so it holds nothing that outlives the rehearsal.
    async fn reap(cluster: Weak<Self>, mut exited: mpsc::UnboundedReceiver<Exit>) {
        while let Some(Exit { number, end }) = exited.recv().await {
            let Some(this) = cluster.upgrade() else { return };
            let member = &this.members[number];
            this.runtime.kill(member.node.id());
            if let Some(path) = end.changed {
                let text = format!(
                    "a start of {} that was refused has changed {}",
                    member.name,
                    path.display()
                );
                this.world.violated(Violation(text));
            }
            if let Some(reason) = end.reason {
                let trouble = lock(&member.process).trouble.clone();
                if let Some(trouble) = trouble {
                    this.event(number, "stops", &reason);
                    let what = if trouble == Trouble::Replaced {
                        "processes of no member ended"
                    } else {
                        "members stopped by their disks"
                    };
                    this.world.count(what, 1);
                } else {
                    let text = format!("{} stopped on its own: {reason}", member.name);
                    this.world.violated(Violation(text));
                }
            }
            madsim::time::sleep(DEATH).await;
            this.thaw(number);
            lock(&member.process).leaving = false;
        }
    }

    /// Kills a member's process, if it runs, and waits until nothing of it is left. Code that runs while its memory is freed does
    /// not reach the disk, as after a real kill.
    pub async fn kill(&self, number: usize) -> bool {
        let killed = self.end(number).await;
        if killed {
            self.thaw(number);
        }
        killed
    }

    /// Cuts the power of a member's machine; returns what its disk lost.
    pub async fn cut_power(&self, number: usize, random: &mut RandomStream) -> Option<Lost> {
        let directory = &self.members[number].directory;
        if self.is_running(number) {
            network::darken(member_address(number));
        }
        if !self.end(number).await {
            return None;
        }
        let lost = disk::lose_power(directory, random).expect("scratch files can be written");
        self.thaw(number);
        Some(lost)
    }

    fn thaw(&self, number: usize) {
        let member = &self.members[number];
        disk::thaw(&member.directory);
        lock(&member.process).dying_since = None;
    }

    /// Asks a process to stop, as an operator does.
    pub fn ask_to_stop(&self, number: usize) -> bool {
        let member = &self.members[number];
        let asked = {
            let mut process = lock(&member.process);
            let asked = process.backend.is_some() && process.paused_since.is_none();
            process.stopping |= asked;
            asked
        };
        if asked {
            self.runtime.send_ctrl_c(member.node.id());
        }
        asked
    }

    /// Whether a member has a process, started completely or not.
    pub fn is_running(&self, number: usize) -> bool {
        lock(&self.members[number].process).running
    }

    /// The number of a member's process, started completely or not: it differs between a killed process and the next one.
    pub fn life(&self, number: usize) -> Option<u64> {
        let process = lock(&self.members[number].process);
        process.running.then_some(process.life)
    }

    /// Whether nothing is left of a member's process. The code that killed it may not run any more.
    pub fn is_idle(&self, number: usize) -> bool {
        let process = lock(&self.members[number].process);
        let (since, is_reaped) = (process.dying_since, !process.leaving);
        let is_gone = since.is_none_or(|since| is_reaped && elapsed() > since + DEATH);
        let is_idle = !process.running && is_gone;
        drop(process);
        if is_idle && since.is_some() {
            self.thaw(number);
        }
        is_idle
    }

    /// Whether all other members run and know which disk is this member's.
    pub fn disk_is_known(&self, number: usize) -> bool {
        let Some(identity) = self.identity(number) else {
            return false;
        };
        let known = |other: usize| {
            self.views(other).is_some_and(|views| {
                let view = views.load();
                let member = view.member(identity.member);
                member.is_some_and(|member| member.incarnation == identity.incarnation.0)
            }) || self.has_heard(other, identity)
        };
        self.members.len() > 1 && (0..self.members.len()).all(|other| other == number || known(other))
    }

    /// Whether a running member has recorded the disk of another.
    fn has_heard(&self, number: usize, other: Identity) -> bool {
        let process = lock(&self.members[number].process);
        let contact = process.backend.as_ref();
        let contact = contact.and_then(|backend| backend.contacts.of(other.member));
        contact.is_some_and(|contact| contact.incarnation() == other.incarnation)
    }

    /// Whether all other members run and have recorded the newest start of this member.
    pub fn start_is_known(&self, number: usize) -> bool {
        let Some(identity) = self.identity(number) else {
            return false;
        };
        let contact = Contact::new(identity.incarnation, identity.start);
        let known = |other: usize| {
            let process = lock(&self.members[other].process);
            let backend = process.backend.as_ref();
            backend.is_some_and(|backend| backend.contacts.of(identity.member) == Some(contact))
        };
        self.members.len() > 1 && (0..self.members.len()).all(|other| other == number || known(other))
    }

    /// The start of a member, if it runs.
    pub fn start_of(&self, number: usize) -> Option<Start> {
        self.identity(number).map(|identity| identity.start)
    }

    /// Whether a member takes part in raft.
    pub fn takes_part(&self, number: usize) -> bool {
        let process = lock(&self.members[number].process);
        process
            .backend
            .as_ref()
            .is_some_and(|backend| backend.handle.status().takes_part)
    }

    /// A member's id, if it runs.
    pub fn member_id(&self, number: usize) -> Option<u64> {
        self.identity(number).map(|identity| identity.member.0)
    }

    /// Runs a task on a member's machine, as long as its process runs.
    pub fn on_machine(&self, number: usize, task: impl Future<Output = ()> + Send + 'static) {
        self.members[number].node.spawn(task);
    }

    /// The identity of a member, if it runs.
    pub fn identity(&self, number: usize) -> Option<Identity> {
        let process = lock(&self.members[number].process);
        process.backend.as_ref().map(|backend| backend.identity)
    }

    /// Whether a member's process has started completely.
    pub fn has_started(&self, number: usize) -> bool {
        lock(&self.members[number].process).backend.is_some()
    }

    /// Ends a process and leaves its disk frozen.
    async fn end(&self, number: usize) -> bool {
        let member = &self.members[number];
        if !lock(&member.process).running {
            return false;
        }
        self.resume(number);
        disk::freeze(&member.directory);
        {
            let mut process = lock(&member.process);
            process.running = false;
            process.dying_since = Some(elapsed());
            process.backend = None;
            process.log = None;
        }
        self.runtime.kill(member.node.id());
        madsim::time::sleep(DEATH).await;
        true
    }

    /// Starts a member's process, unless it runs.
    pub fn restart(&self, number: usize) -> bool {
        if !self.is_idle(number) {
            return false;
        }
        let member = &self.members[number];
        {
            let mut process = lock(&member.process);
            process.running = true;
            process.life += 1;
            process.stopping = false;
        }
        network::lighten(member_address(number));
        self.runtime.restart(member.node.id());
        true
    }

    /// Starts a member's process, unless it runs, to go on without all others.
    pub fn force(&self, number: usize) -> bool {
        if !self.is_idle(number) {
            return false;
        }
        lock(&self.members[number].process).is_forced = true;
        self.restart(number)
    }

    /// Pauses a member.
    pub fn pause(&self, number: usize) -> bool {
        let member = &self.members[number];
        let mut process = lock(&member.process);
        if !process.running || process.paused_since.is_some() {
            return false;
        }
        process.paused_since = Some(crate::world::elapsed());
        self.runtime.pause(member.node.id());
        true
    }

    /// Resumes a member, and returns when it was paused.
    pub fn resume(&self, number: usize) -> Option<Duration> {
        let member = &self.members[number];
        let since = lock(&member.process).paused_since.take();
        if since.is_some() {
            self.runtime.resume(member.node.id());
        }
        since
    }

    /// Cuts one direction between two members.
    #[allow(clippy::unused_self)] // the routes are the cluster's
    /// Damages this many pieces per thousand in one direction between two members.
    #[allow(clippy::unused_self)] // the routes are the cluster's
    /// Delays everything in one direction between two members.
    #[allow(clippy::unused_self)] // the routes are the cluster's
    /// Restores a direction: no cut, no damage, no delay.
    #[allow(clippy::unused_self)] // the routes are the cluster's
    /// Cuts or restores the routes between a member's machine and another.
    #[allow(clippy::unused_self)] // the routes are the cluster's
    /// The databases of a running member whose disk has no fault.
    pub fn databases(&self, number: usize) -> Option<(Arc<StateDatabase>, LogDatabase)> {
        let is_well = lock(&self.members[number].process).trouble.is_none();
        self.databases_in_trouble(number).filter(|_| is_well)
    }

    /// The same, even if the disk has a fault.
    pub fn databases_in_trouble(&self, number: usize) -> Option<(Arc<StateDatabase>, LogDatabase)> {
        let process = lock(&self.members[number].process);
        let (backend, log) = (process.backend.as_ref()?, process.log.clone()?);
        process
            .paused_since
            .is_none()
            .then(|| (Arc::clone(&backend.views.load().state), log))
    }

    /// Makes all of these members run and reach each other.
    pub async fn heal(&self, members: &[usize]) {
        // Afterwards, processes that are being killed are gone. The code that killed them may not run any more.
        madsim::time::sleep(DEATH).await;
        for number in members {
            while lock(&self.members[*number].process).leaving {
                madsim::time::sleep(DEATH).await;
            }
            self.thaw(*number);
            self.resume(*number);
            if lock(&self.members[*number].process).stopping {
                self.kill(*number).await;
            }
            self.repair(*number).await;
        }
        for number in members {
            self.restart(*number);
        }
        self.mend_all(members);
    }

    /// A line of the trace about a member.
    pub fn event(&self, number: usize, event: &str, note: &str) {
        self.world
            .event(&self.members[number].name, event, self.standing(number), note);
    }
}
