//! What becomes of waiting commands: a leader proposes them as fast as its in-flight entries allow, another member forwards
//! them to the leader, and without a leader they are kept. Also when a leader tells the others the commit index.

use super::commands::{CommandQueue, UnderWay};
use super::commit_news::{CommitNews, Telling};
use super::core::Leadership;
use crate::ids::{LogIndex, MemberId};
use crate::limits::PROPOSALS_BYTES_MAX;
use crate::proto::log::Command;
use crate::requests::Waiters;
use crate::state::entry::ReadableCommands;

/// See the head of the file.
#[derive(Debug, Default)]
pub(super) struct Proposals {
    waiting: CommandQueue,
    /// Some of the waiting commands have waited for a leader.
    have_waited: bool,
    under_way: UnderWay,
    news: CommitNews,
}

/// What to do with the next commands.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Propose these as one entry. On success call [`Proposals::proposed`].
    Propose(Vec<u8>),
    /// Forward these to the leader.
    Forward(MemberId, Vec<u8>),
}

/// What decides about the next commands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Circumstances {
    pub leadership: Leadership,
    pub committed: LogIndex,
    /// The applier has to catch up before more is proposed.
    pub applier_lags: bool,
    /// There is a link to the leader.
    pub leader_in_reach: bool,
}

impl Proposals {
    /// Adds commands of this member.
    pub fn add(&mut self, commands: CommandQueue) {
        self.waiting.append(commands);
    }

    /// Adds commands that another member forwarded to this leader. Those that do not fit are lost as on the network, and their
    /// callers time out.
    pub fn add_forwarded(&mut self, from: MemberId, commands: &ReadableCommands) {
        self.waiting.push_forwarded(commands, PROPOSALS_BYTES_MAX);
        self.news.forwarded(from);
    }

    /// Requests have timed out. Commands without a waiting caller are discarded: they should not be carried out minutes later,
    /// and they no longer count for any limit. Commands of other members may be lost like any message.
    pub fn requests_expired(&mut self, is_wanted: impl Fn(&Command) -> bool) {
        if self.have_waited {
            self.waiting.retain(is_wanted);
        }
    }

    /// What to do next. To be called until it returns nothing.
    pub fn next(&mut self, now: Circumstances, is_wanted: impl Fn(&Command) -> bool) -> Option<Next> {
        let leader = now.leadership.leader;
        if leader == MemberId(0) {
            self.have_waited |= !self.waiting.is_empty();
            return None;
        }
        if std::mem::take(&mut self.have_waited) {
            self.waiting.retain(is_wanted);
        }
        if now.leadership.is_leader {
            self.under_way.committed(now.committed);
            let takes = !now.applier_lags && self.under_way.takes(&self.waiting);
            return takes.then(|| self.waiting.pop()).flatten().map(Next::Propose);
        }
        let piece = now.leader_in_reach.then(|| self.waiting.pop()).flatten();
        piece.map(|piece| Next::Forward(leader, piece))
    }

    /// The commands of [`Next::Propose`], `bytes` long, are an entry now.
    pub fn proposed(&mut self, index: LogIndex, committed: LogIndex, bytes: usize) {
        self.under_way.add(index, bytes);
        self.news.proposed(index, committed, self.waiting.is_empty());
    }

    /// The leader or the term has changed: no entry of this member is in flight.
    pub fn leadership_changed(&mut self) {
        self.under_way.clear();
    }

    /// Which members a leader is to tell the new commit index.
    pub fn telling(&mut self, committed: LogIndex, others: usize) -> Telling {
        self.news.about(committed, others)
    }

    /// Whether all members are to be told the commit index now that its delay is over.
    pub fn news_are_due(&mut self, committed: LogIndex) -> bool {
        self.news.time_is_up(committed)
    }
}

