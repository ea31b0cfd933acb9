//! The comparison at start, before the member serves clients or takes part in an election (etcd: `InitialCheck`).
//!
//! etcd stops at any difference. Here a member that agrees with a majority of the cluster starts all the same: the others are
//! at fault.

use super::compare::compare_twice;
use super::handle::{HashError, HashHandle};
use super::verdict::{self, Verdict};
use crate::ids::MemberId;
use crate::peer::caller::PeerCaller;
use crate::proto::peer::HashQuestion;
use crate::storage::directory::Identity;
use std::time::Duration;

/// Why the member must not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InitialCheckError {
    #[error(
        "{0} found data inconsistency with peers: remove this member from the cluster, clear its data directory and add it \
         again"
    )]
    Inconsistent(MemberId),
    #[error("{0} failed to fetch hash ({1})")]
    Hash(MemberId, HashError),
}

/// Compares this member with the others once.
pub struct InitialCheck {
    pub own: Identity,
    pub hashes: HashHandle,
    pub caller: PeerCaller,
    /// Members that do not answer within this time are not compared.
    pub timeout: Duration,
}

impl InitialCheck {
    /// Compares with all members that answer.
    pub async fn run(&self) -> Result<(), InitialCheckError> {
        let own = self.own.member;
        tracing::info!(
            local_member_id = %own, timeout = ?self.timeout, "starting initial corruption check"
        );
        let question = HashQuestion {
            revision: 0,
            compact_revision: -1,
        };
        let mut caller = self.caller.clone();
        let compared = compare_twice(own, &self.hashes, &mut caller, question, self.timeout).await;
        let members = self.hashes.views.load().cluster.members.len();
        for compared in compared.map_err(|error| InitialCheckError::Hash(own, error))? {
            match verdict::judge(&compared.sums, members) {
                Verdict::Same => tracing::info!(
                    local_member_id = %own, peers_compared = compared.sums.len() - 1,
                    compact_revision = compared.own.compact_revision, "compared with peers"
                ),
                Verdict::AtFault(others) if !others.contains(&own) => tracing::warn!(
                    local_member_id = %own, at_fault = ?others,
                    "a majority of the cluster holds what this member holds"
                ),
                Verdict::AtFault(_) | Verdict::NoMajority | Verdict::Undecided => {
                    return Err(InitialCheckError::Inconsistent(own));
                }
            }
        }
        tracing::info!(local_member_id = %own, "initial corruption checking passed; no corruption");
        Ok(())
    }
}
