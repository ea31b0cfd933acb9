//! An operator's work after members have found their own disks damaged: once the disk is repaired, the alarm CORRUPT is disarmed,
//! and clients can write again.

use crate::clients;
use crate::cluster::Cluster;
use crate::world::elapsed;
use callboard::proto::etcdserverpb::alarm_request::AlarmAction;
use callboard::proto::etcdserverpb::{AlarmRequest, AlarmType};
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::time::Duration;

/// The members for which the alarm is raised, according to these members.
fn raised(cluster: &Cluster, members: &[usize]) -> BTreeSet<u64> {
    let views = members.iter().filter_map(|number| cluster.views(*number));
    let corrupt = views.flat_map(|views| views.load().alarms.of(AlarmType::Corrupt).collect::<Vec<_>>());
    corrupt.map(|raised| raised.member_id).collect()
}

/// Disarms alarms repeatedly, for ever: a member's proposal to raise one may have waited for a leader, or may be in flight.
pub async fn keep_disarmed(cluster: &Cluster, members: &[usize]) -> Infallible {
    const PAUSE: Duration = Duration::from_millis(200);
    if !cluster
        .members
        .iter()
        .any(|member| cluster.has_rotted(&member.name))
    {
        std::future::pending::<Infallible>().await;
    }
    loop {
        disarm(cluster, members, PAUSE).await;
        madsim::time::sleep(PAUSE).await;
    }
}

/// Disarms the alarm until none of these members sees it any more, for a bounded time; whether it is disarmed.
pub async fn disarm(cluster: &Cluster, members: &[usize], within: Duration) -> bool {
    let deadline = elapsed() + within;
    let mut corrupt = raised(cluster, members);
    if corrupt.is_empty() {
        return true;
    }
    cluster.world.count("alarms for bit rot", corrupt.len() as u64);
    let client = clients::connect(members.iter().copied(), Duration::from_secs(3));
    while !corrupt.is_empty() {
        if elapsed() > deadline {
            return false;
        }
        for member_id in corrupt {
            let request = AlarmRequest {
                action: AlarmAction::Deactivate as i32,
                member_id,
                alarm: AlarmType::Corrupt as i32,
            };
            // Retried if it fails.
            let _ = client.alarm(request).await;
        }
        madsim::time::sleep(Duration::from_millis(200)).await;
        corrupt = raised(cluster, members);
    }
    true
}
