//! Membership, over a whole rehearsal: the members of the cluster and raft's configuration agree, a removed member is never a
//! member again, and all members agree at equal indexes of the log.

use super::{Violation, violation};
use callboard::state::View;
use std::collections::BTreeMap;

/// What has been seen so far.
#[derive(Clone, Debug, Default)]
pub struct Membership {
    /// Voters, learners and removed members, by the index of the newest entry.
    seen: BTreeMap<u64, (Sides, String)>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Sides {
    voters: Vec<u64>,
    learners: Vec<u64>,
    removed: Vec<u64>,
}

impl Membership {
    /// Checks a member's newest view.
    pub fn seen(&mut self, name: &str, view: &View) -> Result<(), Violation> {
        let (index, cluster) = (view.applied_index().get(), &view.cluster);
        if index == 0 {
            // It has joined and received nothing yet.
            return Ok(());
        }
        let ids = |is_learner: bool| -> Vec<u64> {
            let members = cluster.members.iter();
            let wanted = members.filter(|member| member.is_learner == is_learner);
            wanted.map(|member| member.id).collect()
        };
        let sides = Sides {
            voters: ids(false),
            learners: ids(true),
            removed: cluster.removed.clone(),
        };
        let conf_state = &cluster.conf_state;
        if (&conf_state.voters, &conf_state.learners) != (&sides.voters, &sides.learners) {
            return violation(format!(
                "{name} has the members {sides:x?}, and for raft {conf_state:x?}"
            ));
        }
        let is_removed = |id: &u64| sides.removed.contains(id);
        if let Some(id) = sides
            .voters
            .iter()
            .chain(&sides.learners)
            .find(|id| is_removed(id))
        {
            return violation(format!("{id:x} was removed, and is a member again for {name}"));
        }
        let (first, who) = self
            .seen
            .entry(index)
            .or_insert_with(|| (sides.clone(), name.to_owned()));
        if *first != sides {
            return violation(format!(
                "at entry {index} the members are {sides:x?} for {name}, and {first:x?} for {who}"
            ));
        }
        Ok(())
    }
}
