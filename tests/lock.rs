//! Locks and elections on three members: one holder at a time, and the next one's turn when the one before lets go, when
//! its lease ends, and when the leader of the cluster dies meanwhile.
#![cfg(not(madsim))]
#![allow(clippy::disallowed_methods)] // the tests live in the real world

mod support;

use callboard::client::{Client, Error, Options, parse_endpoints};
use callboard::proto::etcdserverpb as pb;
use callboard::proto::v3electionpb as election;
use callboard::proto::v3lockpb::{LockRequest, UnlockRequest};
use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use support::cluster::Cluster;
use support::kv_client::block_on;

/// Nobody waits longer for anything.
const LIMIT: Duration = Duration::from_mins(1);
/// Lateness that a busy machine may add.
const SLACK: Duration = Duration::from_secs(4);

fn connect(members: &[SocketAddr]) -> Client {
    let endpoints =
        parse_endpoints(members.iter().map(ToString::to_string)).expect("addresses are endpoints");
    let options = Options {
        request_timeout: LIMIT,
        ..Options::default()
    };
    Client::start(endpoints, options).expect("at least one endpoint")
}

fn addresses(cluster: &Cluster) -> Vec<SocketAddr> {
    cluster.members.iter().map(|member| member.client).collect()
}

/// Which member leads the cluster.
async fn leader(members: &[SocketAddr]) -> usize {
    for (index, member) in members.iter().enumerate() {
        let status = connect(&[*member]).status(pb::StatusRequest::default()).await;
        let status = status.expect("a status");
        if status.header.expect("a header").member_id == status.leader {
            return index;
        }
    }
    panic!("a healthy cluster has a leader")
}

async fn grant(client: &Client, ttl: i64) -> i64 {
    let request = pb::LeaseGrantRequest { id: 0, ttl };
    client.lease_grant(request).await.expect("a lease").id
}

async fn lock(client: &Client, name: &str, lease: i64) -> Result<String, Error> {
    let request = LockRequest {
        name: name.to_owned().into(),
        lease,
    };
    let response = client.lock(request).await?;
    Ok(String::from_utf8(response.key.to_vec()).expect("text"))
}

async fn unlock(client: &Client, key: &str) {
    let request = UnlockRequest {
        key: key.to_owned().into(),
    };
    client.unlock(request).await.expect("an answer");
}

async fn get(client: &Client, key: &str) -> Option<callboard::proto::mvccpb::KeyValue> {
    let request = pb::RangeRequest {
        key: key.to_owned().into(),
        ..pb::RangeRequest::default()
    };
    client.range(request).await.expect("a range").kvs.pop()
}

/// Keys that begin with this.
async fn count(client: &Client, prefix: &str) -> i64 {
    let request = pb::RangeRequest {
        key: prefix.to_owned().into(),
        range_end: format!("{prefix}\u{7f}").into(),
        count_only: true,
        ..pb::RangeRequest::default()
    };
    client.range(request).await.expect("a range").count
}

