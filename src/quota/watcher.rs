//! Decides when a member raises the NOSPACE alarm and when it disarms it. Pure.

use crate::env::{DiskSpace, Instant};
use crate::limits::{
    DISK_BYTES_PER_REQUEST_BYTE, DISK_HELD_BYTES_MAX, DISK_RESERVE_BYTES_DEFAULT,
    DISK_RESERVE_PERCENT_DEFAULT, QUOTA_BYTES_DEFAULT, SPACE_CALM,
};
use crate::mutants::{self, Mutant};
use crate::storage::state::alarms::RaisedAlarm;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What the operator has set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// `--quota-backend-bytes`: 0 for the default, negative for none.
    pub quota_bytes: i64,
    /// `--quota-free-disk-bytes`: likewise.
    pub free_disk_bytes: i64,
}

impl Rules {
    /// The limit on live bytes; None if there is no limit.
    pub fn quota(self) -> Option<u64> {
        match self.quota_bytes {
            0 => Some(QUOTA_BYTES_DEFAULT),
            bytes => u64::try_from(bytes).ok(),
        }
    }

    /// The bytes that must stay free on a disk of this size, including what the member holds ([`crate::quota::reserve`]).
    pub(super) fn reserve(self, disk_bytes: u64) -> u64 {
        match self.free_disk_bytes {
            0 => (disk_bytes / 100 * DISK_RESERVE_PERCENT_DEFAULT).min(DISK_RESERVE_BYTES_DEFAULT),
            bytes => u64::try_from(bytes).unwrap_or(0),
        }
    }
}

/// Parts of the bytes that must stay free.
impl Rules {
    /// The bytes that the member holds.
    pub(super) fn held_bytes(self, disk_bytes: u64) -> u64 {
        (self.reserve(disk_bytes) / 2).min(DISK_HELD_BYTES_MAX)
    }

    /// Below this, the engine's next table might not fit.
    pub(super) fn last_bytes(self, disk_bytes: u64) -> u64 {
        self.reserve(disk_bytes) / 8
    }
}

/// Tells whether there is space for a proposal. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Space {
    rules: Rules,
    /// Bytes that may be accepted before the next check of the disk: none while it is short.
    disk_room: Arc<AtomicU64>,
    /// There is not even space for deletions.
    is_exhausted: Arc<AtomicBool>,
}

impl Space {
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            disk_room: Arc::new(AtomicU64::new(u64::MAX)),
            is_exhausted: Arc::default(),
        }
    }

    /// Whether there is space for a deletion, which takes some before a compaction frees more.
    pub fn takes_deletion(&self) -> bool {
        !self.is_exhausted.load(Ordering::Relaxed)
    }

    pub fn rules(&self) -> Rules {
        self.rules
    }

    /// Whether a request of this cost fits, given the live bytes.
    pub fn takes(&self, live_bytes: u64, cost: u64) -> bool {
        let fits = |quota| live_bytes.saturating_add(cost) < quota;
        cost == 0 || (self.rules.quota().is_none_or(fits) && self.take_disk_room(cost))
    }

    fn take_disk_room(&self, cost: u64) -> bool {
        let take = |room: u64| room.checked_sub(cost);
        let taken = self
            .disk_room
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        taken.is_ok()
    }
}

/// The observations of one check.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    pub live_bytes: u64,
    /// None if unknown. The reserve that the member holds counts as free.
    pub disk: Option<DiskSpace>,
    /// The number of members; each accepts requests that take space on this member's disk.
    pub members: u64,
    /// The member's own NOSPACE alarm.
    pub raised: Option<RaisedAlarm>,
}

/// What the member should do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    Nothing,
    Raise,
    Lower,
}

/// The state between checks.
#[derive(Debug)]
pub struct SpaceWatcher {
    space: Space,
    disk_is_short: bool,
    calm_since: Option<Instant>,
}

impl SpaceWatcher {
    pub fn new(space: Space) -> Self {
        Self {
            space,
            disk_is_short: false,
            calm_since: None,
        }
    }

