//! How streams end that their clients would leave open: when their member has lost its leader, for those that asked to be
//! told, and when their member stops.
#![cfg(not(madsim))]
#![allow(clippy::disallowed_methods)] // the tests live in the real world

mod support;

use callboard::client::{Client, KeepAliveStream, ObserveStream, Options, WatchStream, parse_endpoints};
use callboard::proto::etcdserverpb as pb;
use callboard::proto::v3electionpb::CampaignRequest;
use callboard::proto::v3lockpb::LockRequest;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use support::cluster::Cluster;
use support::kv_client::block_on;
use tonic::{Code, Status};

const LIMIT: Duration = Duration::from_secs(30);
/// Requests under way get 5 seconds to end. None is.
const STOP_MAX: Duration = Duration::from_secs(4);

fn connect(member: SocketAddr, require_leader: bool) -> Client {
    let endpoints = parse_endpoints([member.to_string()]).expect("an address is an endpoint");
    let options = Options {
        require_leader,
        request_timeout: LIMIT,
        ..Options::default()
    };
    Client::start(endpoints, options).expect("at least one endpoint")
}

/// One of each kind, all of them idle.
struct Streams {
    watch: WatchStream,
    keep_alive: KeepAliveStream,
    observe: ObserveStream,
}

async fn open(client: &Client, lease: i64) -> Streams {
    let watched = pb::WatchCreateRequest {
        key: "k".into(),
        ..pb::WatchCreateRequest::default()
    };
    let mut streams = Streams {
        watch: client.watch_stream(watched).await.expect("a stream"),
        keep_alive: client.keep_alive_stream(lease).await.expect("a stream"),
        observe: client.observe("e".into()).await.expect("a stream"),
    };
    let created = streams.watch.next().await.expect("sound").expect("an answer");
    assert!(created.created);
    let alive = streams
        .keep_alive
        .next()
        .await
        .expect("sound")
        .expect("an answer");
    assert_eq!(alive.ttl, 600);
    streams
        .observe
        .next()
        .await
        .expect("sound")
        .expect("somebody leads");
    streams
}

impl Streams {
    /// How each of them ends.
    async fn ends(mut self) -> [Status; 3] {
        let ends = async {
            [
                self.watch.next().await.expect_err("it ends with a status"),
                self.keep_alive.next().await.expect_err("it ends with a status"),
                self.observe.next().await.expect_err("it ends with a status"),
            ]
        };
        let ends = tokio::time::timeout(LIMIT, ends).await;
        ends.expect("every stream ends in time")
    }
}

async fn grant(client: &Client) -> i64 {
    let request = pb::LeaseGrantRequest { id: 0, ttl: 600 };
    let lease = client.lease_grant(request).await.expect("a lease").id;
    let request = CampaignRequest {
        name: "e".into(),
        lease,
        value: "leader".into(),
    };
    client.campaign(request).await.expect("nobody leads");
    lease
}

fn assert_all(ends: &[Status], code: Code, text: &str) {
    for end in ends {
        assert_eq!((end.code(), end.message()), (code, text));
    }
}

#[test]
fn who_wants_a_leader_hears_that_there_is_none() {
    let mut cluster = Cluster::start(&support::callboard_bin(), 3);
    let member = cluster.members[0].client;
    block_on(async {
        let patient = connect(member, false);
        let lease = grant(&patient).await;
        let mut waiting = open(&patient, lease).await;
        let asking = open(&connect(member, true), lease).await;
        for other in &mut cluster.members[1..] {
            other.kill();
        }
        let killed = Instant::now();
        assert_all(&asking.ends().await, Code::Unavailable, "etcdserver: no leader");
        // An election timeout until it is missed, and three more.
        assert!(
            killed.elapsed() >= Duration::from_secs(3),
            "{:?}",
            killed.elapsed()
        );
        let refused = connect(member, true).keep_alive_stream(lease).await;
        let refused = refused.expect_err("refused at once");
        assert_eq!(
            refused.status().expect("a status").message(),
            "etcdserver: no leader"
        );
        for other in &mut cluster.members[1..] {
            other.start();
        }
        for other in &mut cluster.members[1..] {
            other.wait_ready().expect("a healthy member");
        }
        // Those who did not ask were left alone.
        let put = pb::PutRequest {
            key: "k".into(),
            ..pb::PutRequest::default()
        };
        patient.put(put).await.expect("a put");
        let told = tokio::time::timeout(LIMIT, waiting.watch.next()).await;
        assert_eq!(
            told.expect("in time").expect("sound").expect("more").events.len(),
            1
        );
        waiting.keep_alive.ask(lease);
        let told = tokio::time::timeout(LIMIT, waiting.keep_alive.next()).await;
        assert_eq!(told.expect("in time").expect("sound").expect("more").ttl, 600);
    });
}

#[test]
fn a_member_that_stops_says_so() {
    let mut cluster = Cluster::start(&support::callboard_bin(), 3);
    let member = cluster.members[0].client;
    let (ends, locked, took) = block_on(async {
        let client = connect(member, false);
        let lease = grant(&client).await;
        let streams = open(&client, lease).await;
        let lock = || {
            client.lock(LockRequest {
                name: "l".into(),
                lease: 0,
            })
        };
        lock().await.expect("nobody has it");
        let stop = async {
            // The other one waits by then.
            let queue = pb::RangeRequest {
                key: "l/".into(),
                range_end: "l0".into(),
                ..pb::RangeRequest::default()
            };
            while client.range(queue.clone()).await.expect("a range").count < 2 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            let stopped = Instant::now();
            cluster.members[0].process().signal(libc::SIGTERM);
            stopped
        };
        let (locked, ends, stopped) = tokio::join!(lock(), streams.ends(), stop);
        (ends, locked, stopped.elapsed())
    });
    assert_all(&ends, Code::Unavailable, "etcdserver: server stopped");
    let locked = locked.expect_err("the member has stopped");
    assert_eq!(
        locked.status().expect("a status").message(),
        "etcdserver: server stopped"
    );
    assert!(took < STOP_MAX, "{took:?}");
    let stopping = Instant::now();
    cluster.members[0].process().wait(LIMIT);
    assert!(stopping.elapsed() < STOP_MAX, "{:?}", stopping.elapsed());
    // Who waited there has left the queue.
    let other = cluster.members[1].client;
    block_on(async move {
        let queue = pb::RangeRequest {
            key: "l/".into(),
            range_end: "l0".into(),
            ..pb::RangeRequest::default()
        };
        let client = connect(other, false);
        let deadline = Instant::now() + LIMIT;
        while client.range(queue.clone()).await.expect("a range").count != 1 {
            assert!(Instant::now() < deadline, "a key is left behind");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
}
