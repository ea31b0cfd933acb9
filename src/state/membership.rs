//! The members, raft's configuration and the cluster version, as the log makes them.
//!
//! Mirrors the replicated half of etcd's server/etcdserver/api/membership/cluster.go.

use crate::cluster::Membership;
use crate::mutants::{self, Mutant};
use crate::proto::etcdserverpb::MemberUpdateResponse;
use crate::proto::log::{Member, MemberAttributes, PeerUrls};
use crate::proto::peer::ConfState;
use crate::state::ApplyError;
use crate::state::meta_record::MetaRecord;
use crate::storage::state::error::StateError;
use crate::storage::state::meta::{self, Applied, Cluster, DigestChange, SharedCluster};
use crate::storage::state::{StateBatch, StateDatabase};

/// See the head of the file.
#[derive(Debug)]
pub(crate) struct MembershipState(MetaRecord<Cluster>);

impl MembershipState {
    pub(crate) fn load(database: &StateDatabase) -> Result<Self, StateError> {
        MetaRecord::load(database, meta::CLUSTER_KEY).map(Self)
    }

    pub(crate) fn write(&mut self, batch: &mut StateBatch<'_>) {
        self.0.write(batch);
    }

    /// Another one as soon as anything changes.
    pub(crate) fn cluster(&self) -> &SharedCluster {
        self.0.get()
    }

    /// Other members, and the configuration that they make for raft.
    pub(crate) fn set_members(&mut self, applied: &mut Applied, members: Vec<Member>, conf_state: ConfState) {
        let version = self.cluster().version.clone();
        let cluster = Cluster {
            members,
            conf_state,
            version,
        };
        self.set(applied, cluster);
    }

    pub(crate) fn set_version(&mut self, applied: &mut Applied, version: String) {
        let cluster = Cluster {
            version,
            ..(**self.cluster()).clone()
        };
        self.set(applied, cluster);
    }

    /// What a member says of itself. One that comes back with another disk has lost what it had promised.
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

    /// Where a member is from now on. No two members are in one place (etcd: `ValidateConfigurationChange`).
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
        self.0.set(applied, DigestChange::Cluster, cluster);
    }
}
