//! Whole requests: machines of their own that send ranges, puts, deletes and transactions with all options, on keys of their own,
//! and attach these keys to leases whose ids are reused. The checker judges the replies at the end.

mod features;
mod json;
mod out_of_bounds;
mod sample;

use super::{lease_id, machine};
use crate::checkers::leases::Tenancy;
use crate::checkers::requests::{self, Answer, Asked, End, Request};
use crate::checkers::{Judged, Violation};
use crate::clients;
use crate::options::Options;
use crate::random::RandomStream;
use crate::records::RecordPast;
use crate::world::{World, elapsed};
use callboard::client::Client;
use callboard::proto::etcdserverpb as pb;
use callboard::proto::etcdserverpb::response_op::Response;
use callboard::proto::mvccpb::KeyValue;
use madsim::runtime::Handle;
use madsim::task::NodeId;
use sample::{Memory, Sampler};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The prefix of the keys.
pub const KEY_PREFIX: &str = "q";
/// Machines that send requests.
const MACHINES: usize = 2;
/// The machines' numbers among those that hold leases.
const FIRST_LEASE_HOLDER: usize = 20;
/// Leases of each machine: few, so that their ids are reused.
const LEASES: i64 = 3;
/// The shortest and the longest TTL of a lease, in seconds.
const TTL_MIN: u64 = 2;
const TTL_MAX: u64 = 60;
/// Healthy members execute a request within this time.
const SETTLE_MAX: Duration = Duration::from_secs(60);

/// All machines that send such requests.
#[derive(Clone, Debug)]
pub struct Requesters {
    log: Arc<Mutex<Log>>,
    nodes: Vec<NodeId>,
    world: World,
}

/// The requests and replies of all machines, in the order of the calls.
#[derive(Debug, Default)]
struct Log {
    asked: Vec<Asked>,
    moment: u64,
}

impl Log {
    fn next_id(&self) -> u64 {
        self.asked.len() as u64 + 1
    }

    fn call(&mut self, request: Request) -> u64 {
        let id = self.next_id();
        self.moment += 1;
        self.asked.push(Asked {
            id,
            request,
            called: self.moment,
            returned: None,
        });
        id
    }

    fn returned(&mut self, id: u64, end: End) {
        self.moment += 1;
        self.asked[id as usize - 1].returned = Some((self.moment, end));
    }
}

fn lock(log: &Mutex<Log>) -> MutexGuard<'_, Log> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Requesters {
    /// Starts all machines.
    pub fn start(options: &Options, world: &World) -> Self {
        let log: Arc<Mutex<Log>> = Arc::default();
        // A scenario has no such machines.
        let machines = if options.clients == 0 { 0 } else { MACHINES };
        let nodes = (0..machines).map(|number| {
            let (options, told, log) = (options.clone(), world.clone(), Arc::clone(&log));
            machine(
                world,
                &format!("r{number}"),
                [10, 0, 9, number as u8 + 1],
                move || work(number, options.clone(), told.clone(), Arc::clone(&log)),
            )
        });
        Self {
            nodes: nodes.collect(),
            log,
            world: world.clone(),
        }
    }

    /// Switches the machines off.
    pub fn leave(&self) {
        for node in &self.nodes {
            Handle::current().kill(*node);
        }
    }

    /// Revokes the leases, which have long TTLs. The members are healthy, the machines are off.
    pub async fn end_leases(&self, options: &Options) -> Result<(), Violation> {
        let client = clients::connect(0..options.members, Duration::from_secs(5));
        let deadline = elapsed() + SETTLE_MAX;
        for machine in 0..self.nodes.len() {
            for number in 1..=LEASES {
                let id = lease_id(FIRST_LEASE_HOLDER + machine, number);
                while let End::Unknown(reason) =
                    ask(&self.log, &self.world, &client, Request::Revoke(id)).await
                {
                    if elapsed() > deadline {
                        let text =
                            format!("healthy members do not revoke a lease within {SETTLE_MAX:?}: {reason}");
                        return Err(Violation(text));
                    }
                }
            }
        }
        Ok(())
    }

    /// Checks all replies against the store's past.
    pub fn review(&self, past: &RecordPast) -> Result<Judged, Violation> {
        let log = lock(&self.log);
        let judged = requests::check(&log.asked, past)?;
        let moved = moved_between_leases(past);
        self.world.count("keys moved between leases", moved);
        let note = format!("{} whole requests, {} judged", log.asked.len(), judged.judged);
        self.world.note("requests done", &note);
        Ok(judged)
    }
}

