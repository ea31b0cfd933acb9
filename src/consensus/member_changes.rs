//! Membership changes before they are in the log: they wait for a leader and for the change before them. The leader judges
//! whether a change is safe, since only a leader knows how far the other members are and which of them it reaches. Its
//! judgement goes into the log with the change, so that all members refuse alike.
//!
//! Mirrors `mayAddMember`, `mayPromote` and `mayRemoveMember` of etcd's server/etcdserver/server.go, and the counts of
//! server/etcdserver/api/membership/cluster.go. In etcd the member that receives the request looks at its own connections.

use super::core::Leadership;
use crate::env::Instant;
use crate::ids::{LogIndex, MemberId};
use crate::limits::MEMBER_CHANGES_WAITING_MAX;
use crate::proto::log::member_change::Change;
use crate::proto::log::{Command, Member, MemberChange, MemberChangeRefusal as Refusal};
use crate::requests::MemberProgress;
use crate::state::entry::ReadableCommands;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// A member is healthy once it has been connected for this long (etcd: `HealthInterval`).
const HEALTH_INTERVAL: Duration = Duration::from_secs(5);
/// A change that has waited this long is discarded: its caller has given up, and a late change would surprise the operator.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// A learner may be promoted once it has this share of the leader's log, in percent (etcd: `readyPercentThreshold`).
const READY_PERCENT: u64 = 90;

/// The changes that wait, oldest first.
#[derive(Debug, Default)]
pub(super) struct MemberChanges(VecDeque<WaitingChange>);

/// A membership change that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WaitingChange {
    pub commands: ReadableCommands,
    since: Instant,
}

/// What to do with the next change.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Propose(WaitingChange),
    Forward(MemberId, WaitingChange),
}

impl MemberChanges {
    /// Adds changes. Those that do not fit are lost as on the network, and their callers time out.
    pub fn add(&mut self, changes: Vec<ReadableCommands>, now: Instant) {
        let room = MEMBER_CHANGES_WAITING_MAX.saturating_sub(self.0.len());
        let changes = changes.into_iter().take(room);
        self.0
            .extend(changes.map(|commands| WaitingChange { commands, since: now }));
    }

    /// Puts back a change that [`Self::next`] gave and that cannot be proposed yet.
    pub fn put_back(&mut self, change: WaitingChange) {
        self.0.push_front(change);
    }

    /// The next change for which a caller still waits. `is_free` tells whether a leader may propose one.
    pub fn next(
        &mut self,
        leadership: Leadership,
        is_free: bool,
        now: Instant,
        is_wanted: impl Fn(&Command) -> bool,
    ) -> Option<Next> {
        let goes_on = if leadership.is_leader {
            is_free
        } else {
            leadership.leader != MemberId(0)
        };
        if !goes_on {
            return None;
        }
        let is_due = |waiting: &WaitingChange| {
            let command = waiting.commands.single();
            now - waiting.since <= WAIT_MAX && command.is_some_and(|command| is_wanted(&command))
        };
        let next = std::iter::from_fn(|| self.0.pop_front()).find(is_due)?;
        Some(if leadership.is_leader {
            Next::Propose(next)
        } else {
            Next::Forward(leadership.leader, next)
        })
    }
}

/// What the leader knows when it judges a change.
pub(super) struct Circumstances<'a> {
    pub own: MemberId,
    pub members: &'a [Member],
    /// The progress of all members, the leader included.
    pub progress: &'a [MemberProgress],
    /// Since when the leader has been connected to each member.
    pub connected_since: &'a BTreeMap<MemberId, Instant>,
    pub now: Instant,
}

impl Circumstances<'_> {
    /// Why the change is to be refused. Errors in the change itself are found when it is applied.
    pub fn judge(&self, change: &MemberChange) -> Refusal {
        match &change.change {
            Some(Change::Add(member)) if change.strict => self.judge_addition(member),
            Some(Change::Promote(id)) => self.judge_promotion(*id, change.strict),
            Some(Change::Remove(id)) if change.strict => self.judge_removal(*id),
            _ => Refusal::None,
        }
    }

    fn judge_addition(&self, member: &Member) -> Refusal {
        let started = self.voters().filter(|voter| is_started(voter)).count();
        let voters = self.voters().count() + 1;
        // A cluster restored with one started member gets its second member.
        let is_second = started == 1 && voters == 2;
        if !member.is_learner && !is_second && started < majority(voters) {
            return Refusal::NotEnoughStarted;
        }
        if self.voters().any(|voter| !self.is_well(voter.id)) {
            return Refusal::Unhealthy;
        }
        Refusal::None
    }

    fn judge_promotion(&self, id: u64, is_strict: bool) -> Refusal {
        let found = self.members.iter().find(|member| member.id == id);
        if found.is_none_or(|member| !member.is_learner) {
            return Refusal::None;
        }
        let matched = |id| {
            let mut progress = self.progress.iter();
            let found = progress.find(|progress| progress.id == id);
            found.map_or(LogIndex(0), |progress| progress.matched)
        };
        let (own, learner) = (matched(self.own), matched(MemberId(id)));
        if u128::from(learner.0) * 100 < u128::from(own.0) * u128::from(READY_PERCENT) {
            return Refusal::LearnerNotReady;
        }
        let started = self.voters().filter(|voter| is_started(voter)).count() + 1;
        if is_strict && started < majority(self.voters().count() + 1) {
            return Refusal::NotEnoughStarted;
        }
        Refusal::None
    }

    fn judge_removal(&self, id: u64) -> Refusal {
        let found = self.members.iter().find(|member| member.id == id);
        if found.is_none_or(|member| member.is_learner) {
            return Refusal::None;
        }
        let left = || self.voters().filter(|voter| voter.id != id);
        let started = left().filter(|voter| is_started(voter)).count();
        if started < majority(left().count()) {
            return Refusal::NotEnoughStarted;
        }
        // A member that is down is not part of the active quorum.
        if !self.is_connected(id) {
            return Refusal::None;
        }
        let voters = self.voters().count();
        let well = self.voters().filter(|voter| self.is_well(voter.id)).count();
        if well.saturating_sub(1) < 1 + (voters - 1) / 2 && voters > 1 {
            return Refusal::Unhealthy;
        }
        Refusal::None
    }

    fn voters(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| !member.is_learner)
    }

    fn is_connected(&self, id: u64) -> bool {
        id == self.own.0 || self.connected_since.contains_key(&MemberId(id))
    }

    fn is_well(&self, id: u64) -> bool {
        let since = self.connected_since.get(&MemberId(id));
        id == self.own.0 || since.is_some_and(|since| self.now - *since >= HEALTH_INTERVAL)
    }
}

