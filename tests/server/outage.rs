//! Writes that nobody could decide on while there was no leader: whoever was told that they failed, or gave up, must not
//! find them carried out when the quorum is back.

use std::time::Duration;

use super::REQUEST_LIMIT;
use super::support::cluster::Cluster;
use super::support::kv_client::ask;
use super::support::{self, poll};

const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn what_was_given_up_without_a_leader_is_not_carried_out_later() {
    let mut cluster = Cluster::start(&support::callboard_bin(), 3);
    let addresses: Vec<_> = cluster.members.iter().map(|member| member.client).collect();
    let status = |place: usize| {
        let answer = ask(addresses[place], REQUEST_LIMIT, async |client| {
            client.status().await
        });
        answer.acked()
    };
    // A leader would have it in its log already, which etcd's has too.
    let survivor = poll::until(PATIENCE, || {
        let statuses = (0..3).map(status).collect::<Result<Vec<_>, _>>()?;
        statuses
            .iter()
            .position(|status| {
                let own = status.header.as_ref().map_or(0, |header| header.member_id);
                status.leader != 0 && status.leader != own
            })
            .ok_or_else(|| "no leader yet".to_owned())
    });
    let survivor = survivor.expect("a follower");
    let put = |value: &'static [u8], limit| {
        ask(addresses[survivor], limit, async |client| {
            client.put(b"key", value).await
        })
    };
    put(b"before", REQUEST_LIMIT).acked().expect("a quorum");
    for place in (0..3).filter(|place| *place != survivor) {
        cluster.members[place].kill();
    }
    let alone = poll::until(PATIENCE, || match status(survivor)?.leader {
        0 => Ok(()),
        leader => Err(format!("{leader:x} is still taken for the leader")),
    });
    alone.expect("an election that nobody can win");
    // The one gives up, the other is told.
    put(b"given up", Duration::from_millis(500))
        .acked()
        .expect_err("no quorum");
    put(b"timed out", PATIENCE).acked().expect_err("no quorum");
    for place in (0..3).filter(|place| *place != survivor) {
        cluster.members[place].start_ready();
    }
    let after = poll::until(PATIENCE, || {
        let answer = ask(addresses[survivor], REQUEST_LIMIT, async |client| {
            client.put(b"other", b"").await
        });
        answer.acked()
    });
    after.expect("a quorum again");
    let found = ask(addresses[survivor], REQUEST_LIMIT, async |client| {
        client.get(b"key").await
    });
    let found = found.acked().expect("readable").expect("it was written");
    assert_eq!(found.value, "before");
}
