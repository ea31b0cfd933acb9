//! Thousands of callers that wait: for one lock, to lead, or for anything to happen on idle streams. Waiting has to cost
//! what a small struct costs, and nobody else may notice.
//!
//! `CALLBOARD_BIN` may name an etcd, whose figures are printed then instead of judged; `HOSTILE_WAITERS` another number
//! of callers.

use crate::bystander::Bystander;
use crate::scene::{Scene, memory};
use crate::support;
use crate::{ATTACK_MIN, P99_MAX};
use callboard::client::{self, Channel};
use callboard::proto::etcdserverpb as pb;
use callboard::proto::v3lockpb::lock_client::LockClient;
use callboard::proto::v3lockpb::{LockRequest, UnlockRequest};
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};
use support::cluster::Cluster;
use support::kv_client::{Client, block_on};
use tokio::task::{JoinHandle as Task, spawn_local};

/// Nothing takes longer.
const LIMIT: Duration = Duration::from_mins(2);
/// What a member's memory may grow by for each of its callers, on a connection that it shares and on one of its own.
const SHARED_BYTES_MAX: u64 = 16 * 1024;
const ALONE_BYTES_MAX: u64 = 64 * 1024;
/// What it may grow by besides.
const SLACK_BYTES: u64 = 24 << 20;

fn waiters() -> usize {
    let named = std::env::var("HOSTILE_WAITERS").ok();
    named.map_or(2_000, |count| count.parse().expect("a number"))
}

/// Figures of another program are only shown.
fn is_judged() -> bool {
    std::env::var_os("CALLBOARD_BIN").is_none()
}

/// Processor time that a process has taken.
fn processor_time(process: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("the process runs");
    let (_, fields) = stat.rsplit_once(')').expect("a name in parentheses");
    let fields = fields.split_whitespace().skip(11).take(2);
    // In hundredths of a second.
    Duration::from_millis(
        10 * fields
            .map(|ticks| ticks.parse::<u64>().expect("a number"))
            .sum::<u64>(),
    )
}

#[derive(Clone, Debug)]
struct Usage {
    memory: Vec<u64>,
    processors: Duration,
}

fn usage(cluster: &mut Cluster) -> Usage {
    let ids: Vec<u32> = cluster
        .members
        .iter_mut()
        .map(|member| member.process().id())
        .collect();
    Usage {
        memory: ids.iter().map(|id| memory(*id, "VmRSS:")).collect(),
        processors: ids.iter().map(|id| processor_time(*id)).sum(),
    }
}

/// Others who put and get meanwhile, one at each member.
struct Bystanders(Vec<Bystander>);

impl Bystanders {
    fn start(members: &[SocketAddr]) -> Self {
        Self(members.iter().map(|member| Bystander::start(*member)).collect())
    }

    /// The longest of their 99th percentiles.
    fn stop(self) -> Duration {
        let latencies = self.0.into_iter().map(Bystander::stop);
        let p99s = latencies.map(|latencies| latencies.put_p99().max(latencies.get_p99()));
        p99s.max().expect("there is one")
    }
}

async fn connect(member: SocketAddr) -> Channel {
    let address = member.to_string();
    Channel::connect(&address, &address).await.expect("a connection")
}

/// Leases with these ids.
async fn grant(client: &Client, ids: std::ops::RangeInclusive<i64>) {
    let client = &client;
    futures_util::stream::StreamExt::for_each_concurrent(
        futures_util::stream::iter(ids),
        64,
        |id| async move {
            client.lease_grant(id, 3_600).await.acked().expect("a lease");
        },
    )
    .await;
}

/// The keys of the queue, the oldest first.
async fn queue(client: &Client) -> Vec<String> {
    let request = pb::RangeRequest {
        key: "lock/".into(),
        range_end: "lock0".into(),
        sort_order: pb::range_request::SortOrder::Ascend.into(),
        sort_target: pb::range_request::SortTarget::Create.into(),
        keys_only: true,
        ..pb::RangeRequest::default()
    };
    let found = client.range(request).await.acked().expect("a range");
    let keys = found.kvs.into_iter().map(|kv| kv.key);
    keys.map(|key| String::from_utf8(key.to_vec()).expect("text"))
        .collect()
}

