//! Members whose links are long: round trips of 400 ms, below the election timeout. A write takes one round trip at the leader
//! and two elsewhere, and so does a read; nobody is deposed.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::support::cluster::{Cluster, READY_LIMIT, arguments};
use super::support::kv_client::ask;
use super::support::{self, poll, ports, slow_way};
use super::{get, put};

const DELAY: Duration = Duration::from_millis(200);
/// Two round trips, and as much again for a busy machine and for a question that waits for the one before it.
const ANSWER_MAX: Duration = Duration::from_millis(1_600);

#[test]
fn carry_writes_and_reads_in_two_round_trips() {
    let mut cluster = Cluster::prepare(&support::callboard_bin(), &ports::free(6), &[]);
    let ways: Vec<SocketAddr> = ports::free(3)
        .into_iter()
        .map(|port| SocketAddr::from(([127, 0, 0, 1], port)))
        .collect();
    let names = cluster.members.iter().map(|member| member.name.clone());
    let initial: Vec<_> = names
        .zip(&ways)
        .map(|(name, way)| format!("{name}=http://{way}"))
        .collect();
    for (member, way) in cluster.members.iter_mut().zip(&ways) {
        slow_way::open(*way, member.peer, DELAY);
        member.arguments = arguments(member, &initial.join(","), "callboard-test");
        let advertised = member
            .arguments
            .iter()
            .position(|flag| flag == "--initial-advertise-peer-urls")
            .expect("one of the flags");
        member.arguments[advertised + 1] = format!("http://{way}").into();
        member.start();
    }
    for member in &mut cluster.members {
        member.wait_ready().unwrap_or_else(|error| panic!("{error}"));
    }
    let term = |member: SocketAddr| {
        let status = ask(member, Duration::from_secs(5), async |client| {
            client.status().await
        });
        status.acked().map(|status| status.raft_term)
    };
    let settled = poll::until(READY_LIMIT, || {
        let terms: Result<Vec<_>, _> = cluster.members.iter().map(|member| term(member.client)).collect();
        let terms = terms.map_err(|error| format!("{error:?}"))?;
        let same = terms.iter().all(|term| *term == terms[0]);
        same.then_some(terms[0]).ok_or_else(|| format!("{terms:?}"))
    });
    let before = settled.unwrap_or_else(|complaint| panic!("{complaint}"));
    let mut slow = Vec::new();
    for round in 0..3 {
        for member in &cluster.members {
            let value = format!("{round} of {}", member.name);
            let begin = Instant::now();
            put(member, "key", &value);
            let written = begin.elapsed();
            assert_eq!(get(member, "key").as_deref(), Some(value.as_str()));
            let read = begin.elapsed().saturating_sub(written);
            if written > ANSWER_MAX || read > ANSWER_MAX {
                slow.push(format!("{value}: written in {written:?}, read in {read:?}"));
            }
        }
    }
    assert!(slow.is_empty(), "{slow:?}");
    assert_eq!(
        term(cluster.members[0].client).expect("a status"),
        before,
        "an election"
    );
}
