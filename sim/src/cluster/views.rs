//! The members' status, seen from outside.

use super::{Cluster, lock};
use crate::trace::Standing;
use callboard::requests::RaftStatus;
use callboard::state::Views;
use callboard::storage::log::LogDatabase;

impl Cluster {
    /// The state of a member that has started.
    pub fn views(&self, number: usize) -> Option<Views> {
        let process = lock(&self.members[number].process);
        process.backend.as_ref().map(|backend| backend.views.clone())
    }

    /// The log of a member that has started, and its raft status.
    pub fn log(&self, number: usize) -> Option<(LogDatabase, RaftStatus)> {
        let process = lock(&self.members[number].process);
        let backend = process.backend.as_ref()?;
        Some((process.log.clone()?, backend.handle.status()))
    }

    pub fn standing(&self, number: usize) -> Standing {
        let process = lock(&self.members[number].process);
        process.backend.as_ref().map_or(Standing::default(), |backend| {
            let status = backend.handle.status();
            Standing {
                term: status.term.0,
                commit: status.commit_index.0,
                applied: status.applied_index.0,
                revision: backend.views.load().revision(),
            }
        })
    }

    /// The leader of the highest term, according to the members themselves.
    pub fn leader(&self) -> Option<usize> {
        let claims = self.members.iter().enumerate().filter_map(|(number, member)| {
            let process = lock(&member.process);
            let backend = process.backend.as_ref()?;
            let status = backend.handle.status();
            (status.leader == backend.identity.member).then_some((status.term, number))
        });
        claims.max().map(|(_, number)| number)
    }

    /// Whether a member runs and takes itself for a learner.
    pub fn is_learner(&self, number: usize) -> bool {
        let process = lock(&self.members[number].process);
        process
            .backend
            .as_ref()
            .is_some_and(|backend| backend.views.load().is_learner(backend.identity.member))
    }

    /// Whether a member considers itself the leader.
    pub fn leads(&self, number: usize) -> bool {
        let process = lock(&self.members[number].process);
        process.backend.as_ref().is_some_and(|backend| {
            let status = backend.handle.status();
            status.leader == backend.identity.member
        })
    }
}
