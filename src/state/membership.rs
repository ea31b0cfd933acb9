//! The members, raft's configuration and the cluster version, according to the log. Members and configuration are one record,
//! so that they always agree.
//!
//! Mirrors the replicated half of etcd's server/etcdserver/api/membership/cluster.go.

use crate::cluster::Membership;
use crate::ids::{LogIndex, MemberId};
use crate::mutants::{self, Mutant};
use crate::proto::etcdserverpb::MemberUpdateResponse;
use crate::proto::log::member_change::Change;
use crate::proto::log::{Downgrade, Member, MemberAttributes, MemberChange, MemberChangeRefusal, PeerUrls};
use crate::proto::peer::ConfState;
use crate::state::ApplyError;
use crate::state::meta_record::MetaRecord;
use crate::storage::state::error::StateError;
use crate::storage::state::meta::{self, Applied, Cluster, DigestChange, SharedCluster};
use crate::storage::state::{StateBatch, StateDatabase};
use crate::version;

/// An applied change of raft's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reconfiguration {
    pub index: LogIndex,
    pub step: Step,
    /// The configuration after the change.
    pub conf_state: ConfState,
}

/// A member is added or removed, or becomes a voter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Voter(MemberId),
    Learner(MemberId),
    Remove(MemberId),
}

impl Step {
    /// The step that a membership change makes.
    pub const fn of(change: &Change) -> Self {
        match change {
            Change::Add(member) if member.is_learner => Self::Learner(MemberId(member.id)),
            Change::Add(member) => Self::Voter(MemberId(member.id)),
            Change::Promote(id) => Self::Voter(MemberId(*id)),
            Change::Remove(id) => Self::Remove(MemberId(*id)),
        }
    }
}

/// Whether a change removes a member. A refused one does not.
pub(crate) fn removes(change: &MemberChange, member: MemberId) -> bool {
    change.change == Some(Change::Remove(member.0)) && change.refusal() == MemberChangeRefusal::None
}

/// See the head of the file.
#[derive(Debug)]
pub(crate) struct MembershipState {
    record: MetaRecord<Cluster>,
    /// Changes since they were last taken.
    pub(crate) reconfigurations: Vec<Reconfiguration>,
}

impl MembershipState {
    pub(crate) fn load(database: &StateDatabase) -> Result<Self, StateError> {
        Ok(Self {
            record: MetaRecord::load(database, meta::CLUSTER_KEY)?,
            reconfigurations: Vec::new(),
        })
    }

    pub(crate) fn write(&mut self, batch: &mut StateBatch<'_>) {
        self.record.write(batch);
    }

    /// A new `Arc` after each change.
    pub(crate) fn cluster(&self) -> &SharedCluster {
        self.record.get()
    }

    /// Carries out a membership change, with raft's new configuration (etcd: `ValidateConfigurationChange` and what follows
    /// it). Returns all members.
    pub(crate) fn change(
        &mut self,
        applied: &mut Applied,
        index: LogIndex,
        change: &MemberChange,
    ) -> Result<Vec<Member>, ApplyError> {
        match change.refusal() {
            MemberChangeRefusal::None => {}
            MemberChangeRefusal::LearnerNotReady => return Err(ApplyError::LearnerNotReady),
            MemberChangeRefusal::NotEnoughStarted => return Err(ApplyError::NotEnoughStarted),
            MemberChangeRefusal::Unhealthy => return Err(ApplyError::Unhealthy),
        }
        let mut cluster = (**self.cluster()).clone();
        let wanted = change.change.as_ref().ok_or(ApplyError::Unreadable)?;
        match wanted {
            Change::Add(member) => cluster.add(member, change.learners_max)?,
            Change::Promote(id) => cluster.promote(*id)?,
            Change::Remove(id) => cluster.remove(*id)?,
        }
        self.reconfigurations.push(Reconfiguration {
            index,
            step: Step::of(wanted),
            conf_state: cluster.conf_state.clone(),
        });
        self.set(applied, cluster);
        Ok(self.cluster().members.clone())
    }

    pub(crate) fn set_version(&mut self, applied: &mut Applied, version: String) {
        let cluster = Cluster {
            version,
            ..(**self.cluster()).clone()
        };
        self.set(applied, cluster);
    }

    /// Begins or ends a downgrade. While one is in progress, the cluster version is its target (etcd reaches it a few seconds
    /// after the beginning: server/etcdserver/version/monitor.go).
    pub(crate) fn set_downgrade(
        &mut self,
        applied: &mut Applied,
        downgrade: Downgrade,
    ) -> Result<(), ApplyError> {
        let mut cluster = (**self.cluster()).clone();
        if downgrade.target_version.is_empty() {
            if !cluster.is_downgrading() {
                return Err(ApplyError::NoDowngrade);
            }
            cluster.version = downgrade.version_after;
        } else {
            cluster.check_downgrade(&downgrade.target_version)?;
            cluster.version.clone_from(&downgrade.target_version);
        }
        cluster.downgrade_target = downgrade.target_version;
        if !mutants::active(Mutant::DowngradeForgotten) {
            self.set(applied, cluster);
        }
        Ok(())
    }