/// How often a key was moved from one lease to another.
fn moved_between_leases(past: &RecordPast) -> u64 {
    let states = past.states();
    let mut moved = 0;
    for revision in 2..=past.revision() {
        let (Some(before), Some(changes)) = (states.at(revision - 1), past.changes(revision)) else {
            continue;
        };
        for change in changes {
            let leases = [
                before.get(&change.key).map(|kv| kv.lease),
                change.record.as_ref().map(|kv| kv.lease),
            ];
            if let [Some(one), Some(other)] = leases {
                moved += u64::from(one != 0 && other != 0 && one != other);
            }
        }
    }
    moved
}

/// Sends a request and records it.
async fn ask(log: &Mutex<Log>, world: &World, client: &Client, request: Request) -> End {
    noted(log, world, request.clone(), send(client, request)).await
}

/// Records a request and its outcome.
async fn noted(log: &Mutex<Log>, world: &World, request: Request, sent: impl Future<Output = End>) -> End {
    let id = lock(log).call(request.clone());
    world.line(&format!("request {id}: {request:?}"));
    let end = sent.await;
    world.line(&format!("request {id} ended: {end:?}"));
    world.count(
        match &end {
            End::Answered(_) => "whole requests answered",
            End::Refused(_) => "whole requests refused",
            End::Unknown(_) => "whole requests unknown",
        },
        1,
    );
    lock(log).returned(id, end.clone());
    end
}

async fn send(client: &Client, request: Request) -> End {
    let answer = match request {
        Request::Range(request) => client.range(request).await.map(Answer::Range),
        Request::Put(request) => client.put(request).await.map(Answer::Put),
        Request::DeleteRange(request) => client.delete_range(request).await.map(Answer::DeleteRange),
        Request::Txn(request) => client.txn(request).await.map(Answer::Txn),
        Request::Revoke(id) => {
            let revoked = client.lease_revoke(pb::LeaseRevokeRequest { id }).await;
            revoked.map(|revoked| Answer::Revoked(revoked.header.unwrap_or_default()))
        }
    };
    match answer {
        Ok(answer) => End::Answered(answer),
        Err(error) if error.is_unknown_outcome() => End::Unknown(error.to_string()),
        Err(error) => End::Refused(error.to_string()),
    }
}

/// A lease of a machine.
#[derive(Debug)]
struct OwnLease {
    id: i64,
    /// None if the lease may not exist.
    tenancy: Option<Tenancy>,
    /// A request of unknown outcome may revoke it at any time.
    may_end: bool,
    granted: u64,
}

struct Requester {
    client: Client,
    timeout: Duration,
    members: usize,
    world: World,
    log: Arc<Mutex<Log>>,
    memory: Memory,
    leases: Vec<OwnLease>,
}

/// One machine: one request after the other until the rehearsal ends.
async fn work(number: usize, options: Options, world: World, log: Arc<Mutex<Log>>) {
    let mut random = RandomStream::of(options.seed, &format!("requester {number}"));
    let timeout = Duration::from_millis(random.between(500, 8_000));
    let pause_ms_max = *random.pick(&[20, 100, 300]);
    let machine = FIRST_LEASE_HOLDER + number;
    let mut requester = Requester {
        client: clients::connect(0..options.members, timeout),
        timeout,
        members: options.members,
        world: world.clone(),
        log,
        memory: Memory::default(),
        leases: (1..=LEASES)
            .map(|number| OwnLease {
                id: lease_id(machine, number),
                tenancy: None,
                may_end: false,
                granted: 0,
            })
            .collect(),
    };
    let short_of_space = options.space.quota_bytes.is_some();
    let mut bounds = RandomStream::of(options.seed, &format!("out of bounds {number}"));
    loop {
        if bounds.chance(3)
            && let Err(violation) = out_of_bounds::ask(&mut bounds, &world, &requester.client).await
        {
            return world.violated(violation);
        }
        if let Err(violation) = requester.step(&mut random, short_of_space).await {
            return world.violated(violation);
        }
        madsim::time::sleep(Duration::from_millis(random.between(1, pause_ms_max))).await;
    }
}

