//! Changes of raft's configuration: proposed one at a time, and taken up when they have been applied.

use super::Core;
use crate::consensus::convert;
use crate::ids::{LogIndex, MemberId};
use crate::mutants::{self, Mutant};
use crate::proto::log::MemberChange;
use crate::proto::peer;
use crate::state::Payload;
use crate::state::entry::ReadableCommands;
use crate::state::membership::{Reconfiguration, Step};
use raft::StateRole;

/// Raft has made another configuration of a change than the state.
#[derive(Debug, thiserror::Error)]
#[error(
    "entry {index} makes raft's configuration {made:?}, and the members that are applied say {applied:?}: remove this member from \
     the cluster, clear its data directory and add it again"
)]
pub struct Disagreement {
    index: LogIndex,
    applied: peer::ConfState,
    made: peer::ConfState,
}

impl Core {
    /// Appends a change of the members as an entry of its own. Only a leader may, and one at a time: false means that it has not.
    pub fn propose_member_change(&mut self, change: &MemberChange, commands: &ReadableCommands) -> bool {
        if self.raw.raft.state != StateRole::Leader || self.is_changing_members() {
            return false;
        }
        let context = Payload::configuration_context(commands);
        let step = change.change.as_ref().map(Step::of);
        step.is_some_and(|step| {
            let change = convert::conf_change(step);
            self.raw.propose_conf_change(context, change).is_ok()
        })
    }

    /// Whether an earlier change may be on its way to being applied.
    pub fn is_changing_members(&self) -> bool {
        self.raw.raft.has_pending_conf()
    }

    /// An entry that was applied has changed raft's configuration. To be told before the entry counts as applied: until then no
    /// other change is proposed. An error means that this member must not go on.
    pub fn reconfigure(&mut self, change: &Reconfiguration) -> Result<(), Disagreement> {
        if mutants::active(Mutant::ReconfigurationIgnored) {
            return Ok(());
        }
        if change.index <= self.raw.store().cut_index() {
            // It is part of a snapshot that has come since.
            return Ok(());
        }
        let raft = &mut self.raw.raft;
        if change.step == Step::Remove(MemberId(raft.id)) && raft.state == StateRole::Leader {
            // It has led again since another one proposed that. Raft cannot lead without having a part in its configuration.
            raft.bcast_append();
            raft.become_follower(raft.term, raft::INVALID_ID);
        }
        let made = self.raw.apply_conf_change(&convert::conf_change(change.step));
        let mut made = made.map_or_else(
            |_| peer::ConfState::default(),
            |made| convert::conf_state_to_wire(&made),
        );
        made.voters.sort_unstable();
        made.learners.sort_unstable();
        self.draw_election_timeout();
        if made == change.conf_state {
            Ok(())
        } else {
            Err(Disagreement {
                index: change.index,
                applied: change.conf_state.clone(),
                made,
            })
        }
    }
}
