//! Space: an operator on a machine of its own that watches alarms, frees space when there is none, raises the alarm manually to
//! check that nothing is written meanwhile, and takes space from disks. In the end the director does the operator's work: it
//! frees space, and waits until the members disarm their alarms automatically.

use super::{carry_out, put};
use crate::checkers::{Violation, violation};
use crate::clients;
use crate::cluster::Cluster;
use crate::disk;
use crate::history::{Input, Outcome};
use crate::options::Options;
use crate::random::RandomStream;
use crate::rehearsal::DIRECTOR;
use crate::world::{World, elapsed};
use callboard::client::{Client, Error};
use callboard::proto::etcdserverpb::alarm_request::AlarmAction;
use callboard::proto::etcdserverpb::request_op::Request as Operation;
use callboard::proto::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmType, LeaseGrantRequest, PutRequest, RequestOp, StatusRequest, TxnRequest,
};
use madsim::runtime::Handle;
use madsim::task::NodeId;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

/// The client number of the operator's requests in the history.
const OPERATOR: usize = 97;
/// Not a member's id, so no member disarms an alarm in its name. Each manual alarm has the next number, so that a late request to
/// disarm the previous one does not disarm it.
const NOBODY: u64 = 0;
/// The key that transactions try to write under an alarm.
pub const FORBIDDEN_KEY: &str = "forbidden";
/// Members with space disarm their alarms within this time.
const SETTLE_MAX: Duration = Duration::from_secs(60);

/// The operator.
#[derive(Clone, Copy, Debug)]
pub struct Operator(Option<NodeId>);

impl Operator {
    /// Starts the operator, in rehearsals that have one.
    pub fn start(options: &Options, world: &World, cluster: &Cluster) -> Self {
        if !options.space.can_run_out() {
            return Self(None);
        }
        let address: IpAddr = Ipv4Addr::new(10, 0, 8, 1).into();
        let disks: Vec<PathBuf> = cluster
            .members
            .iter()
            .map(|member| member.directory.clone())
            .collect();
        let (options, told) = (options.clone(), world.clone());
        let node = Handle::current()
            .create_node()
            .name("steward")
            .ip(address)
            .init(move || live(options.clone(), told.clone(), disks.clone()))
            .build();
        world.name(node.id(), "steward");
        Self(Some(node.id()))
    }

    /// Switches the machine off. Disks get their space back.
    pub fn leave(&self) {
        if let Some(node) = self.0 {
            Handle::current().kill(node);
        }
        disk::relieve_all();
    }
}

async fn live(options: Options, world: World, disks: Vec<PathBuf>) {
    let mut random = RandomStream::of(options.seed, "steward");
    let client = clients::connect(0..options.members, Duration::from_secs(3));
    for round in NOBODY.. {
        madsim::time::sleep(Duration::from_millis(random.between(100, 3_000))).await;
        if options.space.shortages && random.chance(20) {
            let disk = &disks[random.below(disks.len() as u64) as usize];
            disk::run_short(disk);
            world.count("disks short of space", 1);
            madsim::time::sleep(Duration::from_millis(random.between(500, 10_000))).await;
            disk::relieve_all();
        }
        if options.space.by_hand
            && random.chance(20)
            && let Err(violation) = forbid(&client, &world, &mut random, round).await
        {
            return world.violated(violation);
        }
        let alarms = list(&client).await.unwrap_or_default();
        if !alarms.is_empty() {
            world.count("alarms seen", alarms.len() as u64);
            madsim::time::sleep(Duration::from_millis(random.between(0, 4_000))).await;
            make_room(&client, &world, OPERATOR).await;
        }
    }
}

/// Raises the alarm manually: nothing may be written until it is disarmed manually.
async fn forbid(
    client: &Client,
    world: &World,
    random: &mut RandomStream,
    name: u64,
) -> Result<(), Violation> {
    let reason = world.no_space(|reasons| reasons.begin(elapsed()));
    if change(client, AlarmAction::Activate, name).await.is_ok() {
        world.count("alarms raised by hand", 1);
        for _ in 0..random.between(1, 10) {
            write_under_alarm(client, world, random).await?;
            madsim::time::sleep(Duration::from_millis(random.between(10, 1_000))).await;
        }
    }
    // An alarm that may have been raised is disarmed too.
    while change(client, AlarmAction::Deactivate, name).await.is_err() {
        madsim::time::sleep(Duration::from_millis(100)).await;
    }
    world.no_space(|reasons| reasons.end(reason, elapsed()));
    Ok(())
}

