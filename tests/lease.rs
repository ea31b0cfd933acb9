//! Leases on three members: over the death of the leader that counts them down, and after a restart of all.
#![cfg(not(madsim))]
#![allow(clippy::disallowed_methods)] // the tests live in the real world

mod support;

use callboard::client::{Client, Options, parse_endpoints};
use callboard::proto::etcdserverpb as pb;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use support::cluster::Cluster;
use support::kv_client::block_on;

const LIMIT: Duration = Duration::from_secs(30);
/// Lateness that a busy machine may add.
const SLACK: Duration = Duration::from_secs(3);
/// No leader for at most this long: two election timeouts, drawn twice if unlucky.
const ELECTION: Duration = Duration::from_secs(4);

fn connect(members: &[SocketAddr]) -> Client {
    let endpoints =
        parse_endpoints(members.iter().map(ToString::to_string)).expect("addresses are endpoints");
    Client::start(endpoints, Options::default()).expect("at least one endpoint")
}

async fn grant(client: &Client, id: i64, ttl: i64) -> i64 {
    let granted = client.lease_grant(pb::LeaseGrantRequest { id, ttl }).await;
    let granted = granted.expect("a lease");
    assert!(granted.id != 0 && (id == 0 || granted.id == id));
    granted.id
}

async fn put(client: &Client, key: &str, lease: i64) {
    let request = pb::PutRequest {
        key: key.to_owned().into(),
        lease,
        ..pb::PutRequest::default()
    };
    client.put(request).await.expect("a put");
}

async fn keys(client: &Client) -> Vec<String> {
    let request = pb::RangeRequest {
        key: "\0".into(),
        range_end: "\0".into(),
        keys_only: true,
        ..pb::RangeRequest::default()
    };
    let kvs = client.range(request).await.expect("a range").kvs;
    let keys = kvs.into_iter().map(|kv| String::from_utf8(kv.key.to_vec()));
    keys.map(|key| key.expect("text")).collect()
}

async fn time_to_live(client: &Client, id: i64, keys: bool) -> pb::LeaseTimeToLiveResponse {
    let request = pb::LeaseTimeToLiveRequest { id, keys };
    client.lease_time_to_live(request).await.expect("an answer")
}

