//! Watch: watchers on their own machines that watch keys, lose their connections, resume, and request progress, while clients
//! write. Their events are checked at the end.

use crate::checkers::watch::{Follow, Seen, SeenEvent, Store, check};
use crate::checkers::{Violation, violation};
use crate::clients;
use crate::cluster::Cluster;
use crate::history::{History, Input, Operation, key_name};
use crate::options::Options;
use crate::random::RandomStream;
use crate::records::RecordPast;
use crate::world::{World, elapsed};
use callboard::client::{Watched, Watcher};
use callboard::proto::etcdserverpb::WatchCreateRequest;
use callboard::proto::etcdserverpb::watch_create_request::FilterType;
use callboard::proto::mvccpb::Event;
use callboard::proto::mvccpb::event::EventType;
use madsim::runtime::Handle;
use madsim::task::NodeId;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Machines that watch, with one watcher after the other.
const MACHINES: usize = 3;
/// Healthy members bring every watcher up to date within this time.
const SETTLE_MAX: Duration = Duration::from_secs(60);

/// All watchers. Clones share them.
#[derive(Clone, Debug)]
pub struct Watchers {
    follows: Arc<Mutex<Vec<Follow>>>,
    nodes: Vec<NodeId>,
    world: World,
}

impl Watchers {
    /// Starts all machines.
    pub fn start(options: &Options, world: &World) -> Self {
        let mut watchers = Self {
            follows: Arc::default(),
            nodes: Vec::new(),
            world: world.clone(),
        };
        for number in 0..MACHINES {
            let name = format!("w{number}");
            let address: IpAddr = Ipv4Addr::new(10, 0, 3, number as u8 + 1).into();
            let (options, follows) = (options.clone(), Arc::clone(&watchers.follows));
            let node = Handle::current()
                .create_node()
                .name(&name)
                .ip(address)
                .init(move || watch_on(number, options.clone(), Arc::clone(&follows)))
                .build();
            world.name(node.id(), &name);
            watchers.nodes.push(node.id());
        }
        watchers
    }

    /// Waits until all watchers are up to date, and checks their events. The members are healthy and there are no writes any
    /// more.
    pub async fn review(&self, cluster: &Cluster, past: &RecordPast) -> Result<(), Violation> {
        let revision = past.revision();
        let deadline = elapsed() + SETTLE_MAX;
        loop {
            let behind = lock(&self.follows)
                .iter()
                .find(|follow| follow.lives && !follow.is_over() && follow.through() < revision)
                .map(|follow| (follow.name.clone(), follow.through()));
            match behind {
                None => break,
                Some((name, through)) if elapsed() > deadline => {
                    return violation(format!(
                        "watcher {name} was told of everything up to revision {through} only, of {revision}, \
                         within {SETTLE_MAX:?}"
                    ));
                }
                Some(_) => madsim::time::sleep(Duration::from_millis(100)).await,
            }
        }
        let follows = lock(&self.follows).clone();
        // A leader with automatic compaction has continued meanwhile.
        let views = (0..cluster.members.len()).filter_map(|number| cluster.views(number));
        let compacted = views.map(|views| views.load().compact_revision()).max();
        let compactions = compactions(&self.world.history());
        let store = Store::new(past, compactions, compacted.unwrap_or(-1));
        let checked = check(&follows, &store)?;
        let note = format!(
            "{} watchers exact, {} events",
            follows.len(),
            checked.events.judged
        );
        self.world.judged("watch events", checked.events);
        self.world.judged("records before watch events", checked.previous);
        self.world
            .count("records before watch events compacted", checked.compacted);
        self.world.note("watches done", &note);
        Ok(())
    }

    /// Switches the machines off.
    pub fn leave(&self) {
        for node in &self.nodes {
            Handle::current().kill(*node);
        }
    }
}

fn lock(follows: &Mutex<Vec<Follow>>) -> MutexGuard<'_, Vec<Follow>> {
    follows.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Every revision that was compacted to, or may have been.
fn compactions(history: &History) -> BTreeSet<i64> {
    let compacted = |operation: &Operation| match operation.input {
        Input::Compact { revision } if operation.answer().is_some() || operation.is_open() => Some(revision),
        _ => None,
    };
    history.operations.iter().filter_map(compacted).collect()
}

