//! Locks: contenders on their own machines that wait for one lock through the service, write under their fence while they hold
//! it, and then release it, revoke their lease or let it expire. Some give up waiting.

use super::{lease_id, machine};
use crate::checkers::holders::{self, Holding};
use crate::checkers::{Violation, violation};
use crate::clients;
use crate::cluster::Cluster;
use crate::options::Options;
use crate::random::RandomStream;
use crate::world::{World, elapsed};
use callboard::client::{Client, Error};
use callboard::proto::etcdserverpb as pb;
use callboard::proto::v3lockpb::{LockRequest, UnlockRequest};
use madsim::runtime::Handle;
use madsim::task::NodeId;
use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Machines that contend: one holds the lock, one waits and may give up, others wait behind that.
const MACHINES: usize = 4;
/// The name of the lock, and the prefix of its contenders' keys.
const NAME: &str = "lock";
pub const KEY_PREFIX: &str = "lock/";
/// The key that is written under the lock.
pub const GUARDED_KEY: &str = "guarded";
/// The longest TTL of a contender's lease, in seconds.
const TTL_MAX: u64 = 5;
/// On healthy members the lock is available within this time, once all contenders are off.
const HANDED_ON_MAX: Duration = Duration::from_secs(30);

/// All contenders.
#[derive(Clone, Debug)]
pub struct Contenders {
    holdings: Arc<Mutex<Vec<Holding>>>,
    nodes: Vec<NodeId>,
    world: World,
}

impl Contenders {
    /// Starts all machines.
    pub fn start(options: &Options, world: &World) -> Self {
        let holdings: Arc<Mutex<Vec<Holding>>> = Arc::default();
        let nodes = (0..MACHINES).map(|number| {
            let (options, told, holdings) = (options.clone(), world.clone(), Arc::clone(&holdings));
            machine(
                world,
                &format!("h{number}"),
                [10, 0, 5, number as u8 + 1],
                move || live(number, options.clone(), told.clone(), Arc::clone(&holdings)),
            )
        });
        Self {
            nodes: nodes.collect(),
            holdings,
            world: world.clone(),
        }
    }

    /// Switches the machines off. Their locks are released with their leases.
    pub fn leave(&self) {
        for node in &self.nodes {
            Handle::current().kill(*node);
        }
    }

    /// Takes the lock once more, and checks its holders. The members are healthy, the contenders are off.
    pub async fn review(&self, cluster: &Cluster) -> Result<(), Violation> {
        let client = clients::connect(0..cluster.members.len(), HANDED_ON_MAX);
        let deadline = elapsed() + Duration::from_secs(TTL_MAX) + HANDED_ON_MAX;
        let mut attempt = 0;
        loop {
            attempt += 1;
            let contender = Contender {
                client: client.clone(),
                name: "director".into(),
                lease: lease_id(MACHINES, attempt),
            };
            let grant = pb::LeaseGrantRequest {
                id: contender.lease,
                ttl: 60,
            };
            let granted = client.lease_grant(grant).await;
            if granted.is_ok() {
                let held = contender.take().await;
                contender.revoke().await;
                if let Some(held) = held {
                    lock(&self.holdings).push(held);
                    break;
                }
            }
            if elapsed() > deadline {
                let granted = granted.map(|_| "granted");
                let waiting = waiting(&client).await;
                return violation(format!(
                    "healthy members do not hand the lock on: the last lease is {granted:?}, waiting are {waiting:?}"
                ));
            }
        }
        let holdings = lock(&self.holdings).clone();
        let acts = holders::check("the lock", &holdings)?;
        let note = format!("held {} times, {acts} fenced writes", holdings.len());
        self.world.note("locks done", &note);
        Ok(())
    }
}

/// The keys of all waiters for the lock and of its holder, with their leases and the remaining TTL in seconds.
async fn waiting(client: &Client) -> Result<Vec<(String, i64, i64)>, Error> {
    let request = pb::RangeRequest {
        key: format!("{NAME}/").into(),
        range_end: format!("{NAME}0").into(),
        ..pb::RangeRequest::default()
    };
    let mut found = Vec::new();
    for kv in client.range(request).await?.kvs {
        let request = pb::LeaseTimeToLiveRequest {
            id: kv.lease,
            keys: false,
        };
        let left_s = client.lease_time_to_live(request).await?.ttl;
        found.push((String::from_utf8_lossy(&kv.key).into_owned(), kv.lease, left_s));
    }
    Ok(found)
}

fn lock(holdings: &Mutex<Vec<Holding>>) -> MutexGuard<'_, Vec<Holding>> {
    holdings.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One machine: contends for the lock repeatedly until the rehearsal ends.