async fn wait_until_gone(client: &Client, key: &str, deadline: Instant) -> Instant {
    loop {
        if !keys(client).await.iter().any(|found| found == key) {
            return Instant::now();
        }
        assert!(Instant::now() < deadline, "{key} is still there");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn leader(cluster: &Cluster) -> usize {
    let status = |member: SocketAddr| async move {
        let client = connect(&[member]);
        let status = client
            .status(pb::StatusRequest::default())
            .await
            .expect("a status");
        (status.header.expect("a header").member_id, status.leader)
    };
    let members: Vec<SocketAddr> = cluster.members.iter().map(|member| member.client).collect();
    block_on(async move {
        for (index, member) in members.iter().enumerate() {
            let (id, leader) = status(*member).await;
            if id == leader {
                return index;
            }
        }
        panic!("a healthy cluster has a leader")
    })
}

#[test]
fn any_member_answers() {
    let cluster = Cluster::start(&support::callboard_bin(), 3);
    let members: Vec<SocketAddr> = cluster.members.iter().map(|member| member.client).collect();
    block_on(async move {
        let clients: Vec<Client> = members.iter().map(|member| connect(&[*member])).collect();
        let id = grant(&clients[0], 0, 60).await;
        for (number, client) in clients.iter().enumerate() {
            put(client, &format!("k{number}"), id).await;
            assert_eq!(client.keep_alive_once(id).await.expect("an answer"), 60);
            assert_eq!(
                client.keep_alive_once(99).await.expect("an answer"),
                0,
                "no such lease"
            );
            let left = time_to_live(client, id, true).await;
            assert_eq!((left.granted_ttl, left.keys.len()), (60, number + 1));
            assert!((58..=60).contains(&left.ttl), "{left:?}");
            assert_eq!(time_to_live(client, 99, true).await.ttl, -1);
        }
        // Many leases over one stream, of a follower too: answered in order.
        for client in &clients {
            let mut stream = client.keep_alive_stream(id).await.expect("a stream");
            for other in 1..500 {
                stream.ask(if other % 2 == 0 { id } else { other });
            }
            for other in 0..500 {
                let answer = stream.next().await.expect("an answer").expect("one more");
                let expected = if other % 2 == 0 { (id, 60) } else { (other, 0) };
                assert_eq!((answer.id, answer.ttl), expected);
            }
        }
        let revoked = clients[2].lease_revoke(pb::LeaseRevokeRequest { id }).await;
        assert_eq!(
            revoked.expect("it was there").header.expect("a header").revision,
            5
        );
        assert!(keys(&clients[1]).await.is_empty());
    });
}

#[test]
fn leases_that_are_kept_alive_outlive_their_leader_and_the_others_end() {
    let mut cluster = Cluster::start(&support::callboard_bin(), 3);
    let first = leader(&cluster);
    let survivors: Vec<SocketAddr> = (0..3)
        .filter(|index| *index != first)
        .map(|index| cluster.members[index].client)
        .collect();
    let ttl = 4;
    let setup = survivors.clone();
    let (kept, left) = block_on(async move {
        let client = connect(&setup);
        let kept = grant(&client, 0, ttl).await;
        let left = grant(&client, 0, ttl).await;
        put(&client, "kept", kept).await;
        put(&client, "left", left).await;
        (kept, left)
    });
    let granted = Instant::now();
    // The lease that nobody keeps alive is half through when its leader goes.
    std::thread::sleep(Duration::from_secs(2));
    cluster.members[first].kill();
    let killed = Instant::now();
    block_on(async move {
        let client = connect(&survivors);
        let watching = connect(&survivors);
        let keep = async {
            loop {
                assert_eq!(
                    client.keep_alive_once(kept).await.expect("an answer"),
                    ttl,
                    "ended too early"
                );
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        };
        let watch = async {
            // All of its time again, from the election on.
            let bound = ELECTION + Duration::from_secs(ttl as u64 + 1) + SLACK;
            let gone = wait_until_gone(&watching, "left", killed + bound).await;
            assert!(
                gone - granted >= Duration::from_secs(ttl as u64),
                "ended too early"
            );
            assert_eq!(keys(&watching).await, ["kept"]);
            assert_eq!(time_to_live(&watching, left, false).await.ttl, -1);
            // Longer than it lives on its own.
            tokio::time::sleep(Duration::from_secs(ttl as u64 + 2)).await;
            assert_eq!(keys(&watching).await, ["kept"]);
        };
        tokio::select! {
            () = keep => unreachable!("it goes on"),
            () = watch => {}
        }
        let stopped = Instant::now();
        let gone = wait_until_gone(&watching, "kept", stopped + LIMIT).await;
        let lived = gone - stopped;
        assert!(lived <= Duration::from_secs(ttl as u64) + SLACK, "{lived:?}");
    });
}

#[test]
fn leases_survive_a_restart_of_all() {
    let mut cluster = Cluster::start(&support::callboard_bin(), 3);
    let members: Vec<SocketAddr> = cluster.members.iter().map(|member| member.client).collect();
    let before = members.clone();
    block_on(async move {
        let client = connect(&before);
        grant(&client, 7, 600).await;
        grant(&client, 8, 2).await;
        put(&client, "a", 7).await;
        put(&client, "b", 8).await;
    });
    for member in &mut cluster.members {
        member.kill();
    }
    for member in &mut cluster.members {
        member.start();
    }
    for member in &mut cluster.members {
        member.wait_ready().unwrap_or_else(|error| panic!("{error}"));
    }
    block_on(async move {
        let client = connect(&members);
        wait_until_gone(&client, "b", Instant::now() + LIMIT).await;
        let left = time_to_live(&client, 7, true).await;
        assert_eq!((left.granted_ttl, &left.keys[..]), (600, &["a".into()][..]));
        let listed = client
            .lease_leases(pb::LeaseLeasesRequest {})
            .await
            .expect("leases");
        let listed: Vec<i64> = listed.leases.into_iter().map(|lease| lease.id).collect();
        assert_eq!(listed, [7]);
        client
            .lease_revoke(pb::LeaseRevokeRequest { id: 7 })
            .await
            .expect("it is there");
        assert!(keys(&client).await.is_empty());
    });
}

#[test]
fn a_leader_that_was_asleep_ends_nothing() {
    let mut cluster = Cluster::start(&support::callboard_bin(), 3);
    let first = leader(&cluster);
    let others: Vec<SocketAddr> = (0..3)
        .filter(|index| *index != first)
        .map(|index| cluster.members[index].client)
        .collect();
    let ttl = 3;
    let setup = others.clone();
    let lease = block_on(async move {
        let client = connect(&setup);
        let lease = grant(&client, 0, ttl).await;
        put(&client, "k", lease).await;
        lease
    });
    cluster.members[first].process().signal(libc::SIGSTOP);
    let awake = others.clone();
    block_on(async move {
        let client = connect(&awake).with_timeout(LIMIT);
        let stopped = Instant::now();
        // By the clock of the one that sleeps, it ends in the meantime.
        while stopped.elapsed() < Duration::from_secs(ttl as u64) + ELECTION {
            assert_eq!(client.keep_alive_once(lease).await.expect("an answer"), ttl);
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    });
    cluster.members[first].process().signal(libc::SIGCONT);
    let slept = cluster.members[first].client;
    block_on(async move {
        let client = connect(&others);
        let woken = Instant::now();
        while woken.elapsed() < Duration::from_secs(2) {
            assert_eq!(client.keep_alive_once(lease).await.expect("an answer"), ttl);
            assert_eq!(keys(&client).await, ["k"]);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(
            connect(&[slept]).keep_alive_once(lease).await.expect("an answer"),
            ttl
        );
    });
}

#[test]
fn many_leases_end_at_once() {
    const LEASES: usize = 3_000;
    let cluster = Cluster::start(&support::callboard_bin(), 3);
    let members: Vec<SocketAddr> = cluster.members.iter().map(|member| member.client).collect();
    block_on(async move {
        let client = connect(&members);
        let one = |number: usize| {
            let client = client.clone();
            async move {
                let lease = grant(&client, number as i64 + 1, 5).await;
                put(&client, &format!("k{number:05}"), lease).await;
            }
        };
        for begin in (0..LEASES).step_by(500) {
            futures_util::future::join_all((begin..begin + 500).map(one)).await;
        }
        let granted = Instant::now();
        let bound = granted + Duration::from_secs(5) + SLACK;
        while !keys(&client).await.is_empty() {
            assert!(
                Instant::now() < bound,
                "{} keys are left",
                keys(&client).await.len()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let left = client
            .lease_leases(pb::LeaseLeasesRequest {})
            .await
            .expect("leases");
        assert!(left.leases.is_empty(), "{} leases are left", left.leases.len());
    });
}
