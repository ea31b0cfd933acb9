//! Watchers on three members: over the death of the member they are connected to, and with a client that does not read.
#![cfg(not(madsim))]
#![allow(clippy::disallowed_methods)] // the tests live in the real world

mod support;

use callboard::client::{self, Options, Watched, parse_endpoints};
use callboard::proto::etcdserverpb::WatchCreateRequest;
use callboard::proto::mvccpb::Event;
use std::net::SocketAddr;
use std::time::Duration;
use support::cluster::Cluster;
use support::kv_client::{Client, Outcome, block_on};

const LIMIT: Duration = Duration::from_secs(30);

fn connect(members: &[SocketAddr]) -> client::Client {
    let endpoints =
        parse_endpoints(members.iter().map(ToString::to_string)).expect("addresses are endpoints");
    client::Client::start(endpoints, Options::default()).expect("at least one endpoint")
}

fn all_keys(start_revision: i64) -> WatchCreateRequest {
    WatchCreateRequest {
        key: "k".into(),
        range_end: "l".into(),
        start_revision,
        ..WatchCreateRequest::default()
    }
}

async fn put(client: &Client, number: usize, value: &[u8]) -> i64 {
    let key = format!("k{number:05}");
    let answer = client.put(key.as_bytes(), value).await;
    answer.acked().expect("a put").header.expect("a header").revision
}

/// Puts until it is known that one put took effect. Whichever did before took the revisions in between.
async fn put_for_certain(client: &Client, number: usize, value: &[u8]) -> i64 {
    let key = format!("k{number:05}");
    loop {
        match client.put(key.as_bytes(), value).await {
            Outcome::Unknown(_) => {}
            answer => return answer.acked().expect("a put").header.expect("a header").revision,
        }
    }
}

/// Revisions of the events, until `last` has come.
async fn follow(watcher: &mut client::Watcher, last: i64) -> Vec<i64> {
    let mut seen = vec![];
    while seen.last() != Some(&last) {
        let next = tokio::time::timeout(LIMIT, watcher.next()).await;
        match next.unwrap_or_else(|_| panic!("{:?} is the last that came", seen.last())) {
            Watched::Events { events, .. } => seen.extend(revisions(events)),
            Watched::Created { .. } | Watched::Progress { .. } => {}
            over => panic!("{over:?}"),
        }
    }
    seen
}

fn revisions(events: Vec<Event>) -> impl Iterator<Item = i64> {
    events
        .into_iter()
        .map(|event| event.kv.expect("a record").mod_revision)
}

#[test]
fn a_watcher_goes_on_where_it_was() {
    let mut cluster = Cluster::start(&support::callboard_bin(), 3);
    let addresses: Vec<SocketAddr> = cluster.members.iter().map(|member| member.client).collect();
    block_on(async {
        let mut watcher = connect(&addresses[..1]).watcher(all_keys(2));
        let writer = Client::new(&addresses[1..], LIMIT);
        let mut last = put(&writer, 0, b"v").await;
        assert_eq!(follow(&mut watcher, last).await, [last]);
        for _ in 0..3 {
            let seen_before = last;
            cluster.members[0].kill();
            for number in 0..40 {
                if number == 20 {
                    cluster.members[0].start();
                }
                last = put_for_certain(&writer, number, b"v").await;
            }
            cluster.members[0].wait_ready().expect("a healthy member");
            let expected: Vec<i64> = (seen_before + 1..=last).collect();
            assert_eq!(follow(&mut watcher, last).await, expected);
        }
    });
}

#[test]
fn a_client_that_does_not_read_misses_nothing_and_holds_nobody_back() {
    let cluster = Cluster::start(&support::callboard_bin(), 1);
    let address = cluster.members[0].client;
    block_on(async {
        let slow_client = connect(&[address]);
        let mut slow = slow_client.watch_stream(all_keys(0)).await.expect("a stream");
        let created = slow.next().await.expect("sound").expect("an answer");
        assert!(created.created);
        let mut fast = connect(&[address]).watcher(all_keys(2));
        let writer = Client::new(&[address], LIMIT);
        // Far more than the slow one's windows and the server's queue take.
        let value = vec![7; 512 * 1024];
        let mut last = 0;
        for number in 0..80 {
            last = put(&writer, number, &value).await;
        }
        assert_eq!(follow(&mut fast, last).await, (2..=last).collect::<Vec<_>>());
        let mut seen = vec![];
        while seen.last() != Some(&last) {
            let next = tokio::time::timeout(LIMIT, slow.next()).await;
            let response = next.expect("in time").expect("sound").expect("an answer");
            assert!(!response.canceled, "{response:?}");
            seen.extend(revisions(response.events));
        }
        assert_eq!(seen, (2..=last).collect::<Vec<_>>());
    });
}
