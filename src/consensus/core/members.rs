//! Changes of raft's configuration: proposed one at a time, and adopted when they are applied.

use super::Core;
use crate::consensus::convert;
use crate::ids::{LogIndex, MemberId};
use crate::mutants::{self, Mutant};
use crate::proto::log::MemberChange;
use crate::proto::peer::{self, Recollection};
use crate::state::Payload;
use crate::state::entry::ReadableCommands;
use crate::state::membership::{Reconfiguration, Step};
use raft::StateRole;
use std::collections::BTreeSet;

/// Raft and the applied state disagree about the configuration after a membership change.
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
    /// The voters of raft's configuration.
    pub(super) fn voters(&self) -> BTreeSet<MemberId> {
        let voters = self.raw.raft.prs().conf().voters().ids();
        voters.iter().map(MemberId).collect()
    }

    /// What this member remembers of another one, which has connected to it.
    pub fn recollection(&self, member: MemberId) -> Recollection {
        let (last_term, last_index) = self.log_end();
        Recollection {
            last_index,
            last_term,
            voters: self.voters().iter().map(|voter| voter.0).collect(),
            applied_index: self.applied.0,
            ..self.promises.of(member)
        }
    }

    /// Appends a membership change as an entry of its own. Returns false if this member does not lead, if another change is
    /// pending, or if raft does not take it.
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

    /// Whether an earlier change may be in the log without being applied.
    pub fn is_changing_members(&self) -> bool {
        self.raw.raft.has_pending_conf()
    }

    /// Adopts the configuration of an entry that was applied. To be called before the entry counts as applied: until then no
    /// other change is proposed. After an error this member must stop.
    pub fn reconfigure(&mut self, change: &Reconfiguration) -> Result<(), Disagreement> {
        if mutants::active(Mutant::ReconfigurationIgnored) {
            return Ok(());
        }
        if change.index <= self.raw.store().cut_index() {
            // A newer snapshot already contains the change.
            return Ok(());
        }
        let made = self.raw.apply_conf_change(&convert::conf_change(change.step));
        let mut made = made.map_or_else(
            |_| peer::ConfState::default(),
            |made| convert::conf_state_to_wire(&made),
        );
        made.voters.sort_unstable();
        made.learners.sort_unstable();
        self.start_check.know_voters(self.voters(), change.index);
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
