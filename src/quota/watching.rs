//! Watches a member's space, and proposes raising or disarming the member's alarm.

use crate::env;
use crate::ids::MemberId;
use crate::limits::SPACE_LOOK_INTERVAL;
use crate::proto::etcdserverpb::alarm_request::AlarmAction;
use crate::proto::etcdserverpb::{AlarmRequest, AlarmType};
use crate::proto::log::AlarmCommand;
use crate::proto::log::command::Request;
use crate::quota::Space;
use crate::quota::reserve::Reserves;
use crate::quota::watcher::{Advice, Seen, SpaceWatcher};
use crate::requests::Handle;
use crate::state::{View, Views};
use crate::storage::state::alarms::RaisedAlarm;

#[derive(Debug)]
pub struct SpaceWatchOptions {
    pub own: MemberId,
    pub space: Space,
    pub views: Views,
    pub consensus: Handle,
    pub reserves: Reserves,
}

/// A member's own NOSPACE alarm.
pub fn own_alarm(view: &View, own: MemberId) -> Option<RaisedAlarm> {
    view.alarms.get(own.0, AlarmType::Nospace as i32)
}

/// The command with which a member raises or disarms it.
pub fn command(own: MemberId, action: AlarmAction) -> Request {
    let request = AlarmRequest {
        action: action as i32,
        member_id: own.0,
        alarm: AlarmType::Nospace as i32,
    };
    Request::Alarm(AlarmCommand {
        request: Some(request),
        by_member: true,
    })
}

pub async fn watch(parts: SpaceWatchOptions) {
    let mut watcher = SpaceWatcher::new(parts.space.clone());
    loop {
        env::sleep(SPACE_LOOK_INTERVAL).await;
        let view = parts.views.load();
        let seen = Seen {
            live_bytes: view.applied.usage.live_bytes(),
            disk: parts.reserves.keep(),
            members: view.cluster.members.len() as u64,
            raised: own_alarm(&view, parts.own),
        };
        drop(view);
        let (action, doing) = match watcher.look(&seen, env::now()) {
            Advice::Nothing => continue,
            Advice::Raise => (AlarmAction::Activate, "raising the NOSPACE alarm"),
            Advice::Lower => (AlarmAction::Deactivate, "disarming the NOSPACE alarm"),
        };
        let free_disk_bytes = seen.disk.map(|disk| disk.free_bytes);
        tracing::warn!(live_bytes = seen.live_bytes, free_disk_bytes, "{doing}");
        if let Err(error) = parts.consensus.propose_own(command(parts.own, action)).await {
            tracing::warn!(%error, "failed to raise or disarm the NOSPACE alarm");
        }
    }
}