async fn wait_for_queue(client: &Client, length: usize) {
    let deadline = Instant::now() + LIMIT;
    loop {
        let found = queue(client).await.len();
        if found == length {
            return;
        }
        assert!(Instant::now() < deadline, "{found} keys, not {length}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn term(client: &Client) -> u64 {
    client.status().await.acked().expect("a status").raft_term
}

async fn lock(channel: Channel, lease: i64) -> String {
    let request = LockRequest {
        name: "lock".into(),
        lease,
    };
    let response = LockClient::new(channel).lock(request).await.expect("the lock");
    String::from_utf8(response.into_inner().key.to_vec()).expect("text")
}

async fn unlock(channel: Channel, key: &str) {
    let request = UnlockRequest {
        key: key.to_owned().into(),
    };
    LockClient::new(channel).unlock(request).await.expect("an answer");
}

/// The callers of a test.
struct Callers {
    tasks: Vec<Task<()>>,
    /// Keys in the order in which their callers got the lock.
    holders: Rc<RefCell<Vec<String>>>,
}

/// Has callers with leases from 1 on wait for the lock and pass it on as soon as they have it, `per_connection` of them
/// on each of these connections.
fn call(channels: Vec<Channel>, per_connection: usize) -> Callers {
    let holders: Rc<RefCell<Vec<String>>> = Rc::default();
    let concurrent = Rc::new(Cell::new(0_usize));
    let mut tasks = vec![];
    let mut lease = 0;
    for channel in channels {
        for _ in 0..per_connection {
            lease += 1;
            let lease = lease;
            let (channel, holders, concurrent) =
                (channel.clone(), Rc::clone(&holders), Rc::clone(&concurrent));
            tasks.push(spawn_local(async move {
                let key = lock(channel.clone(), lease).await;
                assert_eq!(
                    concurrent.replace(concurrent.get() + 1),
                    0,
                    "one holder at a time"
                );
                holders.borrow_mut().push(key.clone());
                concurrent.set(concurrent.get() - 1);
                unlock(channel, &key).await;
            }));
        }
    }
    Callers { tasks, holders }
}

/// What a cluster makes of callers, so many on one connection.
fn wait_for_one_lock(per_connection: usize, bytes_max: u64) {
    let count = waiters() / per_connection * per_connection;
    let mut scene = Scene::start(3);
    let cluster = &mut scene.cluster;
    let members: Vec<SocketAddr> = cluster.members.iter().map(|member| member.client).collect();
    block_on(async move {
        let client = Client::new(&members[..1], LIMIT);
        grant(&client, 1..=count as i64 + 1).await;
        let holder = connect(members[0]).await;
        let held = lock(holder.clone(), count as i64 + 1).await;
        let term_before = term(&client).await;
        let before = usage(cluster);
        // Before others look on: what a storm of connections does is told elsewhere.
        let mut channels = vec![];
        for number in 0..count / per_connection {
            channels.push(connect(members[number % members.len()]).await);
        }
        let bystanders = Bystanders::start(&members);
        let began = Instant::now();
        let callers = call(channels, per_connection);
        wait_for_queue(&client, count + 1).await;
        let queued = began.elapsed();
        tokio::time::sleep(ATTACK_MIN.saturating_sub(queued)).await;
        let p99 = bystanders.stop();
        let waiting = usage(cluster);
        let grown = before.memory.iter().zip(&waiting.memory);
        let grown: Vec<u64> = grown.map(|(before, now)| now.saturating_sub(*before)).collect();
        let processors = waiting.processors.saturating_sub(before.processors);
        println!(
            "{count} callers, {per_connection} on a connection: queued after {queued:.2?}, {processors:.2?} of \
             processors; memory grew by {:?} KiB on the members, {:.1} KiB a caller; p99 of other requests \
             {p99:.2?}",
            grown.iter().map(|bytes| bytes / 1024).collect::<Vec<_>>(),
            grown.iter().sum::<u64>() as f64 / 1024.0 / count as f64,
        );
        if is_judged() {
            let share = (count / members.len()) as u64;
            for grown in &grown {
                assert!(
                    *grown < SLACK_BYTES + share * bytes_max,
                    "{grown} bytes for {share} callers"
                );
            }
            assert!(p99 < P99_MAX, "{p99:?}");
        }

        let bystanders = Bystanders::start(&members);
        // Every fourth gives up.
        let mut expected = queue(&client).await;
        let mut leaving = 0;
        for (index, task) in callers.tasks.iter().enumerate() {
            if index % 4 == 3 {
                task.abort();
                let key = format!("lock/{:x}", index + 1);
                expected.retain(|other| *other != key);
                leaving += 1;
            }
        }
        let began = Instant::now();
        wait_for_queue(&client, count + 1 - leaving).await;
        let left = began.elapsed();
        // The others pass it on.
        let began = Instant::now();
        unlock(holder, &held).await;
        for (index, task) in callers.tasks.into_iter().enumerate() {
            if index % 4 != 3 {
                tokio::time::timeout(LIMIT, task)
                    .await
                    .expect("in time")
                    .expect("it held the lock");
            }
        }
        let handed_on = began.elapsed();
        let p99 = bystanders.stop();
        let passed = usage(cluster).processors.saturating_sub(waiting.processors);
        println!(
            "{leaving} left after {left:.2?}; {} passed it on within {handed_on:.2?}, {passed:.2?} of processors; p99 of \
             other requests {p99:.2?}",
            count - leaving,
        );
        assert_eq!(expected.remove(0), held);
        assert!(
            *callers.holders.borrow() == expected,
            "they came in the order of their keys"
        );
        wait_for_queue(&client, 0).await;
        if is_judged() {
            assert!(p99 < P99_MAX, "{p99:?}");
            assert_eq!(term(&client).await, term_before, "no election");
        }
    });
}

#[test]
fn callers_on_few_connections_wait_for_one_lock() {
    wait_for_one_lock(100, SHARED_BYTES_MAX);
}

#[test]
fn callers_on_connections_of_their_own_wait_for_one_lock() {
    wait_for_one_lock(1, ALONE_BYTES_MAX);
}

/// What an idle stream of each kind may take, and a watcher on one.
const STREAM_BYTES_MAX: u64 = 12 * 1024;
const WATCHER_BYTES_MAX: u64 = 1024;

#[test]
fn idle_streams_take_little() {
    const STREAMS: usize = 1_000;
    const WATCHERS_PER_STREAM: usize = 20;
    let mut scene = Scene::start(1);
    let cluster = &mut scene.cluster;
    let member = cluster.members[0].client;
    block_on(async move {
        let connect = || {
            let endpoints = client::parse_endpoints([member.to_string()]).expect("an endpoint");
            let options = client::Options {
                request_timeout: LIMIT,
                ..client::Options::default()
            };
            client::Client::start(endpoints, options).expect("an endpoint")
        };
        let other = Client::new(&[member], LIMIT);
        grant(&other, 1..=1).await;
        let watched = |number: usize| pb::WatchCreateRequest {
            key: format!("key-{number:06}").into(),
            ..pb::WatchCreateRequest::default()
        };
        let first = connect();
        // What the first of each kind takes once is no stream's.
        let warm = (
            first.watch_stream(watched(0)).await.expect("a stream"),
            first.keep_alive_stream(1).await.expect("a stream"),
            first.observe("nobody".into()).await.expect("a stream"),
        );
        let mut last = usage(cluster).memory[0];
        let mut judge = |what: &str, count: usize, bytes_max: u64| {
            let now = usage(cluster).memory[0];
            let grown = now.saturating_sub(std::mem::replace(&mut last, now));
            println!("{what}: {:.2} KiB each", grown as f64 / 1024.0 / count as f64);
            if is_judged() {
                assert!(
                    grown < SLACK_BYTES / 8 + count as u64 * bytes_max,
                    "{what}: {grown} bytes"
                );
            }
        };
        let mut watches = vec![];
        for number in 0..STREAMS {
            let mut stream = first.watch_stream(watched(number)).await.expect("a stream");
            assert!(stream.next().await.expect("sound").expect("an answer").created);
            watches.push(stream);
        }
        judge("watch streams", STREAMS, STREAM_BYTES_MAX);
        for (number, stream) in watches.iter_mut().enumerate() {
            for watcher in 1..=WATCHERS_PER_STREAM {
                stream.create(watched(STREAMS * watcher + number));
            }
            for _ in 0..WATCHERS_PER_STREAM {
                assert!(stream.next().await.expect("sound").expect("an answer").created);
            }
        }
        judge("watchers", STREAMS * WATCHERS_PER_STREAM, WATCHER_BYTES_MAX);
        let (second, third) = (connect(), connect());
        let mut keep_alives = vec![];
        for _ in 0..STREAMS {
            let mut stream = second.keep_alive_stream(1).await.expect("a stream");
            assert!(stream.next().await.expect("sound").expect("an answer").ttl > 0);
            keep_alives.push(stream);
        }
        judge("keep-alive streams", STREAMS, STREAM_BYTES_MAX);
        let mut observers = vec![];
        for _ in 0..STREAMS {
            observers.push(third.observe("nobody".into()).await.expect("a stream"));
        }
        judge("observers", STREAMS, STREAM_BYTES_MAX);
        drop((warm, watches, keep_alives, observers));
    });
}