/// Every request that stores something must be refused.
async fn write_under_alarm(
    client: &Client,
    world: &World,
    random: &mut RandomStream,
) -> Result<(), Violation> {
    let (what, accepted) = match random.below(5) {
        0 => {
            let (_, outcome) = carry_out(world, OPERATOR, client, &put::sample(0)).await;
            ("a put", matches!(outcome, Outcome::Answered(_)))
        }
        1 => {
            let swap = Input::Swap {
                expected: vec![(0, None)],
            };
            let (_, outcome) = carry_out(world, OPERATOR, client, &swap).await;
            ("a transaction", matches!(outcome, Outcome::Answered(_)))
        }
        2 => {
            // The put is not in the branch that is executed.
            let request = TxnRequest {
                failure: vec![put_operation()],
                ..TxnRequest::default()
            };
            ("a transaction", client.txn(request).await.is_ok())
        }
        3 => {
            let nested = TxnRequest {
                success: vec![put_operation()],
                ..TxnRequest::default()
            };
            let request = TxnRequest {
                success: vec![RequestOp {
                    request: Some(Operation::RequestTxn(nested)),
                }],
                ..TxnRequest::default()
            };
            ("a nested transaction", client.txn(request).await.is_ok())
        }
        _ => {
            let request = LeaseGrantRequest { id: 0, ttl: 2 };
            ("a lease", client.lease_grant(request).await.is_ok())
        }
    };
    world.count("writes tried under an alarm", 1);
    if accepted {
        return violation(format!(
            "{what} was accepted under an alarm that is raised by hand"
        ));
    }
    Ok(())
}

fn put_operation() -> RequestOp {
    let put = PutRequest {
        key: FORBIDDEN_KEY.into(),
        value: "0".into(),
        ..PutRequest::default()
    };
    RequestOp {
        request: Some(Operation::RequestPut(put)),
    }
}

async fn change(client: &Client, action: AlarmAction, member_id: u64) -> Result<Vec<AlarmMember>, Error> {
    let alarm = match action {
        AlarmAction::Get => AlarmType::None,
        _ => AlarmType::Nospace,
    };
    let request = AlarmRequest {
        action: action as i32,
        member_id,
        alarm: alarm as i32,
    };
    client.alarm(request).await.map(|response| response.alarms)
}

async fn list(client: &Client) -> Result<Vec<AlarmMember>, Error> {
    change(client, AlarmAction::Get, NOBODY).await
}

/// Compacts everything.
async fn make_room(client: &Client, world: &World, who: usize) {
    let Ok(status) = client.status(StatusRequest::default()).await else {
        return;
    };
    let revision = status.header.unwrap_or_default().revision;
    let input = Input::Compact { revision };
    carry_out(world, who, client, &input).await;
}

/// An operator's work after the faults: frees space, disarms alarms that were raised manually or by absent members, and waits
/// until these members have disarmed theirs.
pub async fn settle(cluster: &Cluster, world: &World, members: &[usize]) -> Result<(), Violation> {
    let deadline = elapsed() + SETTLE_MAX;
    let client = clients::connect(members.iter().copied(), Duration::from_secs(5));
    let own: Vec<u64> = members
        .iter()
        .filter_map(|number| cluster.member_id(*number))
        .collect();
    let mut freed_at = None;
    loop {
        let alarms = list(&client).await;
        if let Ok(alarms) = &alarms {
            for alarm in alarms.iter().filter(|alarm| !own.contains(&alarm.member_id)) {
                // Retried if it fails.
                let _ = change(&client, AlarmAction::Deactivate, alarm.member_id).await;
            }
            if freed_at.is_none() {
                make_room(&client, world, DIRECTOR).await;
                freed_at = Some(elapsed());
            } else if alarms.is_empty() {
                return Ok(());
            }
        }
        if elapsed() > deadline {
            return violation(format!(
                "healthy members have room, and do not lower their alarms within {SETTLE_MAX:?}: {alarms:?}"
            ));
        }
        madsim::time::sleep(Duration::from_millis(200)).await;
    }
}