async fn live(number: usize, options: Options, world: World, holdings: Arc<Mutex<Vec<Holding>>>) {
    let mut random = RandomStream::of(options.seed, &format!("contender {number}"));
    let members = options.members as u64;
    for life in 1.. {
        let only = random.below(members) as usize;
        let members = if random.chance(50) {
            0..options.members
        } else {
            only..only + 1
        };
        let contender = Contender {
            client: clients::connect(members, Duration::from_millis(random.between(300, 6_000))),
            name: format!("h{number}.{life}"),
            lease: lease_id(number, life),
        };
        let request = pb::LeaseGrantRequest {
            id: contender.lease,
            ttl: random.between(2, TTL_MAX) as i64,
        };
        if contender.client.lease_grant(request).await.is_ok() {
            if random.chance(20) {
                if let Err(violation) = contender.wait_without_lease(&mut random, &world).await {
                    return world.violated(violation);
                }
                continue;
            }
            if let Some(holding) = contender.take().await {
                world.count("locks held", 1);
                contender.hold(holding, &mut random, &world, &holdings).await;
            } else {
                world.count("locks given up", 1);
            }
            contender.let_go(&mut random).await;
        }
        madsim::time::sleep(Duration::from_millis(random.between(1, 300))).await;
    }
}

/// One contender, with a lease of its own.
struct Contender {
    client: Client,
    name: String,
    lease: i64,
}

impl Contender {
    /// Waits for the lock, as long as the client does. None if it did not get the lock, or lost it immediately.
    async fn take(&self) -> Option<Holding> {
        let request = LockRequest {
            name: NAME.into(),
            lease: self.lease,
        };
        let answer = self.client.lock(request).await.ok()?;
        let request = pb::RangeRequest {
            key: answer.key,
            ..pb::RangeRequest::default()
        };
        let key = self.client.range(request).await.ok()?.kvs.pop()?;
        Some(Holding {
            name: self.name.clone(),
            fence: key.create_revision,
            since: answer.header.unwrap_or_default().revision,
            acts: Vec::new(),
        })
    }

    /// Waits for the lock while its lease is revoked: a confirmation of the lock after that is wrong.
    async fn wait_without_lease(&self, random: &mut RandomStream, world: &World) -> Result<(), Violation> {
        let (client, id) = (self.client.clone(), self.lease);
        let delay = Duration::from_millis(random.between(0, 1_500));
        let revoked = madsim::task::spawn_local(async move {
            madsim::time::sleep(delay).await;
            client.lease_revoke(pb::LeaseRevokeRequest { id }).await
        });
        let request = LockRequest {
            name: NAME.into(),
            lease: self.lease,
        };
        let answer = self.client.lock(request).await;
        let revision = |header: Option<pb::ResponseHeader>| header.unwrap_or_default().revision;
        let revoked_at = match revoked.await {
            Ok(Ok(revoked)) => revision(revoked.header),
            _ => return Ok(()), // nobody knows whether
        };
        world.count("leases of waiting contenders revoked", 1);
        match answer {
            Ok(answer) if revision(answer.header) >= revoked_at => violation(format!(
                "{} was told at revision {} that it has the lock, and its lease was revoked at {revoked_at}",
                self.name,
                revision(answer.header)
            )),
            Ok(_) => Ok(()),
            Err(_) => {
                world.count("locks refused without a lease", 1);
                Ok(())
            }
        }
    }

    async fn hold(
        &self,
        mut holding: Holding,
        random: &mut RandomStream,
        world: &World,
        holdings: &Mutex<Vec<Holding>>,
    ) {
        for _ in 0..random.between(1, 6) {
            if random.chance(70) {
                let _ = self.client.keep_alive_once(self.lease).await;
            }
            match self.write(holding.fence).await {
                Some(Ok(revision)) => {
                    holding.acts.push(revision);
                    world.count("fenced writes", 1);
                }
                // The lock is lost.
                Some(Err(())) => {
                    world.count("fenced writes refused", 1);
                    break;
                }
                None => {}
            }
            madsim::time::sleep(Duration::from_millis(random.between(1, 700))).await;
        }
        lock(holdings).push(holding);
    }

    /// Writes if the fence still holds: returns the revision, or an error if it does not hold. None if unknown.
    async fn write(&self, fence: i64) -> Option<Result<i64, ()>> {
        let put = pb::PutRequest {
            key: GUARDED_KEY.into(),
            value: fence.to_string().into(),
            ..pb::PutRequest::default()
        };
        let request = pb::TxnRequest {
            compare: vec![pb::Compare {
                result: CompareResult::Equal as i32,
                target: CompareTarget::Create as i32,
                key: self.key().into(),
                target_union: Some(TargetUnion::CreateRevision(fence)),
                ..pb::Compare::default()
            }],
            success: vec![pb::RequestOp {
                request: Some(pb::request_op::Request::RequestPut(put)),
            }],
            failure: vec![],
        };
        let answer = self.client.txn(request).await.ok()?;
        let revision = answer.header.unwrap_or_default().revision;
        Some(if answer.succeeded { Ok(revision) } else { Err(()) })
    }

    async fn let_go(&self, random: &mut RandomStream) {
        match random.below(4) {
            0 | 1 => {
                let key = self.key().into();
                let _ = self.client.unlock(UnlockRequest { key }).await;
            }
            2 => self.revoke().await,
            _ => {}
        }
    }

    /// Revokes the lease. If that fails, it expires.
    async fn revoke(&self) {
        let request = pb::LeaseRevokeRequest { id: self.lease };
        let _ = self.client.lease_revoke(request).await;
    }

    fn key(&self) -> String {
        format!("{KEY_PREFIX}{:x}", self.lease)
    }
}