    /// Records what a member says of itself. A member with another disk is refused: it has lost what it had promised.
    pub(crate) fn set_attributes(
        &mut self,
        applied: &mut Applied,
        attributes: MemberAttributes,
    ) -> Result<(), ApplyError> {
        let mut cluster = (**self.cluster()).clone();
        let found = cluster
            .members
            .iter_mut()
            .find(|member| member.id == attributes.member_id);
        let member = found.ok_or(ApplyError::MemberNotFound)?;
        let is_other_disk = member.incarnation != 0 && member.incarnation != attributes.incarnation;
        if is_other_disk && !mutants::active(Mutant::BlankDiskAdmitted) {
            return Err(ApplyError::IncarnationConflict);
        }
        member.incarnation = attributes.incarnation;
        member.name = attributes.name;
        member.client_urls = attributes.client_urls;
        self.set(applied, cluster);
        Ok(())
    }

    /// Records a member's new peer URLs. No two members share one (etcd: `ValidateConfigurationChange`).
    pub(crate) fn set_peer_urls(
        &mut self,
        applied: &mut Applied,
        moved: PeerUrls,
    ) -> Result<MemberUpdateResponse, ApplyError> {
        let mut cluster = (**self.cluster()).clone();
        let others = cluster
            .members
            .iter()
            .filter(|member| member.id != moved.member_id);
        let mut taken = others.flat_map(|member| &member.peer_urls);
        let is_taken = taken.any(|url| moved.peer_urls.contains(url));
        let found = cluster
            .members
            .iter_mut()
            .find(|member| member.id == moved.member_id);
        let member = found.ok_or(ApplyError::MemberNotFound)?;
        if is_taken {
            return Err(ApplyError::PeerUrlExists);
        }
        member.peer_urls = moved.peer_urls;
        let members: Membership = cluster.members.iter().cloned().collect();
        self.set(applied, cluster);
        Ok(MemberUpdateResponse {
            header: None,
            members: members.to_wire(),
        })
    }

    pub(crate) fn set(&mut self, applied: &mut Applied, mut cluster: Cluster) {
        cluster.members.sort_by_key(|member| member.id);
        self.record.set(applied, DigestChange::Cluster, cluster);
    }
}

impl Cluster {
    /// Whether a downgrade to this version can begin (etcd: `DowngradeValidate`).
    pub fn check_downgrade(&self, target: &str) -> Result<(), ApplyError> {
        if version::downgrade_target(&self.version).as_deref() != Some(target) {
            return Err(ApplyError::InvalidDowngradeTarget);
        }
        if self.is_downgrading() {
            return Err(ApplyError::DowngradeInProgress);
        }
        Ok(())
    }

    /// Whether a downgrade is in progress.
    pub fn is_downgrading(&self) -> bool {
        !self.downgrade_target.is_empty()
    }

    /// The version of etcd that can read the stored data: the cluster version, once there is one.
    pub fn storage_version(&self) -> &str {
        match self.version.as_str() {
            "" => version::CLUSTER,
            version => version,
        }
    }

    fn add(&mut self, member: &Member, learners_max: u32) -> Result<(), ApplyError> {
        if self.removed.contains(&member.id) {
            return Err(ApplyError::MemberNotFound);
        }
        if self.members.iter().any(|known| known.id == member.id) {
            return Err(ApplyError::MemberExists);
        }
        let mut taken = self.members.iter().flat_map(|known| &known.peer_urls);
        if taken.any(|url| member.peer_urls.contains(url)) {
            return Err(ApplyError::PeerUrlExists);
        }
        if member.is_learner && self.conf_state.learners.len() >= learners_max as usize {
            return Err(ApplyError::TooManyLearners);
        }
        self.members.push(Member {
            id: member.id,
            peer_urls: member.peer_urls.clone(),
            is_learner: member.is_learner,
            ..Member::default()
        });
        let same = if member.is_learner {
            &mut self.conf_state.learners
        } else {
            &mut self.conf_state.voters
        };
        insert(same, member.id);
        Ok(())
    }

    fn promote(&mut self, id: u64) -> Result<(), ApplyError> {
        let found = self.members.iter_mut().find(|member| member.id == id);
        let member = found.ok_or(ApplyError::MemberNotFound)?;
        if !std::mem::take(&mut member.is_learner) {
            return Err(ApplyError::MemberNotLearner);
        }
        self.conf_state.learners.retain(|learner| *learner != id);
        insert(&mut self.conf_state.voters, id);
        Ok(())
    }

    /// The last voter cannot be removed: without one there is no quorum.
    fn remove(&mut self, id: u64) -> Result<(), ApplyError> {
        let count = self.members.len();
        self.members.retain(|member| member.id != id);
        if self.members.len() == count {
            return Err(ApplyError::MemberNotFound);
        }
        self.conf_state.learners.retain(|learner| *learner != id);
        self.conf_state.voters.retain(|voter| *voter != id);
        if self.conf_state.voters.is_empty() {
            return Err(ApplyError::NotEnoughStarted);
        }
        self.removed.push(id);
        Ok(())
    }
}

fn insert(ids: &mut Vec<u64>, id: u64) {
    if let Err(place) = ids.binary_search(&id) {
        ids.insert(place, id);
    }
}
