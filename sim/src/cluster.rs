//! The members under rehearsal: each a simulated machine with an address and a scratch directory of its own, running the
//! real member from its flags up. What faults do to machines and links goes through here.

use crate::disk::{self, Lost};
use crate::options::Options;
use crate::random::Stream;
use crate::trace::Standing;
use crate::world::World;
use callboard::config::{self, Invocation, Server};
use callboard::mvcc::view::Views;
use callboard::node::backend::MemberBackend;
use callboard::node::bootstrap::EngineOptions;
use callboard::node::member::Member;
use callboard::storage::state::StateOptions;
use madsim::net::NetSim;
use madsim::runtime::{Handle, NodeHandle};
use madsim::task::NodeId;
use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The port that members serve clients on.
const CLIENT_PORT: u16 = 2379;
const PEER_PORT: u16 = 2380;
/// A memtable that never fills up, so that nothing rotates by itself.
const MEMTABLE_BYTES: u64 = 1 << 40;
/// All tasks of a dead process are gone after this long.
const DEATH: Duration = Duration::from_millis(2);

/// A simulated cluster.
pub struct Cluster {
    pub members: Vec<MemberNode>,
    pub world: World,
    runtime: Handle,
    network: Arc<NetSim>,
}

/// One member's machine.
pub struct MemberNode {
    pub name: String,
    pub directory: PathBuf,
    node: NodeHandle,
    process: Arc<Mutex<Process>>,
}

/// What is known about the process on a machine.
#[derive(Default)]
struct Process {
    running: bool,
    /// Killed, and not all of it is gone yet.
    dying: bool,
    paused: bool,
    backend: Option<MemberBackend>,
    /// Why it ended by itself.
    ended: Option<String>,
}

fn lock(process: &Mutex<Process>) -> MutexGuard<'_, Process> {
    process.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The address of a member's machine.
pub fn member_address(number: usize) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, number as u8 + 1).into()
}

/// Where a member serves clients.
pub fn endpoint(number: usize) -> String {
    format!("{}:{CLIENT_PORT}", member_address(number))
}

impl Cluster {
    /// Sets the machines up and starts a member on each.
    pub fn start(options: &Options, world: World, scratch: &Path) -> Self {
        let runtime = Handle::current();
        let mut members = Vec::new();
        for number in 0..options.members {
            let name = format!("m{}", number + 1);
            let directory = scratch.join(&name);
            let config = member_config(options, number, &directory);
            let catch_up_entries = options.catch_up_entries;
            let process = Arc::new(Mutex::new(Process {
                running: true,
                ..Process::default()
            }));
            let shared = Arc::clone(&process);
            let node = runtime
                .create_node()
                .name(&name)
                .ip(member_address(number))
                .init(move || run_member(config.clone(), catch_up_entries, Arc::clone(&shared)))
                .build();
            world.name(node.id(), &name);
            members.push(MemberNode {
                name,
                directory,
                node,
                process,
            });
        }
        Self {
            members,
            world,
            runtime,
            network: NetSim::current(),
        }
    }

    /// Ends a member's process, if it runs, and waits until nothing of it is left. What runs while its memory is cleared
    /// away does not reach the disk, as nothing does of a killed process.
    pub async fn kill(&self, number: usize) -> bool {
        let killed = self.end(number).await;
        if killed {
            self.thaw(number);
        }
        killed
    }

