//! The clients: each on a machine of its own, with one operation after another until the rehearsal has enough.

use crate::checkers::space;
use crate::cluster::{client_address, endpoint};
use crate::history::Outcome;
use crate::options::Options;
use crate::random::RandomStream;
use crate::workloads::{self, Memory};
use crate::world::World;
use callboard::client::{self, Client, Endpoint};
use callboard::env::network;
use madsim::runtime::Handle;
use madsim::task::NodeId;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The pause of a client that was refused for lack of space.
const NO_SPACE_PAUSE: Duration = Duration::from_millis(500);

/// The clients of a rehearsal, for its director.
#[derive(Clone, Debug)]
pub struct Clients {
    /// Operations that no client has begun yet.
    left: Arc<AtomicU64>,
    working: Arc<AtomicU64>,
    nodes: Vec<NodeId>,
}

impl Clients {
    /// Starts all clients.
    pub fn start(options: &Options, world: &World) -> Self {
        let mut clients = Self {
            left: Arc::new(AtomicU64::new(options.operations)),
            working: Arc::new(AtomicU64::new(options.clients as u64)),
            nodes: Vec::new(),
        };
        for number in 0..options.clients {
            let name = format!("c{number}");
            let (options, shared_world, shared) = (options.clone(), world.clone(), clients.clone());
            let node = Handle::current()
                .create_node()
                .name(&name)
                .init(move || work(number, options.clone(), shared_world.clone(), shared.clone()))
                .build();
            world.name(node.id(), &name);
            network::settle(node.id(), client_address(number));
            clients.nodes.push(node.id());
        }
        clients
    }

    /// Stops clients from beginning new operations.
    pub fn stop(&self) {
        self.left.store(0, Ordering::Relaxed);
    }

    pub fn is_done(&self) -> bool {
        self.working.load(Ordering::Relaxed) == 0
    }

    /// Switches the clients' machines off.
    pub fn leave(&self) {
        for node in &self.nodes {
            Handle::current().kill(*node);
        }
    }

    fn take(&self) -> bool {
        let take = |left: u64| left.checked_sub(1);
        self.left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .is_ok()
    }
}

/// A client of all members, or of one.
pub fn connect(members: impl IntoIterator<Item = usize>, timeout: Duration) -> Client {
    let endpoints: Vec<Endpoint> = members
        .into_iter()
        .map(|member| endpoint(member).parse().expect("an address is an endpoint"))
        .collect();
    let options = client::Options {
        request_timeout: timeout,
        ..client::Options::default()
    };
    Client::start(endpoints, options).expect("there are members")
}

async fn work(number: usize, options: Options, world: World, clients: Clients) {
    let mut random = RandomStream::of(options.seed, &format!("client {number}"));
    let timeout = Duration::from_millis(random.between(500, 8_000));
    let pause_ms_max = *random.pick(&[0, 10, 50, 200]);
    let client = connect(0..options.members, timeout);
    let mut memory = Memory::default();
    while clients.take() {
        let input = workloads::sample(&mut random, &options.mix, options.keys, &memory);
        let (id, outcome) = workloads::carry_out(&world, number, &client, &input).await;
        if let Outcome::Answered(answer) = &outcome {
            memory.learn(id, &input, answer);
        }
        if space::is_refusal(&outcome) {
            // The alarm will not be disarmed immediately, and the rehearsal has a limited number of operations.
            madsim::time::sleep(NO_SPACE_PAUSE).await;
        }
        madsim::time::sleep(Duration::from_millis(random.between(0, pause_ms_max))).await;
    }
    clients.working.fetch_sub(1, Ordering::Relaxed);
    // The machine stays on: its connections are closed with the rehearsal.
    std::future::pending::<()>().await;
}