/// Whether a caller in this process, which proposes under `origin`, still waits for a command.
pub(super) fn is_wanted(origin: u64, waiters: &Waiters) -> impl Fn(&Command) -> bool {
    move |command| command.origin == origin && waiters.is_waiting(command.id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Term;
    use crate::limits::ENTRIES_IN_FLIGHT_MAX;
    use crate::proto::etcdserverpb::LeaseRevokeRequest;
    use crate::proto::log::CommandBatch;
    use crate::proto::log::command::Request;
    use prost::Message;

    const OWN: MemberId = MemberId(1);
    const OTHER: MemberId = MemberId(2);

    fn queue(ids: impl IntoIterator<Item = u64>) -> CommandQueue {
        let mut queue = CommandQueue::default();
        for id in ids {
            let command = Command {
                id,
                request: Some(Request::LeaseRevoke(LeaseRevokeRequest { id: 1 })),
                ..Command::default()
            };
            queue.push(&ReadableCommands::of(&command).expect("it is flat"));
        }
        queue
    }

    fn ids(piece: &[u8]) -> Vec<u64> {
        let batch = CommandBatch::decode(piece).expect("a batch");
        batch.commands.iter().map(|command| command.id).collect()
    }

    fn led_by(leader: MemberId) -> Circumstances {
        Circumstances {
            leadership: Leadership {
                term: Term(1),
                leader,
                is_leader: leader == OWN,
            },
            committed: LogIndex(0),
            applier_lags: false,
            leader_in_reach: true,
        }
    }

    const fn all(_: &Command) -> bool {
        true
    }

    #[test]
    fn commands_wait_for_a_leader_and_are_forgotten_with_who_waits_for_them() {
        let mut proposals = Proposals::default();
        proposals.add(queue(0..4));
        let nobody = led_by(MemberId(0));
        proposals.requests_expired(|_| false);
        assert_eq!(proposals.next(nobody, all), None);
        proposals.requests_expired(|command| command.id != 1);
        let Some(Next::Forward(OTHER, piece)) = proposals.next(led_by(OTHER), |command| command.id != 3)
        else {
            panic!("there is a leader");
        };
        assert_eq!(
            ids(&piece),
            [0, 2],
            "what has not waited is not looked through; what has is, before it goes out"
        );
        assert_eq!(proposals.next(led_by(OTHER), all), None);
        proposals.add(queue(4..6));
        let Some(Next::Forward(OTHER, piece)) = proposals.next(led_by(OTHER), |_| false) else {
            panic!("these have not waited");
        };
        assert_eq!(ids(&piece), [4, 5]);
    }

    #[test]
    fn what_cannot_be_passed_on_waits_here() {
        let mut proposals = Proposals::default();
        proposals.add(queue(0..1));
        let out_of_reach = Circumstances {
            leader_in_reach: false,
            ..led_by(OTHER)
        };
        assert_eq!(proposals.next(out_of_reach, all), None);
        let lagging = Circumstances {
            applier_lags: true,
            ..led_by(OWN)
        };
        assert_eq!(proposals.next(lagging, all), None);
        assert!(matches!(proposals.next(led_by(OWN), all), Some(Next::Propose(_))));
    }

    #[test]
    fn a_leader_proposes_until_enough_is_under_way_and_starts_anew_with_each_term() {
        let mut proposals = Proposals::default();
        let propose = |proposals: &mut Proposals, index: u64, committed: u64| {
            proposals.add(queue(index..=index));
            let now = Circumstances {
                committed: LogIndex(committed),
                ..led_by(OWN)
            };
            let Some(Next::Propose(piece)) = proposals.next(now, all) else {
                return None;
            };
            proposals.proposed(LogIndex(index), LogIndex(committed), 1);
            Some(ids(&piece))
        };
        let most = ENTRIES_IN_FLIGHT_MAX as u64;
        for index in 1..=most {
            assert_eq!(propose(&mut proposals, index, 0), Some(vec![index]));
        }
        assert_eq!(propose(&mut proposals, most + 1, 0), None);
        assert_eq!(
            propose(&mut proposals, most + 2, 1),
            Some(vec![most + 1, most + 2]),
            "what has waited goes out together"
        );
        assert_eq!(propose(&mut proposals, most + 3, 1), None);
        proposals.leadership_changed();
        assert!(propose(&mut proposals, most + 4, 1).is_some());
    }
}