/// A member publishes its name when it starts.
fn is_started(member: &Member) -> bool {
    !member.name.is_empty()
}

const fn majority(voters: usize) -> usize {
    voters / 2 + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env;

    fn member(id: u64, name: &str, is_learner: bool) -> Member {
        Member {
            id,
            name: name.into(),
            is_learner,
            ..Member::default()
        }
    }

    fn judged(members: &[Member], well: &[u64], progress: &[(u64, u64)], change: Change) -> Refusal {
        let since = env::now();
        let now = since + HEALTH_INTERVAL;
        let connected: BTreeMap<_, _> = well.iter().map(|id| (MemberId(*id), since)).collect();
        let progress: Vec<_> = progress
            .iter()
            .map(|(id, matched)| MemberProgress {
                id: MemberId(*id),
                matched: LogIndex(*matched),
                next: LogIndex(matched + 1),
                state: "StateReplicate",
            })
            .collect();
        let circumstances = Circumstances {
            own: MemberId(1),
            members,
            progress: &progress,
            connected_since: &connected,
            now,
        };
        circumstances.judge(&MemberChange {
            change: Some(change),
            strict: true,
            ..MemberChange::default()
        })
    }

    #[test]
    fn members_are_added_to_a_cluster_that_is_well() {
        let add = || Change::Add(member(9, "", false));
        let learner = || Change::Add(member(9, "", true));
        let one = [member(1, "a", false)];
        assert_eq!(judged(&one, &[], &[], add()), Refusal::None);
        let unstarted = [member(1, "a", false), member(2, "", false)];
        assert_eq!(judged(&unstarted, &[2], &[], add()), Refusal::NotEnoughStarted);
        assert_eq!(judged(&unstarted, &[2], &[], learner()), Refusal::None);
        let two = [member(1, "a", false), member(2, "b", false)];
        assert_eq!(judged(&two, &[2], &[], add()), Refusal::None);
        assert_eq!(judged(&two, &[], &[], add()), Refusal::Unhealthy);
        assert_eq!(judged(&two, &[], &[], learner()), Refusal::Unhealthy);
    }

    #[test]
    fn a_learner_votes_once_it_has_caught_up() {
        let members = [member(1, "a", false), member(2, "b", true)];
        let promoted = |matched| judged(&members, &[2], &[(1, 100), (2, matched)], Change::Promote(2));
        assert_eq!(promoted(89), Refusal::LearnerNotReady);
        assert_eq!(promoted(90), Refusal::None);
        assert_eq!(judged(&members, &[2], &[], Change::Promote(1)), Refusal::None);
        let unstarted = [
            member(1, "a", false),
            member(2, "b", true),
            member(3, "", false),
            member(4, "", false),
        ];
        let promoted = judged(&unstarted, &[2], &[(1, 100), (2, 100)], Change::Promote(2));
        assert_eq!(promoted, Refusal::NotEnoughStarted);
    }

    #[test]
    fn a_removal_leaves_a_quorum_that_is_up() {
        let three = [
            member(1, "a", false),
            member(2, "b", false),
            member(3, "c", false),
        ];
        let remove = |id| Change::Remove(id);
        assert_eq!(judged(&three, &[2, 3], &[], remove(3)), Refusal::None);
        assert_eq!(judged(&three, &[2], &[], remove(3)), Refusal::None, "it is down");
        assert_eq!(judged(&three, &[2], &[], remove(2)), Refusal::Unhealthy);
        assert_eq!(
            judged(&three[..1], &[], &[], remove(1)),
            Refusal::NotEnoughStarted
        );
        let unstarted = [member(1, "a", false), member(2, "b", false), member(3, "", false)];
        assert_eq!(
            judged(&unstarted, &[2], &[], remove(2)),
            Refusal::NotEnoughStarted
        );
        assert_eq!(judged(&unstarted, &[2], &[], remove(3)), Refusal::None);
    }
}