    pub fn look(&mut self, seen: &Seen, now: Instant) -> Advice {
        let disk_is_short = self.judge_disk(seen.disk, seen.members);
        let quota = self.space.rules.quota();
        let is_full = disk_is_short || quota.is_some_and(|quota| seen.live_bytes >= quota);
        // 95 % of the quota: if it were disarmed at the quota itself, the next write would raise it again.
        let has_room = !disk_is_short && quota.is_none_or(|quota| seen.live_bytes < quota - quota / 20);
        let own = seen.raised.is_some_and(|raised| raised.by_member);
        if !own || !has_room {
            self.calm_since = None;
        }
        if is_full && seen.raised.is_none() {
            return Advice::Raise;
        }
        let stays = mutants::active(Mutant::AlarmStays);
        if own && has_room && !stays && now - *self.calm_since.get_or_insert(now) >= SPACE_CALM {
            return Advice::Lower;
        }
        Advice::Nothing
    }

    /// A short disk stays short until a tenth more than its reserve is free.
    fn judge_disk(&mut self, disk: Option<DiskSpace>, members: u64) -> bool {
        let Some(disk) = disk else {
            return self.disk_is_short;
        };
        let reserve = self.space.rules.reserve(disk.total_bytes);
        let wanted = if self.disk_is_short {
            reserve + reserve / 10
        } else {
            reserve
        };
        self.disk_is_short = disk.free_bytes < wanted;
        let room = if self.disk_is_short {
            0
        } else if reserve == 0 {
            u64::MAX
        } else {
            (disk.free_bytes - reserve) / DISK_BYTES_PER_REQUEST_BYTE / members.max(1)
        };
        let is_exhausted = disk.free_bytes < self.space.rules.last_bytes(disk.total_bytes);
        self.space.is_exhausted.store(is_exhausted, Ordering::Relaxed);
        self.space.disk_room.store(room, Ordering::Relaxed);
        self.disk_is_short
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env;
    use crate::proto::etcdserverpb::AlarmType;
    use std::time::Duration;

    const GIB: u64 = 1 << 30;

    fn rules(quota_bytes: i64, free_disk_bytes: i64) -> Rules {
        Rules {
            quota_bytes,
            free_disk_bytes,
        }
    }

    fn alarm(by_member: bool) -> RaisedAlarm {
        RaisedAlarm {
            member_id: 5,
            alarm: AlarmType::Nospace as i32,
            by_member,
        }
    }

    fn disk(free_bytes: u64) -> DiskSpace {
        DiskSpace {
            free_bytes,
            total_bytes: 100 * GIB,
        }
    }

    #[test]
    fn flags_are_read_as_etcd_reads_its_own() {
        assert_eq!(rules(0, 0).quota(), Some(2 * GIB));
        assert_eq!(rules(-1, 0).quota(), None);
        assert_eq!(rules(100 << 30, 0).quota(), Some(100 * GIB));
        assert_eq!(rules(0, 0).reserve(100 * GIB), 256 << 20);
        assert_eq!(rules(0, 0).reserve(1000), 250);
        assert_eq!((rules(0, 77).reserve(1000), rules(0, -1).reserve(1000)), (77, 0));
    }

    #[test]
    fn a_request_fits_below_the_quota() {
        let space = Space::new(rules(1000, -1));
        assert!(space.takes(700, 299) && !space.takes(700, 300));
        assert!(space.takes(5000, 0), "what stores nothing always fits");
        assert!(!space.takes(u64::MAX, 1));
        assert!(Space::new(rules(-1, -1)).takes(u64::MAX, 1));
    }

    #[test]
    fn the_alarm_is_raised_when_full_and_lowered_when_there_is_room_for_a_while() {
        let mut watcher = SpaceWatcher::new(Space::new(rules(1000, -1)));
        let begin = env::now();
        let calm_ms = SPACE_CALM.as_millis() as u64;
        let steps = [
            (0, 999, None, Advice::Nothing),
            (0, 1000, None, Advice::Raise),
            (0, 1000, Some(alarm(true)), Advice::Nothing),
            (0, 1000, Some(alarm(false)), Advice::Nothing),
            // 95 % is not below it.
            (0, 950, Some(alarm(true)), Advice::Nothing),
            (2 * calm_ms, 950, Some(alarm(true)), Advice::Nothing),
            (2 * calm_ms, 949, Some(alarm(true)), Advice::Nothing),
            (3 * calm_ms - 1, 949, Some(alarm(true)), Advice::Nothing),
            (3 * calm_ms, 949, Some(alarm(true)), Advice::Lower),
            // Not calm in between.
            (3 * calm_ms, 950, Some(alarm(true)), Advice::Nothing),
            (4 * calm_ms, 0, Some(alarm(true)), Advice::Nothing),
            (5 * calm_ms, 0, Some(alarm(true)), Advice::Lower),
            // Raised manually.
            (5 * calm_ms, 0, Some(alarm(false)), Advice::Nothing),
            (9 * calm_ms, 0, Some(alarm(false)), Advice::Nothing),
            (9 * calm_ms, 0, None, Advice::Nothing),
        ];
        for (number, (at_ms, live_bytes, raised, expected)) in steps.into_iter().enumerate() {
            let seen = Seen {
                live_bytes,
                disk: None,
                members: 1,
                raised,
            };
            let advice = watcher.look(&seen, begin + Duration::from_millis(at_ms));
            assert_eq!(advice, expected, "step {number}");
        }
    }

    #[test]
    fn a_disk_that_is_short_raises_the_alarm_and_refuses() {
        let space = Space::new(rules(-1, 1000));
        let mut watcher = SpaceWatcher::new(space.clone());
        let now = env::now();
        let later = now + SPACE_CALM;
        let steps = [
            (
                now,
                Some(disk(1000 + DISK_BYTES_PER_REQUEST_BYTE)),
                None,
                Advice::Nothing,
                true,
            ),
            // No alarm yet, but nothing more fits.
            (now, Some(disk(1000)), None, Advice::Nothing, false),
            (now, Some(disk(999)), None, Advice::Raise, false),
            (now, None, Some(alarm(true)), Advice::Nothing, false),
            (now, Some(disk(1099)), Some(alarm(true)), Advice::Nothing, false),
            (now, Some(disk(1100)), Some(alarm(true)), Advice::Nothing, true),
            (later, Some(disk(1050)), Some(alarm(true)), Advice::Lower, true),
            (later, Some(disk(999)), Some(alarm(false)), Advice::Nothing, false),
        ];
        for (number, (at, disk, raised, expected, takes)) in steps.into_iter().enumerate() {
            let seen = Seen {
                live_bytes: 5,
                disk,
                members: 1,
                raised,
            };
            let advice = watcher.look(&seen, at);
            assert_eq!((advice, space.takes(5, 1)), (expected, takes), "step {number}");
        }
    }

    #[test]
    fn no_more_is_accepted_between_two_looks_than_the_disk_has_room_for() {
        let space = Space::new(rules(-1, 1000));
        let mut watcher = SpaceWatcher::new(space.clone());
        let mut look = |free_bytes| {
            let seen = Seen {
                live_bytes: 5,
                disk: Some(disk(free_bytes)),
                members: 1,
                raised: None,
            };
            assert_eq!(watcher.look(&seen, env::now()), Advice::Nothing);
        };
        assert!(space.takes(5, u64::MAX), "nobody has looked yet");
        look(1000 + 10 * DISK_BYTES_PER_REQUEST_BYTE);
        assert!(space.takes(5, 4) && !space.takes(5, 7) && space.takes(5, 6) && !space.takes(5, 1));
        assert!(space.takes(5, 0), "what stores nothing always fits");
        look(1000 + 3 * DISK_BYTES_PER_REQUEST_BYTE);
        assert!(!space.takes(5, 4) && space.takes(5, 3));
    }
}
