//! Leases: holders on their own machines that take a lease, attach a key to it, keep it alive for a while, and then revoke it or
//! let it expire, checking their key all the time.

use crate::checkers::leases::Tenancy;
use crate::checkers::{Violation, violation};
use crate::clients;
use crate::cluster::Cluster;
use crate::options::Options;
use crate::random::RandomStream;
use crate::world::{World, elapsed};
use callboard::client::Client;
use callboard::proto::etcdserverpb as pb;
use madsim::runtime::Handle;
use madsim::task::NodeId;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// Machines that hold leases, one lease after the other.
const MACHINES: usize = 2;
/// The prefix of the keys of leases: other workloads do not use it.
pub const KEY_PREFIX: &str = "lease";
/// The longest wait of a holder for the expiry of a lease while there are faults.
const PATIENCE: Duration = Duration::from_secs(20);
/// The longest TTL of a lease, in seconds.
const TTL_MAX: u64 = 5;
/// On healthy members all leases have expired within this time.
const SETTLE_MAX: Duration = Duration::from_secs(30);

/// All lease holders.
#[derive(Clone, Debug)]
pub struct LeaseHolders {
    nodes: Vec<NodeId>,
    world: World,
}

impl LeaseHolders {
    /// Starts all machines.
    pub fn start(options: &Options, world: &World) -> Self {
        let mut nodes = Vec::new();
        for number in 0..MACHINES {
            let name = format!("t{number}");
            let address: IpAddr = Ipv4Addr::new(10, 0, 4, number as u8 + 1).into();
            let (options, told) = (options.clone(), world.clone());
            let node = Handle::current()
                .create_node()
                .name(&name)
                .ip(address)
                .init(move || live(number, options.clone(), told.clone()))
                .build();
            world.name(node.id(), &name);
            nodes.push(node.id());
        }
        Self {
            nodes,
            world: world.clone(),
        }
    }

    /// Switches the machines off. Their leases expire.
    pub fn leave(&self) {
        for node in &self.nodes {
            Handle::current().kill(*node);
        }
    }

    /// Waits until no member has a lease or a leased key any more. The members are healthy, the lease holders are off.
    pub async fn review(&self, cluster: &Cluster) -> Result<(), Violation> {
        let deadline = elapsed() + Duration::from_secs(TTL_MAX) + SETTLE_MAX;
        for number in 0..cluster.members.len() {
            while let Some(left) = left_on(cluster, number)? {
                if elapsed() > deadline {
                    return violation(format!(
                        "{left} is still on {} so long after its time",
                        cluster.members[number].name
                    ));
                }
                madsim::time::sleep(Duration::from_millis(100)).await;
            }
        }
        self.world.note("leases done", "");
        Ok(())
    }
}

/// A lease, or a leased key, that a member has.
fn left_on(cluster: &Cluster, number: usize) -> Result<Option<String>, Violation> {
    let Some(views) = cluster.views(number) else {
        return violation("a member does not run at the end");
    };
    let view = views.load();
    if let Some(lease) = view.leases().next() {
        let (id, _) = lease.map_err(|error| Violation(error.to_string()))?;
        return Ok(Some(format!("lease {id:x}")));
    }
    let records = crate::observer::records_at(&view, 0).map_err(|error| Violation(error.to_string()))?;
    let mut keys = records.iter().map(|record| &record.key);
    let orphan = keys.find(|key| {
        super::LEASED
            .iter()
            .any(|prefix| key.starts_with(prefix.as_bytes()))
    });
    Ok(orphan.map(|key| format!("{} without its lease", String::from_utf8_lossy(key))))
}

/// One machine: holds one lease after the other until the rehearsal ends.
async fn live(number: usize, options: Options, world: World) {
    let mut random = RandomStream::of(options.seed, &format!("tenant {number}"));
    let timeout = Duration::from_millis(random.between(500, 4_000));
    let client = clients::connect(0..options.members, timeout);
    for life in 1.. {
        let holder = Holder {
            client: client.clone(),
            id: ((number as i64 + 1) << 32) + life,
            world: world.clone(),
        };
        if let Err(violation) = holder.hold(&mut random).await {
            return world.violated(violation);
        }
        madsim::time::sleep(Duration::from_millis(random.between(1, 500))).await;
    }
}

