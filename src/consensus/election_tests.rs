//! Elections after members have come into each other's reach.

use super::testing::{Cluster, ELECTION_TICKS, TestMember};

/// Three members whose election timeouts are as long as can be; member 1 leads and is then cut off with all others.
fn apart() -> Cluster {
    let mut cluster = Cluster::drawing(3, |id| {
        Box::new(move |limit| {
            if limit == ELECTION_TICKS {
                limit - id
            } else {
                4 * id % limit
            }
        })
    });
    cluster.elect(1);
    cluster.cut_off.extend([1, 2, 3]);
    cluster.pass(4 * ELECTION_TICKS);
    cluster
}

#[test]
fn members_that_come_into_reach_do_not_wait_for_the_timeout() {
    for seen_by in [&[2, 3][..], &[2], &[3]] {
        let mut cluster = apart();
        for id in [2, 3] {
            cluster.cut_off.remove(&id);
        }
        for id in seen_by {
            cluster.with(*id, |member| member.core.come_into_reach());
        }
        let term = cluster.member(2).term();
        cluster.pass(15);
        assert_eq!(cluster.leaders(), [seen_by[0]], "{seen_by:?}");
        assert_eq!(cluster.member(2).term(), term + 1, "one election suffices");
    }
}

#[test]
fn a_member_that_comes_into_reach_of_a_leader_does_not_stand() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    let term = cluster.member(1).term();
    cluster.cut_off.insert(3);
    cluster.pass(4 * ELECTION_TICKS);
    cluster.cut_off.remove(&3);
    for id in [1, 2, 3] {
        cluster.with(id, |member| member.core.come_into_reach());
    }
    cluster.pass(4 * ELECTION_TICKS);
    assert_eq!(cluster.leaders(), [1]);
    for id in [1, 2, 3] {
        assert_eq!(cluster.member(id).term(), term);
    }
}

#[test]
fn a_member_without_a_vote_does_not_stand() {
    for voters in [&[1, 2, 3][..], &[]] {
        let mut member = TestMember::new(4, voters, Box::new(|_| 0));
        member.core.come_into_reach();
        for _ in 0..4 * ELECTION_TICKS {
            member.core.tick();
            assert!(member.collect().is_empty() && !member.leads(), "{voters:?}");
        }
    }
}
