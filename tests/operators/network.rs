//! Three members, each in a network namespace, and a client in a fourth: real sockets under partitions, loss and delay. What was
//! acknowledged is there afterwards, on every member, and a majority goes on within three seconds.

use super::netns::Net;
use super::scene::Scene;
use super::support::kv_client::{Client, Outcome, ask, block_on};
use super::support::poll;
use super::support::process::Process;
use callboard::proto::etcdserverpb::{HashKvResponse, RangeRequest};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const MEMBERS: usize = 3;
/// The host of the clients.
const CLIENT: usize = 3;
/// A majority that is connected acknowledges writes within this time.
const RESUME_LIMIT: Duration = Duration::from_secs(3);
/// An election in which two members stand at the same moment has no winner; the next comes no later than this (two election
/// timeouts).
const NEXT_ELECTION_LIMIT: Duration = Duration::from_secs(2);
/// A put gets so long where times are measured: longer than it takes where all is well, and short against the times. One that went
/// to a leader that is gone is lost.
const PUT_LIMIT: Duration = Duration::from_millis(200);
/// What takes longer, where nothing is measured.
const PATIENT_LIMIT: Duration = Duration::from_secs(3);
const ASK_LIMIT: Duration = Duration::from_secs(2);
const SETTLE_LIMIT: Duration = Duration::from_secs(30);
/// How long a fault lasts that nothing is measured of.
const FAULT: Duration = Duration::from_secs(6);

/// A put that was acknowledged.
struct Put {
    key: String,
    sent: Instant,
    answered: Instant,
}

/// Puts one key after the other at one member.
struct Writer {
    acked: Arc<Mutex<Vec<Put>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    fn start(net: &Arc<Net>, name: String, member: SocketAddr, limit: Duration) -> Self {
        let (acked, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (net, kept, stopped) = (Arc::clone(net), Arc::clone(&acked), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            net.enter(CLIENT);
            block_on(async {
                let client = Client::new(&[member], limit);
                let mut number = 0;
                while !stopped.load(Ordering::Relaxed) {
                    number += 1;
                    let key = format!("{name}/{number:06}");
                    let sent = Instant::now();
                    if let Outcome::Acked(_) = client.put(key.as_bytes(), key.as_bytes()).await {
                        let answered = Instant::now();
                        kept.lock().expect("no panics").push(Put { key, sent, answered });
                    }
                    callboard::env::sleep(Duration::from_millis(5)).await;
                }
            });
        });
        Self {
            acked,
            stop,
            thread: Some(thread),
        }
    }

    fn count(&self) -> usize {
        self.acked.lock().expect("no panics").len()
    }

    /// How long after `moment` the first put was acknowledged that was sent since.
    fn resumed_after(&self, moment: Instant) -> Option<Duration> {
        let acked = self.acked.lock().expect("no panics");
        let mut since = acked.iter().filter(|put| put.sent >= moment);
        since.next().map(|put| put.answered - moment)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("it does not panic");
        }
    }
}

/// From when on a majority is connected, and after how many elections.
struct Since {
    moment: Instant,
    term: u64,
}

impl Since {
    fn now(term: u64) -> Self {
        Self {
            moment: Instant::now(),
            term,
        }
    }
}

/// The members at work.
struct Stage {
    members: Vec<Process>,
    net: Arc<Net>,
    round: usize,
    acked: BTreeMap<String, String>,
    _scene: Scene,
}

fn client_of(net: &Net, host: usize) -> SocketAddr {
    SocketAddr::from((net.address(host), 2379))
}

impl Stage {
    /// Nothing where this machine does not let a test make networks, which is said.
    fn new() -> Option<Self> {
        Self::with_delay(Duration::ZERO)
    }

    /// What a member sends takes as long, and what it hears.
    fn with_delay(delay: Duration) -> Option<Self> {
        let scene = Scene::alone();
        let mut delays = [delay; MEMBERS + 1];
        delays[CLIENT] = Duration::ZERO;
        let net = match Net::of(&delays) {
            Ok(net) => Arc::new(net),
            Err(reason) => {
                println!("skipped: {reason}");
                return None;
            }
        };
        let cluster: Vec<String> = (0..MEMBERS)
            .map(|host| format!("n{host}=http://{}:2380", net.address(host)))
            .collect();
        let members = (0..MEMBERS).map(|host| {
            let (address, namespace) = (net.address(host), net.namespace(host));
            let line = format!(
                "ip netns exec {namespace} etcd --name n{host} --data-dir {} --listen-client-urls \
                 http://{address}:2379 --advertise-client-urls http://{address}:2379 --listen-peer-urls \
                 http://{address}:2380 --initial-advertise-peer-urls http://{address}:2380 --initial-cluster {}",
                scene.file(&format!("n{host}")),
                cluster.join(",")
            );
            scene.start(&format!("n{host}"), &line, &[])
        });
        let mut stage = Self {
            members: members.collect(),
            net,
            round: 0,
            acked: BTreeMap::new(),
            _scene: scene,
        };
        stage.wait_for_leader();
        Some(stage)
    }