    /// Cuts the power of a member's machine; says what its disk lost.
    pub async fn cut_power(&self, number: usize, random: &mut Stream) -> Option<Lost> {
        let directory = &self.members[number].directory;
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
        lock(&member.process).dying = false;
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
            process.dying = true;
            process.backend = None;
        }
        self.runtime.kill(member.node.id());
        madsim::time::sleep(DEATH).await;
        true
    }

    /// Starts a member's process, unless it runs.
    pub fn restart(&self, number: usize) -> bool {
        let member = &self.members[number];
        {
            let mut process = lock(&member.process);
            if process.running || process.dying {
                return false;
            }
            process.running = true;
        }
        self.runtime.restart(member.node.id());
        true
    }

    /// Makes a member stand still.
    pub fn pause(&self, number: usize) -> bool {
        let member = &self.members[number];
        let mut process = lock(&member.process);
        if !process.running || process.paused {
            return false;
        }
        process.paused = true;
        self.runtime.pause(member.node.id());
        true
    }

    /// Lets it go on.
    pub fn resume(&self, number: usize) {
        let member = &self.members[number];
        if std::mem::take(&mut lock(&member.process).paused) {
            self.runtime.resume(member.node.id());
        }
    }

    /// Silences one direction between two members.
    pub fn cut(&self, from: usize, to: usize) {
        self.network.clog_link(self.node(from), self.node(to));
    }

    /// Lets it be heard again.
    pub fn mend(&self, from: usize, to: usize) {
        self.network.unclog_link(self.node(from), self.node(to));
    }

    /// Cuts these members off from all others.
    pub fn cut_off(&self, members: &[usize]) {
        for from in 0..self.members.len() {
            for to in members {
                if !members.contains(&from) {
                    self.cut(from, *to);
                    self.cut(*to, from);
                }
            }
        }
    }

    /// Has these members run, all of them, and hear each other.
    pub fn heal(&self, members: &[usize]) {
        for number in members {
            self.thaw(*number);
            self.resume(*number);
            self.restart(*number);
        }
        self.mend_all(members);
    }

    /// Mends everything among these members.
    pub fn mend_all(&self, members: &[usize]) {
        for from in members {
            for to in members {
                if from != to {
                    self.mend(*from, *to);
                }
            }
        }
    }

    fn node(&self, number: usize) -> NodeId {
        self.members[number].node.id()
    }

    /// Why a member's process ended by itself, if one did: in a rehearsal none should.
    pub fn take_failure(&self, number: usize) -> Option<String> {
        lock(&self.members[number].process).ended.take()
    }

    /// The state of a member that has started.
    pub fn views(&self, number: usize) -> Option<Views> {
        let process = lock(&self.members[number].process);
        process.backend.as_ref().map(|backend| backend.views.clone())
    }

    pub fn standing(&self, number: usize) -> Standing {
        let process = lock(&self.members[number].process);
        process.backend.as_ref().map_or(Standing::default(), |backend| {
            let status = backend.handle.status();
            Standing {
                term: status.term.0,
                commit: status.commit_index.0,
                applied: status.applied_index.0,
                revision: backend.views.load().revision(),
            }
        })
    }

    /// The member that leads the highest term, as far as members themselves say.
    pub fn leader(&self) -> Option<usize> {
        let claims = self.members.iter().enumerate().filter_map(|(number, member)| {
            let process = lock(&member.process);
            let backend = process.backend.as_ref()?;
            let status = backend.handle.status();
            (status.leader == backend.identity.member).then_some((status.term, number))
        });
        claims.max().map(|(_, number)| number)
    }

    /// A line of the trace about a member.
    pub fn event(&self, number: usize, event: &str, note: &str) {
        self.world
            .event(&self.members[number].name, event, self.standing(number), note);
    }
}

/// A process: the member from its flags up, as the program's `main` runs it.
async fn run_member(config: Server, catch_up_entries: u64, process: Arc<Mutex<Process>>) {
    let engine = EngineOptions {
        state: StateOptions::simulator(),
        log_memtable_bytes: Some(MEMTABLE_BYTES),
        catch_up_entries: Some(catch_up_entries),
        ..EngineOptions::default()
    };
    let reason = match Member::start(config, engine).await {
        Ok(member) => {
            lock(&process).backend = Some(member.backend().clone());
            let ended =
                callboard::env::first(member.publish(), member.failed(), std::future::pending::<()>());
            match ended.await {
                callboard::env::First::Two(reason) => reason,
                _ => member.failed().await,
            }
        }
        Err(error) => error.to_string(),
    };
    let mut process = lock(&process);
    process.running = false;
    process.backend = None;
    process.ended = Some(reason);
}

/// The configuration that an operator's flags would give.
fn member_config(options: &Options, number: usize, directory: &Path) -> Server {
    let url = |port| format!("http://{}:{port}", member_address(number));
    let cluster: Vec<_> = (0..options.members)
        .map(|number| format!("m{}=http://{}:{PEER_PORT}", number + 1, member_address(number)))
        .collect();
    let flags = [
        "callboard".to_owned(),
        format!("--name=m{}", number + 1),
        format!("--data-dir={}", directory.display()),
        format!("--listen-client-urls={}", url(CLIENT_PORT)),
        format!("--advertise-client-urls={}", url(CLIENT_PORT)),
        format!("--listen-peer-urls={}", url(PEER_PORT)),
        format!("--initial-advertise-peer-urls={}", url(PEER_PORT)),
        format!("--initial-cluster={}", cluster.join(",")),
        format!("--snapshot-count={}", options.snapshot_count),
    ];
    match config::parse(flags.map(OsString::from), []) {
        Ok(Invocation::Server(config)) => *config,
        other => panic!("the flags of a simulated member are right: {other:?}"),
    }
}
