//! The members according to the log so far, sorted by ID like all of etcd's lists.

use crate::ids::MemberId;
use crate::proto::etcdserverpb;
use crate::proto::log::Member;
use std::collections::BTreeMap;

/// The members of the cluster, by ID.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Membership {
    members: BTreeMap<MemberId, Member>,
}

impl Membership {
    /// Adds or replaces a member.
    pub fn insert(&mut self, member: Member) -> Option<Member> {
        self.members.insert(MemberId(member.id), member)
    }

    pub fn remove(&mut self, id: MemberId) -> Option<Member> {
        self.members.remove(&id)
    }

    pub fn get(&self, id: MemberId) -> Option<&Member> {
        self.members.get(&id)
    }

    pub fn get_mut(&mut self, id: MemberId) -> Option<&mut Member> {
        self.members.get_mut(&id)
    }

    /// The members' IDs, sorted.
    pub fn ids(&self) -> impl Iterator<Item = MemberId> {
        self.members.keys().copied()
    }

    /// The members, sorted by ID.
    pub fn iter(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    pub fn len(&self) -> usize {
        self.members.len()
    }

    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The answer to `MemberList`. A member that has never started has neither name nor client URLs, which it publishes when
    /// it starts. The members of a new cluster have their names from the start, since `--initial-cluster` states them.
    pub fn to_wire(&self) -> Vec<etcdserverpb::Member> {
        self.members.values().map(to_wire).collect()
    }
}

impl FromIterator<Member> for Membership {
    fn from_iter<I: IntoIterator<Item = Member>>(members: I) -> Self {
        Self {
            members: members
                .into_iter()
                .map(|member| (MemberId(member.id), member))
                .collect(),
        }
    }
}

fn to_wire(member: &Member) -> etcdserverpb::Member {
    etcdserverpb::Member {
        id: member.id,
        name: member.name.clone(),
        peer_ur_ls: member.peer_urls.clone(),
        client_ur_ls: member.client_urls.clone(),
        is_learner: member.is_learner,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_that_never_started_has_no_name() {
        let joining = Member {
            id: 9,
            peer_urls: vec!["http://a:1".into()],
            ..Member::default()
        };
        let started = Member {
            id: 3,
            name: "m".into(),
            client_urls: vec!["http://b:2".into()],
            ..Member::default()
        };
        let membership: Membership = [joining, started].into_iter().collect();
        let wire = membership.to_wire();
        assert_eq!(wire.iter().map(|member| member.id).collect::<Vec<_>>(), [3, 9]);
        assert_eq!((wire[1].name.as_str(), wire[1].client_ur_ls.len()), ("", 0));
        assert_eq!(wire[0].client_ur_ls, ["http://b:2"]);
    }
}