    /// Asks a member from the client's host.
    fn ask<T: Send>(
        &self,
        host: usize,
        limit: Duration,
        send: impl AsyncFnOnce(Client) -> Outcome<T> + Send,
    ) -> Result<T, String> {
        let member = client_of(&self.net, host);
        std::thread::scope(|scope| {
            let asked = scope.spawn(|| {
                self.net.enter(CLIENT);
                ask(member, limit, send).acked()
            });
            asked.join().expect("it does not panic")
        })
    }

    /// The host that leads, once all say so.
    fn wait_for_leader(&mut self) -> usize {
        let outcome = poll::until(SETTLE_LIMIT, || {
            let status = |host| self.ask(host, ASK_LIMIT, async |client| client.status().await);
            let all: Vec<_> = (0..MEMBERS).map(status).collect::<Result<_, _>>()?;
            let leads = |leader: u64| {
                let ids = all
                    .iter()
                    .map(|status| status.header.unwrap_or_default().member_id);
                ids.enumerate().find(|(_, id)| *id == leader)
            };
            match leads(all[0].leader) {
                Some((host, id)) if all.iter().all(|status| status.leader == id) => Ok(host),
                _ => Err("they do not agree on a leader".to_owned()),
            }
        });
        outcome.unwrap_or_else(|complaint| panic!("{complaint}\n{}", self.logs()))
    }

    fn logs(&self) -> String {
        let logs: Vec<String> = self.members.iter().map(Process::tail).collect();
        logs.join("\n")
    }

    /// A writer at every member.
    fn write(&mut self, limit: Duration) -> Vec<Writer> {
        self.round += 1;
        let writer = |host| {
            let name = format!("round{}/n{host}", self.round);
            Writer::start(&self.net, name, client_of(&self.net, host), limit)
        };
        let writers: Vec<Writer> = (0..MEMBERS).map(writer).collect();
        let look = || {
            let all_write = writers.iter().all(|writer| writer.count() > 0);
            all_write.then_some(()).ok_or("not everybody writes")
        };
        poll::until(SETTLE_LIMIT, look).unwrap_or_else(|complaint| panic!("{complaint}\n{}", self.logs()));
        writers
    }

    /// How many elections there have been, as a member knows.
    fn term(&self, host: usize) -> u64 {
        let status = self.ask(host, ASK_LIMIT, async |client| client.status().await);
        status
            .unwrap_or_else(|complaint| panic!("{complaint}\n{}", self.logs()))
            .raft_term
    }

    /// Fails unless writes at these members are acknowledged soon after a moment.
    fn assert_resumes(&self, what: &str, writers: &[Writer], hosts: &[usize], since: &Since) {
        let mut took_longest = Duration::ZERO;
        for host in hosts {
            let look = || {
                writers[*host]
                    .resumed_after(since.moment)
                    .ok_or("no put is acknowledged")
            };
            let took = poll::until(SETTLE_LIMIT, look)
                .unwrap_or_else(|complaint| panic!("{what}: n{host}: {complaint}\n{}", self.logs()));
            println!("{what}: n{host} goes on after {took:?}");
            took_longest = took_longest.max(took);
        }
        let elections = self.term(hosts[0]) - since.term;
        let without_winner = elections.saturating_sub(1) as u32;
        let limit = RESUME_LIMIT + NEXT_ELECTION_LIMIT * without_winner;
        assert!(
            took_longest <= limit,
            "{what}: after {took_longest:?}, with {elections} elections\n{}",
            self.logs()
        );
    }

    /// Nobody writes any more, and nothing is wrong with the network: all members have the same, and everything acknowledged.
    fn settle(&mut self, what: &str, writers: Vec<Writer>) {
        for writer in writers {
            let acked = Arc::clone(&writer.acked);
            drop(writer);
            let puts = acked.lock().expect("no panics");
            let puts = puts.iter().map(|put| (put.key.clone(), put.key.clone()));
            self.acked.extend(puts);
        }
        self.wait_for_leader();
        let hashes = || {
            let hash = |host| self.ask(host, ASK_LIMIT, async |client| client.hash_kv(0).await);
            let all: Vec<HashKvResponse> = (0..MEMBERS).map(hash).collect::<Result<_, _>>()?;
            let of = |answer: &HashKvResponse| (answer.hash_revision, answer.hash, answer.compact_revision);
            let are_equal = all.iter().all(|answer| of(answer) == of(&all[0]));
            are_equal.then_some(()).ok_or_else(|| format!("{all:?}"))
        };
        poll::until(SETTLE_LIMIT, hashes)
            .unwrap_or_else(|complaint| panic!("{what}: {complaint}\n{}", self.logs()));
        for host in 0..MEMBERS {
            let range = RangeRequest {
                key: b"round".to_vec().into(),
                range_end: b"rounf".to_vec().into(),
                serializable: true,
                ..RangeRequest::default()
            };
            let pairs = self.ask(host, SETTLE_LIMIT, async |client| client.range(range).await);
            let pairs = pairs.expect("all pairs").kvs.into_iter().map(|pair| {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                (text(&pair.key), text(&pair.value))
            });
            let found: BTreeMap<String, String> = pairs.collect();
            let lost: Vec<_> = self
                .acked
                .iter()
                .filter(|(key, value)| found.get(*key) != Some(value))
                .collect();
            assert!(lost.is_empty(), "{what}: n{host} lacks {lost:?}");
        }
        println!(
            "{what}: {} acknowledged puts are on every member",
            self.acked.len()
        );
    }
}