/// One lease and its holder.
struct Holder {
    client: Client,
    id: i64,
    world: World,
}

impl Holder {
    async fn hold(&self, random: &mut RandomStream) -> Result<(), Violation> {
        let ttl = random.between(2, TTL_MAX);
        let asked_at = elapsed();
        let request = pb::LeaseGrantRequest {
            id: self.id,
            ttl: ttl as i64,
        };
        // A lease that may have been granted expires.
        if self.client.lease_grant(request).await.is_err() {
            return Ok(());
        }
        let mut tenancy = Tenancy {
            name: format!("{:x}", self.id),
            ttl: Duration::from_secs(ttl),
            asked_at,
            revoked: false,
        };
        self.world.count("leases granted", 1);
        if !self.attach(&tenancy).await? {
            return Ok(());
        }
        for _ in 0..random.below(12) {
            madsim::time::sleep(Duration::from_millis(random.between(50, ttl * 450))).await;
            let asked_at = elapsed();
            match self.client.keep_alive_once(self.id).await {
                Ok(0) => return self.is_over(&tenancy).await,
                Ok(_) => {
                    tenancy.asked_at = asked_at;
                    self.world.count("leases kept alive", 1);
                }
                Err(_) => {}
            }
            if self.has_key().await == Some(false) {
                return self.is_over(&tenancy).await;
            }
        }
        self.let_go(tenancy, random).await
    }

    /// Whether the key was certainly attached.
    async fn attach(&self, tenancy: &Tenancy) -> Result<bool, Violation> {
        let request = pb::PutRequest {
            key: self.key().into(),
            value: "0".into(),
            lease: self.id,
            ..pb::PutRequest::default()
        };
        match self.client.put(request).await {
            Ok(_) => Ok(true),
            Err(error) if error.to_string().contains("requested lease not found") => {
                tenancy.gone(elapsed())?;
                Ok(false)
            }
            Err(_) => Ok(false),
        }
    }

    async fn let_go(&self, mut tenancy: Tenancy, random: &mut RandomStream) -> Result<(), Violation> {
        if random.chance(30) {
            tenancy.revoked = true;
            let revoked = self
                .client
                .lease_revoke(pb::LeaseRevokeRequest { id: self.id })
                .await;
            if revoked.is_ok() {
                return self.is_over(&tenancy).await;
            }
        }
        let until = elapsed() + PATIENCE;
        while elapsed() < until {
            if self.has_key().await == Some(false) {
                self.world.count("leases run out", 1);
                return self.is_over(&tenancy).await;
            }
            madsim::time::sleep(Duration::from_millis(random.between(10, 300))).await;
        }
        Ok(())
    }

    /// The lease or its key was seen to be gone: it must have expired, and both must be gone.
    async fn is_over(&self, tenancy: &Tenancy) -> Result<(), Violation> {
        tenancy.gone(elapsed())?;
        if self.has_key().await == Some(true) {
            return violation(format!("lease {} is gone, its key is not", tenancy.name));
        }
        let request = pb::LeaseTimeToLiveRequest {
            id: self.id,
            keys: true,
        };
        match self.client.lease_time_to_live(request).await {
            Ok(left) if left.ttl != -1 => violation(format!(
                "lease {} is gone, and is said to live for {} seconds with {} keys",
                tenancy.name,
                left.ttl,
                left.keys.len()
            )),
            _ => Ok(()),
        }
    }

    /// None if unknown.
    async fn has_key(&self) -> Option<bool> {
        let request = pb::RangeRequest {
            key: self.key().into(),
            ..pb::RangeRequest::default()
        };
        let found = self.client.range(request).await.ok()?;
        Some(!found.kvs.is_empty())
    }

    fn key(&self) -> String {
        format!("{KEY_PREFIX}{:x}", self.id)
    }
}
