//! When this member stands for election.
//!
//! Raft counts the election timeout from its last try, so members that were apart would wait for up to two timeouts after they can
//! reach each other again. One without a leader stands soon after another member has come into reach: after a short random time, so
//! that seldom two stand at once. With pre-vote that disturbs nobody who hears a leader. Without it, the timeout alone counts.

use super::{Core, TICKS_PER_HEARTBEAT};
use crate::consensus::start_check::LogEnd;
use raft::StateRole;

/// Two members come into each other's reach at the same moment. One stands first by more than a round trip, mostly.
const STANDS_WITHIN_TICKS: u64 = 3 * TICKS_PER_HEARTBEAT as u64;

impl Core {
    /// Another member can be reached, or reaches this one, from now on.
    pub fn come_into_reach(&mut self) {
        if self.timing.pre_vote && self.wants_leader() && self.stands_in.is_none() {
            self.stands_in = Some(1 + (self.draw)(STANDS_WITHIN_TICKS));
        }
    }

    /// Whether it has a vote and no leader.
    fn wants_leader(&self) -> bool {
        let raft = &self.raw.raft;
        raft.promotable()
            && raft.leader_id == 0
            && matches!(raft.state, StateRole::Follower | StateRole::PreCandidate)
    }

    /// Whether this tick is the one at which it stands because another member has come into reach.
    pub(super) fn stands_now(&mut self) -> bool {
        if !self.wants_leader() {
            self.stands_in = None;
        }
        self.stands_in = self.stands_in.map(|ticks| ticks - 1);
        if self.stands_in != Some(0) {
            return false;
        }
        self.stands_in = None;
        self.start_check.may_vote_for(self.log_end())
    }

    pub(super) fn log_end(&self) -> LogEnd {
        let log = &self.raw.raft.raft_log;
        (log.last_term(), log.last_index())
    }

    /// Whether the next tick would start an election in which this member may not yet vote for itself.
    pub(super) fn is_held_back(&self) -> bool {
        let raft = &self.raw.raft;
        raft.state != StateRole::Leader
            && raft.election_elapsed + 1 >= raft.randomized_election_timeout()
            && !self.start_check.may_vote_for(self.log_end())
    }

    /// Starts an election at once.
    pub fn campaign(&mut self) {
        if let Err(error) = self.raw.campaign() {
            tracing::warn!(%error, "cannot stand for election");
        }
        self.draw_election_timeout();
    }

    /// Draws the election timeout again whenever raft may have reset it. Raft resets it with every change of term, role or
    /// leader.
    pub(super) fn draw_election_timeout(&mut self) {
        let (leadership, role) = (self.leadership(), self.raw.raft.state);
        let (old_leadership, old_role, ticks) = self.drawn;
        if ticks != 0 && (leadership, role) == (old_leadership, old_role) {
            if self.raw.raft.randomized_election_timeout() != ticks {
                self.raw.raft.set_randomized_election_timeout(ticks);
            }
            return;
        }
        let election_ticks = self.timing.election_ticks();
        let ticks = election_ticks + (self.draw)(election_ticks as u64) as usize;
        self.raw.raft.set_randomized_election_timeout(ticks);
        self.drawn = (leadership, role, ticks);
    }
}