async fn wait_for_count(client: &Client, prefix: &str, expected: i64) {
    let deadline = Instant::now() + LIMIT;
    loop {
        let found = count(client, prefix).await;
        if found == expected {
            return;
        }
        assert!(Instant::now() < deadline, "{found} keys, not {expected}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Puts while a key is as it was created.
async fn put_fenced(client: &Client, key: &str, value: String, fence: (&str, i64)) -> bool {
    let put = pb::PutRequest {
        key: key.to_owned().into(),
        value: value.into(),
        ..pb::PutRequest::default()
    };
    let request = pb::TxnRequest {
        compare: vec![pb::Compare {
            result: CompareResult::Equal as i32,
            target: CompareTarget::Create as i32,
            key: fence.0.to_owned().into(),
            target_union: Some(TargetUnion::CreateRevision(fence.1)),
            ..pb::Compare::default()
        }],
        success: vec![pb::RequestOp {
            request: Some(pb::request_op::Request::RequestPut(put)),
        }],
        failure: vec![],
    };
    client.txn(request).await.expect("an answer").succeeded
}

#[test]
fn one_holder_at_a_time() {
    const CONTENDERS: usize = 6;
    const ROUNDS: usize = 5;
    let cluster = Cluster::start(&support::callboard_bin(), 3);
    let members = addresses(&cluster);
    block_on(async move {
        let contend = |number: usize| {
            let client = connect(&members[number % 3..=number % 3]);
            async move {
                let lease = grant(&client, 60).await;
                for _ in 0..ROUNDS {
                    let key = lock(&client, "one", lease).await.expect("the lock");
                    let fence = get(&client, &key).await.expect("the lock's key").create_revision;
                    // Nobody else reads between this and the put, or the sum is wrong.
                    let before = get(&client, "sum").await.map_or(0, |kv| {
                        String::from_utf8_lossy(&kv.value)
                            .parse::<usize>()
                            .expect("a number")
                    });
                    let sum = (before + 1).to_string();
                    assert!(put_fenced(&client, "sum", sum, (&key, fence)).await);
                    unlock(&client, &key).await;
                }
            }
        };
        futures_util::future::join_all((0..CONTENDERS).map(contend)).await;
        let sum = get(&connect(&members), "sum").await.expect("a sum").value;
        assert_eq!(sum, (CONTENDERS * ROUNDS).to_string());
        assert_eq!(count(&connect(&members), "one/").await, 0);
    });
}

#[test]
fn the_next_one_gets_it_when_the_one_before_lets_go_or_its_lease_ends() {
    let cluster = Cluster::start(&support::callboard_bin(), 3);
    let members = addresses(&cluster);
    block_on(async move {
        let clients: Vec<Client> = members.iter().map(|member| connect(&[*member])).collect();
        let ttl = 3;
        let first = lock(&clients[0], "l", 0).await.expect("nobody has it");
        // The next in line lives on a lease that nobody keeps alive, and has it from the unlock on.
        let second = async {
            let lease = grant(&clients[1], ttl).await;
            let granted = Instant::now();
            let key = lock(&clients[1], "l", lease).await.expect("its turn");
            assert_eq!(key, format!("l/{lease:x}"));
            (granted, Instant::now())
        };
        let third = async {
            wait_for_count(&clients[2], "l/", 2).await;
            lock(&clients[2], "l", 0).await.expect("its turn");
            Instant::now()
        };
        let release = async {
            wait_for_count(&clients[0], "l/", 3).await;
            unlock(&clients[0], &first).await;
            Instant::now()
        };
        let ((granted, second), third, released) = tokio::join!(second, third, release);
        assert!(second - released < SLACK, "{:?}", second - released);
        let ttl = Duration::from_secs(ttl as u64);
        assert!(
            third - granted >= ttl,
            "before the lease ended: {:?}",
            third - granted
        );
        assert!(third - granted < ttl + SLACK, "{:?}", third - granted);
    });
}

#[test]
fn who_gives_up_leaves_no_key_behind() {
    let cluster = Cluster::start(&support::callboard_bin(), 3);
    let members = addresses(&cluster);
    block_on(async move {
        let client = connect(&members);
        let first = lock(&client, "l", 0).await.expect("nobody has it");
        for member in &members {
            // By the deadline that the server is told of.
            let hasty = connect(&[*member]).with_timeout(Duration::from_millis(300));
            lock(&hasty, "l", 0).await.expect_err("somebody else has it");
            wait_for_count(&client, "l/", 1).await;
            // By a stream that is reset.
            let patient = connect(&[*member]);
            tokio::select! {
                biased;
                key = lock(&patient, "l", 0) => panic!("{key:?}"),
                () = wait_for_count(&client, "l/", 2) => {}
            }
            wait_for_count(&client, "l/", 1).await;
        }
        unlock(&client, &first).await;
        lock(&client, "l", 0).await.expect("nobody has it");
    });
}

#[test]
fn waiting_outlives_the_leader() {
    let mut cluster = Cluster::start(&support::callboard_bin(), 3);
    let members = addresses(&cluster);
    let to_watch = members.clone();
    let first = block_on(async move { leader(&to_watch).await });
    let survivors: Vec<SocketAddr> = (0..3)
        .filter(|index| *index != first)
        .map(|index| members[index])
        .collect();
    block_on(async {
        let holder = connect(&survivors[..1]);
        let key = lock(&holder, "l", 0).await.expect("nobody has it");
        let campaigning = connect(&survivors[1..]);
        let elected = campaign(&holder, "e", "first").await;
        let waiting = connect(&survivors[1..]);
        let wait = async {
            let locked = lock(&waiting, "l", 0).await.expect("its turn");
            let elected = campaign(&campaigning, "e", "second");
            (locked, elected.await, Instant::now())
        };
        let kill = async {
            wait_for_count(&holder, "l/", 2).await;
            cluster.members[first].kill();
            // The others have elected another leader when this is answered.
            assert_eq!(
                count(&holder, "l/").await,
                2,
                "the leader's death changes nothing"
            );
            unlock(&holder, &key).await;
            wait_for_count(&holder, "e/", 2).await;
            let resigned = election::ResignRequest {
                leader: Some(elected.clone()),
            };
            holder.resign(resigned).await.expect("it led");
            Instant::now()
        };
        let ((locked, second, at), resigned) = tokio::join!(wait, kill);
        assert!(locked.starts_with("l/") && second.rev > elected.rev);
        assert!(
            at.saturating_duration_since(resigned) < SLACK,
            "{:?}",
            at - resigned
        );
        let deposed = election::ProclaimRequest {
            leader: Some(elected),
            value: "late".into(),
        };
        let refused = holder.proclaim(deposed).await.expect_err("another leads");
        let text = refused.status().expect("a status").message();
        assert_eq!(text, "election: not leader");
    });
}

async fn campaign(client: &Client, name: &str, value: &str) -> election::LeaderKey {
    let request = election::CampaignRequest {
        name: name.to_owned().into(),
        lease: 0,
        value: value.to_owned().into(),
    };
    let response = client.campaign(request).await.expect("its turn");
    response.leader.expect("a leader")
}

#[test]
fn observers_see_one_leader_after_the_other() {
    const LEADERS: usize = 4;
    const PROCLAIMED: usize = 20;
    let cluster = Cluster::start(&support::callboard_bin(), 3);
    let members = addresses(&cluster);
    block_on(async move {
        let lead = |number: usize| {
            let client = connect(&members[number % 3..=number % 3]);
            async move {
                let leader = campaign(&client, "e", &format!("{number}.0")).await;
                for count in 1..=PROCLAIMED {
                    let request = election::ProclaimRequest {
                        leader: Some(leader.clone()),
                        value: format!("{number}.{count}").into(),
                    };
                    client.proclaim(request).await.expect("it leads");
                }
                let leader = Some(leader);
                client
                    .resign(election::ResignRequest { leader })
                    .await
                    .expect("it led");
            }
        };
        let observe = |member: SocketAddr| async move {
            let client = connect(&[member]);
            let mut stream = client.observe("e".into()).await.expect("a stream");
            // Leaders in the order of their keys, each with what it proclaims from the first that was seen on.
            let (mut leader, mut leaders, mut last) = (0, 0, 0);
            while (leaders, last) != (LEADERS, PROCLAIMED) {
                let next = tokio::time::timeout(LIMIT, stream.next()).await;
                let response = next.expect("in time").expect("sound").expect("more");
                let kv = response.kv.expect("a key");
                let value = String::from_utf8(kv.value.to_vec()).expect("text");
                let count = value.split_once('.').expect("leader and count").1;
                let count: usize = count.parse().expect("a number");
                if kv.create_revision == leader {
                    assert_eq!(count, last + 1, "of {value}");
                } else {
                    assert!(kv.create_revision > leader, "{value} comes late");
                    leader = kv.create_revision;
                    leaders += 1;
                }
                last = count;
            }
        };
        let observers = futures_util::future::join_all(members.iter().map(|member| observe(*member)));
        let leaders = futures_util::future::join_all((0..LEADERS).map(lead));
        tokio::join!(observers, leaders);
    });
}
