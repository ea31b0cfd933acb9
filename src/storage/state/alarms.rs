//! The raised alarms, as a record of `meta`: see `state/meta` for its form. Part of snapshots, as all of `meta`.
//!
//! Mirrors etcd's bucket `alarm` (server/storage/schema/alarm.go). In addition it records the origin of each alarm: a member may
//! automatically disarm only what it has raised automatically.

use std::sync::Arc;

use prost::Message;

use crate::proto::etcdserverpb::{AlarmMember, AlarmType};

pub const ALARMS_KEY: &[u8] = b"alarms";

/// One alarm of one member.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct RaisedAlarm {
    /// An operator who raises an alarm manually may name any number, 0 too.
    #[prost(fixed64, tag = "1")]
    pub member_id: u64,
    /// A number that etcd does not know is still an alarm.
    #[prost(int32, tag = "2")]
    pub alarm: i32,
    /// The member itself raised it, and disarms it when its cause is gone.
    #[prost(bool, tag = "3")]
    pub by_member: bool,
}

impl RaisedAlarm {
    /// As clients see it.
    pub fn to_member(self) -> AlarmMember {
        AlarmMember {
            member_id: self.member_id,
            alarm: self.alarm,
        }
    }

    /// etcd's name for the alarm, or its number if there is none.
    pub fn name(self) -> String {
        AlarmType::try_from(self.alarm)
            .map_or_else(|_| self.alarm.to_string(), |kind| kind.as_str_name().to_owned())
    }
}

/// All alarms, sorted by member and kind.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Alarms {
    #[prost(message, repeated, tag = "1")]
    raised: Vec<RaisedAlarm>,
}

/// Shared by all views until an alarm is raised or disarmed.
pub type SharedAlarms = Arc<Alarms>;

impl Alarms {
    pub fn iter(&self) -> impl Iterator<Item = RaisedAlarm> + '_ {
        self.raised.iter().copied()
    }

    /// The alarms of one kind, of all members.
    pub fn of(&self, kind: AlarmType) -> impl Iterator<Item = RaisedAlarm> + '_ {
        self.iter().filter(move |raised| raised.alarm == kind as i32)
    }

    /// Whether any member has raised an alarm of this kind.
    pub fn any(&self, kind: AlarmType) -> bool {
        self.of(kind).next().is_some()
    }

    pub fn get(&self, member_id: u64, alarm: i32) -> Option<RaisedAlarm> {
        self.place(member_id, alarm).ok().map(|place| self.raised[place])
    }

    /// Raises an alarm. A manual alarm stays manual even if the member raises it too.
    pub fn raise(&mut self, alarm: RaisedAlarm) {
        match self.place(alarm.member_id, alarm.alarm) {
            Ok(place) => self.raised[place].by_member &= alarm.by_member,
            Err(place) => self.raised.insert(place, alarm),
        }
    }

    /// Disarms an alarm; true if it was raised.
    pub fn lower(&mut self, member_id: u64, alarm: i32) -> bool {
        let place = self.place(member_id, alarm);
        if let Ok(place) = place {
            self.raised.remove(place);
        }
        place.is_ok()
    }

    pub fn retain(&mut self, keep: impl FnMut(&RaisedAlarm) -> bool) {
        self.raised.retain(keep);
    }

    fn place(&self, member_id: u64, alarm: i32) -> Result<usize, usize> {
        self.raised
            .binary_search_by_key(&(member_id, alarm), |raised| (raised.member_id, raised.alarm))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_is_raised_once_and_by_hand_counts_for_more() {
        let alarm = |member_id, alarm, by_member| RaisedAlarm {
            member_id,
            alarm,
            by_member,
        };
        let mut alarms = Alarms::default();
        for raised in [
            alarm(7, 1, true),
            alarm(5, 2, false),
            alarm(5, 1, true),
            alarm(7, 1, false),
            alarm(7, 1, true),
            alarm(5, 1, true),
        ] {
            alarms.raise(raised);
        }
        let all: Vec<_> = alarms.iter().collect();
        assert_eq!(all, [alarm(5, 1, true), alarm(5, 2, false), alarm(7, 1, false)]);
        assert!(alarms.any(AlarmType::Corrupt) && !alarms.any(AlarmType::None));
        assert!(alarms.lower(5, 2) && !alarms.lower(5, 2) && !alarms.any(AlarmType::Corrupt));
        assert_eq!(
            (alarms.get(5, 1), alarms.get(5, 2)),
            (Some(alarm(5, 1, true)), None)
        );
        assert_eq!(
            (alarm(0, 9, false).name(), alarm(0, 1, false).name()),
            ("9".into(), "NOSPACE".into())
        );
    }
}
