//! Raising and disarming of alarms in the log, and what is refused while an alarm is up.
//!
//! Mirrors etcd's server/etcdserver/api/v3alarm and the appliers that it puts in front of all others
//! (server/etcdserver/apply/{capped,corrupt}.go). What is refused follows from the log alone: a member whose disk is full
//! raises an alarm, and from that entry on all members refuse the same. Reads are answered at any time.

use super::cost::cost;
use crate::mutants::{self, Mutant};
use crate::proto::etcdserverpb::alarm_request::AlarmAction;
use crate::proto::etcdserverpb::{AlarmResponse, AlarmType};
use crate::proto::log::command::Request;
use crate::proto::log::{AlarmCommand, Member};
use crate::state::ApplyError;
use crate::state::components::State;
use crate::state::meta_record::MetaRecord;
use crate::storage::state::alarms::{self, Alarms, RaisedAlarm, SharedAlarms};
use crate::storage::state::error::StateError;
use crate::storage::state::meta::{Applied, DigestChange};
use crate::storage::state::{StateBatch, StateDatabase};

/// The alarms that are raised.
#[derive(Debug)]
pub(crate) struct RaisedAlarms(MetaRecord<Alarms>);

impl RaisedAlarms {
    pub(crate) fn load(database: &StateDatabase) -> Result<Self, StateError> {
        MetaRecord::load(database, alarms::ALARMS_KEY).map(Self)
    }

    pub(crate) fn write(&mut self, batch: &mut StateBatch<'_>) {
        self.0.write(batch);
    }

    /// A new `Arc` after each change.
    pub(crate) fn all(&self) -> &SharedAlarms {
        self.0.get()
    }

    fn set(&mut self, applied: &mut Applied, alarms: Alarms) {
        if alarms != **self.all() {
            self.0.set(applied, DigestChange::Alarms, alarms);
        }
    }
}

/// Whether a command may be carried out under the current alarms.
pub(super) fn admit(state: &State, request: &Request) -> Result<(), ApplyError> {
    let alarms = state.alarms.all();
    if mutants::active(Mutant::RefusedByOwnDisk) && state.database.disk_bytes() > 20_000 && cost(request) > 0
    {
        return Err(ApplyError::NoSpace);
    }
    let writes = matches!(
        request,
        Request::Put(_)
            | Request::DeleteRange(_)
            | Request::Txn(_)
            | Request::Compaction(_)
            | Request::LeaseGrant(_)
            | Request::LeaseRevoke(_)
            | Request::LeaseExpiry(_)
    );
    if writes && alarms.any(AlarmType::Corrupt) {
        return Err(ApplyError::Corrupt);
    }
    if mutants::active(Mutant::TxnUnderNospace) && matches!(request, Request::Txn(_)) {
        return Ok(());
    }
    if alarms.any(AlarmType::Nospace) && cost(request) > 0 {
        return Err(ApplyError::NoSpace);
    }
    Ok(())
}

/// Raises, disarms or lists alarms. The answer holds those that the request was about.
pub(super) fn change(state: &mut State, command: AlarmCommand) -> AlarmResponse {
    let request = command.request.unwrap_or_default();
    let (member_id, alarm) = (request.member_id, request.alarm);
    let mut alarms = (**state.alarms.all()).clone();
    let answer = match AlarmAction::try_from(request.action) {
        Ok(AlarmAction::Get) => list(&alarms, alarm),
        Ok(AlarmAction::Activate) if alarm != AlarmType::None as i32 => {
            let raised = RaisedAlarm {
                member_id,
                alarm,
                by_member: command.by_member,
            };
            alarms.raise(raised);
            vec![raised]
        }
        Ok(AlarmAction::Deactivate) => {
            let lowered = alarms
                .get(member_id, alarm)
                .filter(|raised| raised.by_member || !command.by_member);
            if lowered.is_some() {
                alarms.lower(member_id, alarm);
            }
            lowered.into_iter().collect()
        }
        // etcd answers an alarm of type NONE with an empty list. At an unknown action it crashes.
        _ => vec![],
    };
    state.alarms.set(&mut state.applied, alarms);
    AlarmResponse {
        header: Some(state.header()),
        alarms: answer.into_iter().map(RaisedAlarm::to_member).collect(),
    }
}

/// Disarms what removed members have raised: they can no longer do it.
pub(super) fn forget_all_but(state: &mut State, members: &[Member]) {
    let mut alarms = (**state.alarms.all()).clone();
    alarms.retain(|alarm| !alarm.by_member || members.iter().any(|member| member.id == alarm.member_id));
    state.alarms.set(&mut state.applied, alarms);
}

/// The alarms of one type; all of them for `NONE`.
fn list(alarms: &Alarms, alarm: i32) -> Vec<RaisedAlarm> {
    let wanted = |raised: &RaisedAlarm| alarm == AlarmType::None as i32 || raised.alarm == alarm;
    alarms.iter().filter(wanted).collect()
}