/// One machine: watches changing keys until the rehearsal ends.
async fn watch_on(number: usize, options: Options, follows: Arc<Mutex<Vec<Follow>>>) {
    let mut random = RandomStream::of(options.seed, &format!("watcher {number}"));
    let mut newest = 0;
    let mut compacted = None;
    for life in 0.. {
        let members = if random.chance(50) {
            0..options.members
        } else {
            let only = random.below(options.members as u64) as usize;
            only..only + 1
        };
        let client = clients::connect(members, Duration::from_millis(random.between(500, 4_000)));
        let mut request = sample(&mut random, options.keys, newest);
        // A watcher that starts too late may start at the compact revision in the reply: for changes of that revision, the record
        // before may be missing.
        if let Some(revision) = compacted.take().filter(|_| random.chance(50)) {
            request.start_revision = revision;
            request.prev_kv = true;
        }
        let place = {
            let mut follows = lock(&follows);
            follows.push(follow_of(format!("w{number}.{life}"), &request));
            follows.len() - 1
        };
        let watcher = client.watcher(request);
        let things = if random.chance(30) {
            u64::MAX
        } else {
            random.between(5, 60)
        };
        watch(watcher, &mut random, things, |seen| {
            let follow = &mut lock(&follows)[place];
            match seen {
                Told::From(revision) => follow.from = follow.from.or(Some(revision)),
                Told::Seen(seen) => {
                    if let Seen::Compacted(revision) = seen {
                        compacted = Some(revision);
                    }
                    follow.seen.push(seen);
                }
            }
            newest = newest.max(follow.through());
        })
        .await;
        lock(&follows)[place].lives = false;
    }
}

enum Told {
    From(i64),
    Seen(Seen),
}

/// Watches until this many messages arrived, or the watcher has ended.
async fn watch(mut watcher: Watcher, random: &mut RandomStream, things: u64, mut told: impl FnMut(Told)) {
    let mut left = things;
    while left > 0 {
        let pause = Duration::from_millis(random.between(1, 600));
        let Ok(watched) = madsim::time::timeout(pause, watcher.next()).await else {
            match random.below(10) {
                0 => watcher.lose_stream(),
                1..6 => watcher.request_progress(),
                _ => {}
            }
            continue;
        };
        left -= 1;
        let seen = match watched {
            Watched::Created { next_revision } => {
                told(Told::From(next_revision));
                if random.chance(50) {
                    watcher.request_progress();
                }
                continue;
            }
            Watched::Events { revision, events } => Seen::Events {
                revision,
                events: events.into_iter().map(event).collect(),
            },
            Watched::Progress { revision } => Seen::Progress(revision),
            Watched::Compacted { compact_revision } => Seen::Compacted(compact_revision),
            Watched::Canceled { reason } => Seen::Canceled(reason),
        };
        let over = matches!(seen, Seen::Compacted(_) | Seen::Canceled(_));
        told(Told::Seen(seen));
        if over {
            return;
        }
    }
}

fn sample(random: &mut RandomStream, keys: u32, newest: i64) -> WatchCreateRequest {
    let (key, range_end) = match random.below(4) {
        0 => (key_name(random.below(u64::from(keys)) as u32), ""),
        1 => ("k".to_owned(), "\0"),
        _ => ("k".to_owned(), "l"),
    };
    let filters = match random.below(6) {
        0 => vec![FilterType::Noput as i32],
        1 => vec![FilterType::Nodelete as i32],
        _ => vec![],
    };
    let start_revision = match random.below(3) {
        0 => 0,
        1 => 2,
        _ => random.between(1, newest.max(1) as u64) as i64,
    };
    WatchCreateRequest {
        key: key.into(),
        range_end: range_end.into(),
        start_revision,
        filters,
        prev_kv: random.chance(50),
        progress_notify: random.chance(20),
        fragment: random.chance(20),
        ..WatchCreateRequest::default()
    }
}

fn follow_of(name: String, request: &WatchCreateRequest) -> Follow {
    Follow {
        name,
        key: request.key.to_vec(),
        range_end: request.range_end.to_vec(),
        puts: !request.filters.contains(&(FilterType::Noput as i32)),
        deletes: !request.filters.contains(&(FilterType::Nodelete as i32)),
        previous: request.prev_kv,
        from: None,
        seen: Vec::new(),
        lives: true,
    }
}

fn event(event: Event) -> SeenEvent {
    let put = event.r#type() == EventType::Put;
    let kv = event.kv.unwrap_or_default();
    SeenEvent {
        revision: kv.mod_revision,
        key: kv.key.to_vec(),
        value: put.then(|| kv.value.to_vec()),
        create_revision: kv.create_revision,
        version: kv.version,
        previous: event
            .prev_kv
            .map(|previous| (previous.mod_revision, previous.value.to_vec())),
    }
}