impl Requester {
    async fn step(&mut self, random: &mut RandomStream, short_of_space: bool) -> Result<(), Violation> {
        if random.chance(30) {
            let place = random.below(self.leases.len() as u64) as usize;
            return match self.leases[place].tenancy {
                None => self.grant(random, place).await,
                Some(_) if random.chance(85) => self.keep_alive(place).await,
                Some(_) => self.revoke(place).await,
            };
        }
        let ids = self.leases_to_name(random);
        let id = lock(&self.log).next_id();
        let request = Sampler::new(random, &self.memory, id, &ids, short_of_space).sample();
        for feature in features::of(&request) {
            self.world.count(feature, 1);
        }
        let is_put = matches!(&request, Request::Put(put) if put.lease != 0);
        let leases = if let Request::Put(put) = &request {
            vec![put.lease]
        } else {
            vec![]
        };
        let end = if random.chance(15) {
            let member = random.below(self.members as u64) as usize;
            self.world.count("asked: as JSON", 1);
            let sent = json::send(member, self.timeout, &request);
            let sent = async { sent.await.unwrap_or_else(|| End::Refused("no JSON form".into())) };
            noted(&self.log, &self.world, request.clone(), sent).await
        } else {
            ask(&self.log, &self.world, &self.client, request).await
        };
        match end {
            End::Answered(answer) => self.memory.learn(&answer),
            End::Refused(reason) if is_put && reason.contains("requested lease not found") => {
                for lease in self.leases.iter_mut().filter(|lease| leases.contains(&lease.id)) {
                    lease.gone()?;
                }
            }
            End::Refused(_) | End::Unknown(_) => {}
        }
        Ok(())
    }

    /// The leases that exist, as far as this machine knows; sometimes one that may not.
    fn leases_to_name(&self, random: &mut RandomStream) -> Vec<i64> {
        let there = self.leases.iter().filter(|lease| lease.tenancy.is_some());
        let there: Vec<i64> = there.map(|lease| lease.id).collect();
        if there.is_empty() || random.chance(10) {
            return self.leases.iter().map(|lease| lease.id).collect();
        }
        there
    }

    async fn grant(&mut self, random: &mut RandomStream, place: usize) -> Result<(), Violation> {
        let lease = &mut self.leases[place];
        let ttl = if random.chance(70) {
            random.between(TTL_MIN, 4)
        } else {
            random.between(TTL_MIN, TTL_MAX)
        };
        let asked_at = elapsed();
        let request = pb::LeaseGrantRequest {
            id: lease.id,
            ttl: ttl as i64,
        };
        if self.client.lease_grant(request).await.is_ok() {
            lease.granted += 1;
            if lease.granted > 1 {
                self.world.count("lease ids used again", 1);
            }
            lease.tenancy = Some(Tenancy {
                name: format!("{:x}", lease.id),
                ttl: Duration::from_secs(ttl),
                asked_at,
                revoked: lease.may_end,
            });
        }
        Ok(())
    }

    async fn keep_alive(&mut self, place: usize) -> Result<(), Violation> {
        let lease = &mut self.leases[place];
        let asked_at = elapsed();
        match (self.client.keep_alive_once(lease.id).await, &mut lease.tenancy) {
            (Ok(0), _) => lease.gone()?,
            (Ok(_), Some(tenancy)) => tenancy.asked_at = asked_at,
            _ => {}
        }
        Ok(())
    }

    async fn revoke(&mut self, place: usize) -> Result<(), Violation> {
        let id = self.leases[place].id;
        // From here on it may be revoked at any time.
        self.leases[place].tenancy = None;
        if let End::Unknown(_) = ask(&self.log, &self.world, &self.client, Request::Revoke(id)).await {
            self.leases[place].may_end = true;
        }
        Ok(())
    }
}

impl OwnLease {
    /// Checks a lease that was seen to be gone.
    fn gone(&mut self) -> Result<(), Violation> {
        self.tenancy
            .take()
            .map_or(Ok(()), |tenancy| tenancy.gone(elapsed()))
    }
}

impl Memory {
    fn learn(&mut self, answer: &Answer) {
        match answer {
            Answer::Range(range) => {
                self.learn_revision(range.header.as_ref());
                self.learn_records(&range.kvs);
            }
            Answer::Put(put) => self.learn_revision(put.header.as_ref()),
            Answer::DeleteRange(delete) => self.learn_revision(delete.header.as_ref()),
            Answer::Txn(txn) => {
                self.learn_revision(txn.header.as_ref());
                for response in &txn.responses {
                    if let Some(Response::ResponseRange(range)) = &response.response {
                        self.learn_records(&range.kvs);
                    }
                }
            }
            Answer::Revoked(header) => self.learn_revision(Some(header)),
        }
    }

    fn learn_revision(&mut self, header: Option<&pb::ResponseHeader>) {
        let revision = header.map_or(0, |header| header.revision);
        self.revision = self.revision.max(revision);
    }

    fn learn_records(&mut self, records: &[KeyValue]) {
        for record in records {
            let known = self.records.entry(record.key.clone()).or_default();
            if known.mod_revision <= record.mod_revision {
                *known = record.clone();
            }
        }
    }
}