fn others(host: usize) -> Vec<usize> {
    (0..MEMBERS).filter(|other| *other != host).collect()
}

#[test]
fn a_majority_goes_on_within_three_seconds_of_a_partition() {
    let Some(mut stage) = Stage::new() else { return };
    let net = Arc::clone(&stage.net);
    for (what, hears, is_heard) in [
        ("the leader is cut off", false, false),
        ("the leader hears nothing", false, true),
        ("nobody hears the leader", true, false),
    ] {
        let leader = stage.wait_for_leader();
        let majority = others(leader);
        let writers = stage.write(PUT_LIMIT);
        let term = stage.term(leader);
        for other in &majority {
            if !hears {
                net.cut(*other, leader);
            }
            if !is_heard {
                net.cut(leader, *other);
            }
        }
        stage.assert_resumes(what, &writers, &majority, &Since::now(term));
        std::thread::sleep(FAULT);
        let term = stage.term(majority[0]);
        net.mend_all();
        let back = format!("{what}, and is back");
        stage.assert_resumes(&back, &writers, &[leader], &Since::now(term));
        stage.settle(what, writers);
    }
}

#[test]
fn two_members_of_three_that_reach_each_other_again_go_on_within_three_seconds() {
    let Some(mut stage) = Stage::new() else { return };
    let net = Arc::clone(&stage.net);
    // What was sent meanwhile is sent again later and later, until the members give their connections up after five seconds.
    for apart in [1_000, 3_500, 4_500, 8_000].map(Duration::from_millis) {
        let what = format!("all are apart for {apart:?}");
        let leader = stage.wait_for_leader();
        let writers = stage.write(PUT_LIMIT);
        let term = stage.term(leader);
        for host in 0..MEMBERS {
            for other in others(host) {
                net.cut(other, host);
            }
        }
        let cut = Instant::now();
        std::thread::sleep(apart);
        for writer in &writers {
            assert_eq!(writer.resumed_after(cut), None, "{what}: nobody has a majority");
        }
        // The two that did not lead.
        let majority = others(leader);
        for host in &majority {
            net.mend(*host);
            net.cut(leader, *host);
        }
        stage.assert_resumes(&what, &writers, &majority, &Since::now(term));
        net.mend_all();
        stage.settle(&what, writers);
    }
}

#[test]
fn nothing_acknowledged_is_lost_where_three_of_ten_packets_are() {
    let Some(mut stage) = Stage::new() else { return };
    let net = Arc::clone(&stage.net);
    let writers = stage.write(PATIENT_LIMIT);
    for host in 0..MEMBERS {
        if let Err(reason) = net.lose(host, 30) {
            println!("skipped: {reason}");
            return;
        }
    }
    let lossy = Instant::now();
    std::thread::sleep(2 * FAULT);
    let survived = writers
        .iter()
        .filter(|writer| writer.resumed_after(lossy).is_some());
    println!("{} of {MEMBERS} members took writes", survived.count());
    net.mend_all();
    let mended = Instant::now();
    let look = || {
        let all_write = writers
            .iter()
            .all(|writer| writer.resumed_after(mended).is_some());
        all_write.then_some(()).ok_or("somebody takes no writes")
    };
    poll::until(SETTLE_LIMIT, look).unwrap_or_else(|complaint| panic!("{complaint}\n{}", stage.logs()));
    stage.settle("30 % are lost", writers);
}

#[test]
fn a_cluster_whose_members_are_far_from_each_other_works() {
    // From one member to the other it takes twice as long, and an answer four times.
    let Some(mut stage) = Stage::with_delay(Duration::from_millis(100)) else {
        return;
    };
    let leader = stage.wait_for_leader();
    let writers = stage.write(PATIENT_LIMIT);
    let far = Instant::now();
    std::thread::sleep(FAULT);
    let counts: Vec<usize> = writers.iter().map(Writer::count).collect();
    println!("acknowledged at each member: {counts:?}");
    for writer in &writers {
        assert!(
            writer.resumed_after(far + FAULT / 2).is_some(),
            "{counts:?}\n{}",
            stage.logs()
        );
    }
    assert_eq!(stage.wait_for_leader(), leader, "nobody takes it for dead");
    stage.settle("200 ms apart", writers);
}
