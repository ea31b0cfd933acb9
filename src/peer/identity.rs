//! Which members may talk to this one: the handshake of a peer link, checked against the replicated membership.

use crate::etcd_errors::EtcdError;
use crate::ids::{Incarnation, MemberId};
use crate::mutants::{self, Mutant};
use crate::proto::log::Member;
use crate::proto::peer::Hello;
use crate::state::Views;
use crate::storage::contacts::{Contact, Contacts, Start};
use crate::storage::directory::Identity;
use crate::version;
use tonic::{Code, Status};

/// What a member says of itself when it calls another.
pub fn hello(own: Identity, to: MemberId) -> Hello {
    Hello {
        cluster_id: own.cluster.0,
        from: own.member.0,
        to: to.0,
        incarnation: own.incarnation.0,
        version: version::SERVER.into(),
        start_count: own.start.count,
        start_name: own.start.name,
        start_name_before: own.start.name_before,
        peer_urls: Vec::new(),
    }
}

/// The disk, and its start, that a member presents.
pub fn contact(hello: &Hello) -> Contact {
    let start = Start {
        count: hello.start_count,
        name: hello.start_name,
        name_before: hello.start_name_before,
    };
    Contact::new(Incarnation(hello.incarnation), start)
}

/// What this member checks others against.
#[derive(Clone)]
pub struct IdentityCheck {
    pub own: Identity,
    pub views: Views,
    /// The disks with which the other members were last heard.
    pub contacts: Contacts,
}

impl IdentityCheck {
    /// Whether a member that presents itself like this, as dialler or in an answer, may be heard.
    pub fn check(&self, hello: &Hello) -> Result<MemberId, Status> {
        let from = MemberId(hello.from);
        let view = self.views.load();
        if self.is_removed(from) {
            return Err(removed());
        }
        check(self.own, hello, view.member(from), self.contacts.of(from))?;
        Ok(from)
    }

    /// Whether this member knows another one. A member that lags behind may be called by members that were added since.
    pub fn knows(&self, member: MemberId) -> bool {
        self.views.load().member(member).is_some()
    }

    /// Whether a member has been removed.
    pub fn is_removed(&self, member: MemberId) -> bool {
        self.views.load().is_removed(member) && !mutants::active(Mutant::RemovedAdmitted)
    }
}

/// The status code of a permanent refusal: the dialling member must stop.
pub const REFUSED: Code = Code::FailedPrecondition;

/// The status code of the refusal of a member that was removed.
pub const REMOVED: Code = EtcdError::MemberRemoved.code();

pub fn removed() -> Status {
    EtcdError::MemberRemoved.into()
}

/// Whether a member may send us messages. `known` is its record in the membership, `last` the disk with which it was last
/// heard. The membership learns of a member's disk some time after the member's first vote; `last` is noted before that.
pub fn check(
    own: Identity,
    hello: &Hello,
    known: Option<&Member>,
    last: Option<Contact>,
) -> Result<(), Status> {
    if hello.cluster_id != own.cluster.0 {
        // Another cluster's member, or one that was started with other --initial-cluster flags. The error may be on this side,
        // so neither member stops.
        return Err(Status::invalid_argument(format!(
            "cluster ID mismatch: this member is of cluster {}, not {:x}",
            own.cluster, hello.cluster_id
        )));
    }
    if hello.to != own.member.0 {
        return Err(Status::invalid_argument(format!(
            "this is member {}, not {:x}",
            own.member, hello.to
        )));
    }
    // A member that was added while this one was away is unknown here until this one has caught up, for which it needs
    // messages.
    let unknown = Member::default();
    let known = known.unwrap_or(&unknown);
    let last = last.filter(|_| !mutants::active(Mutant::ContactsForgotten));
    let incarnation = match last {
        Some(contact) if known.incarnation == 0 => contact.incarnation().0,
        _ => known.incarnation,
    };
    let is_other_disk = incarnation != 0 && incarnation != hello.incarnation;
    if is_other_disk && !mutants::active(Mutant::BlankDiskAdmitted) {
        return Err(Status::new(
            REFUSED,
            format!(
                "member {:x} comes with another data directory than the one that joined the cluster; a member that lost \
                 its disk has forgotten its votes: remove it from the cluster and add it again",
                hello.from
            ),
        ));
    }
    let is_older_copy = last.is_some_and(|last| {
        last.incarnation().0 == hello.incarnation && !contact(hello).start.can_follow(last.start)
    });
    if is_older_copy && !mutants::active(Mutant::OlderCopyAdmitted) {
        return Err(Status::new(
            REFUSED,
            format!(
                "member {:x} comes with an older copy of its data directory, from before a start that is known here; votes \
                 and acknowledged writes may be missing from it: remove it from the cluster, clear its data directory and \
                 add it again",
                hello.from
            ),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ClusterId;

    fn identity(member: u64, incarnation: u64) -> Identity {
        Identity {
            member: MemberId(member),
            cluster: ClusterId(7),
            incarnation: Incarnation(incarnation),
            start: Start {
                count: 3,
                name: 30,
                name_before: 20,
            },
        }
    }

    #[test]
    fn only_the_disk_that_joined_may_speak() {
        let own = identity(1, 10);
        let known = |incarnation| Member {
            id: 2,
            incarnation,
            ..Member::default()
        };
        let hello = hello(identity(2, 20), MemberId(1));
        assert!(
            check(own, &hello, Some(&known(0)), None).is_ok(),
            "it has not started before"
        );
        assert!(check(own, &hello, Some(&known(20)), None).is_ok());
        let code = |result: Result<(), Status>| result.map_err(|status| status.code());
        assert_eq!(code(check(own, &hello, Some(&known(21)), None)), Err(REFUSED));
        assert!(
            check(own, &hello, None, None).is_ok(),
            "it may have come while this one was away"
        );
        // Incarnation, count and name of the start that was heard last; the membership's incarnation; the result.
        let contacts = [
            (20, 3, 30, 0, Ok(())),
            (20, 2, 20, 20, Ok(())),
            (20, 1, 10, 20, Ok(())),
            (20, 3, 31, 20, Err(REFUSED)),
            (20, 4, 40, 20, Err(REFUSED)),
            (21, 1, 10, 0, Err(REFUSED)),
            // The replicated membership overrides what this member has noted itself.
            (21, 9, 90, 20, Ok(())),
        ];
        for (incarnation, count, name, agreed, expected) in contacts {
            let start = Start {
                count,
                name,
                name_before: 0,
            };
            let last = Contact::new(Incarnation(incarnation), start);
            let checked = check(own, &hello, Some(&known(agreed)), Some(last));
            assert_eq!(code(checked), expected, "{incarnation} {count} {name} {agreed}");
        }
        let elsewhere = Hello {
            to: 3,
            ..hello.clone()
        };
        assert_eq!(
            code(check(own, &elsewhere, Some(&known(20)), None)),
            Err(Code::InvalidArgument)
        );
        let other_cluster = Hello {
            cluster_id: 8,
            ..hello
        };
        assert_eq!(
            code(check(own, &other_cluster, Some(&known(20)), None)),
            Err(Code::InvalidArgument)
        );
    }
}
