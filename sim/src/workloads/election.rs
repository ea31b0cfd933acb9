//! Elections: candidates on their own machines that campaign, proclaim several values while they lead, and resign, and observers
//! of these.

use super::{lease_id, machine};
use crate::checkers::holders::{self, Holding};
use crate::checkers::proclaims::{self, Observed, Told};
use crate::checkers::{Violation, violation};
use crate::clients;
use crate::options::Options;
use crate::random::RandomStream;
use crate::world::World;
use callboard::client::{Client, ObserveStream};
use callboard::proto::etcdserverpb as pb;
use callboard::proto::v3electionpb::{
    CampaignRequest, LeaderKey, LeaderRequest, LeaderResponse, ProclaimRequest, ResignRequest,
};
use madsim::runtime::Handle;
use madsim::task::NodeId;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The number of machines with candidates and with observers.
const CANDIDATES: usize = 3;
const OBSERVERS: usize = 2;
/// The name of the election, and the prefix of its candidates' keys.
const NAME: &str = "election";
pub const KEY_PREFIX: &str = "election/";
/// The machines' numbers among those that hold leases.
const FIRST_LEASE_HOLDER: usize = 10;
/// The longest TTL of a candidate's lease, in seconds.
const TTL_MAX: u64 = 5;

/// All candidates and observers.
#[derive(Clone, Debug)]
pub struct Election {
    records: Arc<Mutex<Records>>,
    nodes: Vec<NodeId>,
    world: World,
}

#[derive(Debug, Default)]
struct Records {
    holdings: Vec<Holding>,
    observed: Vec<Observed>,
    /// Acknowledged proclamations, by revision.
    proclaimed: BTreeMap<i64, String>,
}

impl Election {
    /// Starts all machines.
    pub fn start(options: &Options, world: &World) -> Self {
        let records: Arc<Mutex<Records>> = Arc::default();
        let candidates = (0..CANDIDATES).map(|number| {
            let (options, told, records) = (options.clone(), world.clone(), Arc::clone(&records));
            machine(
                world,
                &format!("e{number}"),
                [10, 0, 6, number as u8 + 1],
                move || stand(number, options.clone(), told.clone(), Arc::clone(&records)),
            )
        });
        let observers = (0..OBSERVERS).map(|number| {
            let (options, records) = (options.clone(), Arc::clone(&records));
            machine(
                world,
                &format!("o{number}"),
                [10, 0, 7, number as u8 + 1],
                move || observe(number, options.clone(), Arc::clone(&records)),
            )
        });
        Self {
            nodes: candidates.chain(observers).collect(),
            records,
            world: world.clone(),
        }
    }

    /// Switches the machines off.
    pub fn leave(&self) {
        for node in &self.nodes {
            Handle::current().kill(*node);
        }
    }

    /// Checks the leaders and what was observed of them. All machines are off.
    pub fn review(&self) -> Result<(), Violation> {
        let records = lock(&self.records);
        let acts = holders::check("the lead", &records.holdings)?;
        let told = proclaims::check(&records.observed, &records.proclaimed)?;
        self.world.count("proclamations observed", told);
        let note = format!(
            "{} leaders, {acts} proclamations, {told} told",
            records.holdings.len()
        );
        self.world.note("elections done", &note);
        Ok(())
    }
}

fn lock(records: &Mutex<Records>) -> MutexGuard<'_, Records> {
    records.lock().unwrap_or_else(PoisonError::into_inner)
}

fn connect(options: &Options, random: &mut RandomStream) -> Client {
    let only = random.below(options.members as u64) as usize;
    let members = if random.chance(50) {
        0..options.members
    } else {
        only..only + 1
    };
    clients::connect(members, Duration::from_millis(random.between(300, 6_000)))
}

/// One candidate's machine: campaigns repeatedly until the rehearsal ends.
async fn stand(number: usize, options: Options, world: World, records: Arc<Mutex<Records>>) {
    let mut random = RandomStream::of(options.seed, &format!("candidate {number}"));
    for life in 1.. {
        let candidate = Candidate {
            client: connect(&options, &mut random),
            name: format!("e{number}.{life}"),
            lease: lease_id(FIRST_LEASE_HOLDER + number, life),
            records: Arc::clone(&records),
        };
        if let Err(violation) = candidate.stand(&mut random, &world).await {
            return world.violated(violation);
        }
        madsim::time::sleep(Duration::from_millis(random.between(1, 300))).await;
    }
}

/// One candidate, with a lease of its own.
struct Candidate {
    client: Client,
    name: String,
    lease: i64,
    records: Arc<Mutex<Records>>,
}

