//! Who may talk to whom: the handshake of a peer link, judged against the replicated membership.

use crate::ids::MemberId;
use crate::mutants::{self, Mutant};
use crate::proto::log::Member;
use crate::proto::peer::Hello;
use crate::storage::directory::Identity;
use tonic::{Code, Status};

/// The version that members tell each other, and clients are told.
pub const VERSION: &str = "3.7.1";

/// What a member says when it dials another.
pub fn hello(own: Identity, to: MemberId) -> Hello {
    Hello {
        cluster_id: own.cluster.0,
        from: own.member.0,
        to: to.0,
        incarnation: own.incarnation.0,
        version: VERSION.into(),
    }
}

/// The status code of a refusal that repeating will not change: the dialling member must stop.
pub const REFUSED: Code = Code::FailedPrecondition;

/// Whether a member may send us messages. `known` is what the membership says of it.
pub fn check(own: Identity, hello: &Hello, known: Option<&Member>) -> Result<(), Status> {
    if hello.cluster_id != own.cluster.0 {
        // Somebody else's cluster, or a member that was started with other --initial-cluster flags: it may be us who
        // are wrong, so neither stops.
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
    let Some(known) = known else {
        return Err(Status::not_found(format!(
            "member {:x} is not in the cluster",
            hello.from
        )));
    };
    let is_other_disk = known.incarnation != 0 && known.incarnation != hello.incarnation;
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
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{ClusterId, Incarnation};

    fn identity(member: u64, incarnation: u64) -> Identity {
        Identity {
            member: MemberId(member),
            cluster: ClusterId(7),
            incarnation: Incarnation(incarnation),
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
            check(own, &hello, Some(&known(0))).is_ok(),
            "it has not started before"
        );
        assert!(check(own, &hello, Some(&known(20))).is_ok());
        let code = |result: Result<(), Status>| result.map_err(|status| status.code());
        assert_eq!(code(check(own, &hello, Some(&known(21)))), Err(REFUSED));
        assert_eq!(code(check(own, &hello, None)), Err(Code::NotFound));
        let elsewhere = Hello {
            to: 3,
            ..hello.clone()
        };
        assert_eq!(
            code(check(own, &elsewhere, Some(&known(20)))),
            Err(Code::InvalidArgument)
        );
        let other_cluster = Hello {
            cluster_id: 8,
            ..hello
        };
        assert_eq!(
            code(check(own, &other_cluster, Some(&known(20)))),
            Err(Code::InvalidArgument)
        );
    }
}