impl Candidate {
    async fn stand(&self, random: &mut RandomStream, world: &World) -> Result<(), Violation> {
        let request = pb::LeaseGrantRequest {
            id: self.lease,
            ttl: random.between(2, TTL_MAX) as i64,
        };
        if self.client.lease_grant(request).await.is_err() {
            return Ok(());
        }
        let request = CampaignRequest {
            name: NAME.into(),
            lease: self.lease,
            value: self.value(0).into(),
        };
        let Some(leader) = self
            .client
            .campaign(request)
            .await
            .ok()
            .and_then(|answer| answer.leader)
        else {
            world.count("campaigns given up", 1);
            return Ok(());
        };
        if let Some(since) = self.confirm(&leader).await? {
            world.count("campaigns won", 1);
            let mut holding = Holding {
                name: self.name.clone(),
                fence: leader.rev,
                since,
                acts: Vec::new(),
            };
            self.lead(&leader, &mut holding, random).await;
            world.count("proclamations", holding.acts.len() as u64);
            lock(&self.records).holdings.push(holding);
        }
        self.step_down(leader, random, world).await
    }

    /// A revision at which this candidate leads. None if it has already lost the leadership, or if unknown.
    async fn confirm(&self, own: &LeaderKey) -> Result<Option<i64>, Violation> {
        let Ok(LeaderResponse {
            header: Some(header),
            kv: Some(kv),
        }) = self.client.leader(LeaderRequest { name: NAME.into() }).await
        else {
            return Ok(None);
        };
        if kv.create_revision < own.rev {
            return violation(format!(
                "{} was told that it leads with the key of revision {}, and then that {kv:?} does",
                self.name, own.rev
            ));
        }
        Ok((kv.key == own.key).then_some(header.revision))
    }

    async fn lead(&self, leader: &LeaderKey, holding: &mut Holding, random: &mut RandomStream) {
        for count in 1..=random.between(1, 8) {
            if random.chance(60) {
                let _ = self.client.keep_alive_once(self.lease).await;
            }
            if let Some(revision) = self.proclaim(leader, count).await {
                holding.acts.push(revision);
            }
            if random.chance(50) {
                madsim::time::sleep(Duration::from_millis(random.between(1, 700))).await;
            }
        }
    }

    async fn proclaim(&self, leader: &LeaderKey, count: u64) -> Option<i64> {
        let value = self.value(count);
        let request = ProclaimRequest {
            leader: Some(leader.clone()),
            value: value.clone().into(),
        };
        let revision = self.client.proclaim(request).await.ok()?.header?.revision;
        lock(&self.records).proclaimed.insert(revision, value);
        Some(revision)
    }

    async fn step_down(
        &self,
        leader: LeaderKey,
        random: &mut RandomStream,
        world: &World,
    ) -> Result<(), Violation> {
        if random.chance(25) {
            return Ok(()); // It goes with its lease.
        }
        let request = ResignRequest {
            leader: Some(leader.clone()),
        };
        if self.client.resign(request).await.is_ok() {
            world.count("leaders resigned", 1);
            // A leader that has not noticed that it was deposed must not succeed.
            if let Some(revision) = self.proclaim(&leader, 1_000).await {
                return violation(format!(
                    "{} proclaimed something at revision {revision}, after it had resigned",
                    self.name
                ));
            }
        }
        let request = pb::LeaseRevokeRequest { id: self.lease };
        let _ = self.client.lease_revoke(request).await; // it expires otherwise
        Ok(())
    }

    fn value(&self, count: u64) -> String {
        format!("{}.{count}", self.name)
    }
}

/// One observer's machine: one stream after the other until the rehearsal ends.
async fn observe(number: usize, options: Options, records: Arc<Mutex<Records>>) {
    let mut random = RandomStream::of(options.seed, &format!("observer {number}"));
    for life in 0.. {
        let client = connect(&options, &mut random);
        if let Ok(mut stream) = client.observe(NAME.into()).await {
            let place = {
                let mut records = lock(&records);
                records.observed.push(Observed {
                    name: format!("o{number}.{life}"),
                    told: Vec::new(),
                });
                records.observed.len() - 1
            };
            let lasts = Duration::from_millis(random.between(100, 20_000));
            let follow = follow(&mut stream, |told| lock(&records).observed[place].told.push(told));
            // Whichever side ended it: a new one begins.
            let _ = madsim::time::timeout(lasts, follow).await;
        }
        madsim::time::sleep(Duration::from_millis(random.between(1, 300))).await;
    }
}

async fn follow(stream: &mut ObserveStream, mut tell: impl FnMut(Told)) {
    while let Ok(Some(response)) = stream.next().await {
        let kv = response.kv.unwrap_or_default();
        tell(Told {
            revision: response.header.unwrap_or_default().revision,
            create_revision: kv.create_revision,
            mod_revision: kv.mod_revision,
            version: kv.version,
            value: String::from_utf8_lossy(&kv.value).into_owned(),
        });
    }
}
