//! Three members under load whose leader is killed with `kill -9`, twenty times in a row.
//!
//! What must hold: every acknowledged write is there afterwards, none was applied twice, writes resume within three
//! seconds of each kill, and in the end all members hold the same.
//!
//! Each writer owns a set of keys nobody else writes. A unique key is put once and so must end at version 1; a counter
//! goes up by transactions that compare its modification revision, so a write applied twice or lost shows in its value.
//! A write without an answer is never repeated: it counts as unknown and may be there or not.
#![cfg(not(madsim))]
#![allow(clippy::disallowed_methods)] // the tests live in the real world

mod support;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use callboard::proto::etcdserverpb::RangeRequest;
use callboard::proto::mvccpb::KeyValue;
use support::cluster::Cluster;
use support::kv_client::{Client, Outcome, ask, block_on};
use support::poll;

const KILLS: usize = 20;
const WRITERS: usize = 8;

/// From a kill to the first acknowledgement of a write that was sent after it.
const RESUME_LIMIT: Duration = Duration::from_secs(3);

/// One request. Short, so that a writer soon tries another member; what it gave up on is unknown, not lost.
const REQUEST_LIMIT: Duration = Duration::from_millis(200);

/// Added once more for each further writer, so that they do not all wait and try again in step.
const REQUEST_LIMIT_STEP: Duration = Duration::from_millis(30);

/// Acknowledged writes between a restart and the next kill: each leader is killed while it is busy.
const ACKS_BETWEEN_KILLS: u64 = 300;

/// From here on something is broken rather than slow.
const PATIENCE: Duration = Duration::from_secs(30);

/// Keys per page of the final check.
const PAGE: i64 = 2_000;

/// What a put of a unique key is known to have done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Acked,
    NotApplied,
    Unknown,
}

/// What one writer knows at the end.
#[derive(Default)]
struct History {
    /// By number of the key.
    puts: Vec<Fate>,
    increments_acked: i64,
    increments_unknown: i64,
}

/// Where writers report acknowledgements to.
struct Progress {
    acked: u64,
    killed_at: Instant,
    /// The first acknowledgement of a write sent after the kill.
    resumed_at: Option<Instant>,
}

struct Shared {
    members: Vec<SocketAddr>,
    stop: AtomicBool,
    progress: Mutex<Progress>,
}

impl Shared {
    fn note_acked(&self, sent_at: Instant) {
        let mut progress = self.progress.lock().expect("the progress");
        progress.acked += 1;
        if sent_at >= progress.killed_at {
            progress.resumed_at.get_or_insert_with(Instant::now);
        }
    }
}

#[test]
fn leader_killed_twenty_times_under_load() {
    let mut cluster = Cluster::start(&support::callboard_bin(), 3);
    let shared = Arc::new(Shared {
        members: cluster.members.iter().map(|member| member.client).collect(),
        stop: AtomicBool::new(false),
        progress: Mutex::new(Progress {
            acked: 0,
            killed_at: Instant::now(),
            resumed_at: None,
        }),
    });
    let writers = {
        let shared = shared.clone();
        std::thread::spawn(move || run_writers(&shared))
    };
    let gaps: Vec<Duration> = (0..KILLS)
        .map(|_| kill_the_leader(&mut cluster, &shared))
        .collect();
    shared.stop.store(true, Ordering::Relaxed);
    let histories = writers.join().expect("the writers");

    let mut shown: Vec<u128> = gaps.iter().map(Duration::as_millis).collect();
    println!("from kill to the first acknowledged write, in milliseconds: {shown:?}");
    shown.sort_unstable();
    println!(
        "median {}, longest {}",
        shown[shown.len() / 2],
        shown[shown.len() - 1]
    );
    check(&cluster, &histories);
    let longest = gaps.iter().max().expect("at least one kill");
    assert!(
        *longest <= RESUME_LIMIT,
        "writes resumed only {longest:?} after a kill; limit {RESUME_LIMIT:?}"
    );
}

/// One round: waits for load, kills the leader, waits for the first write, brings the killed member back.
fn kill_the_leader(cluster: &mut Cluster, shared: &Shared) -> Duration {
    let acked_before = shared.progress.lock().expect("the progress").acked;
    let under_load = || {
        let acked = shared.progress.lock().expect("the progress").acked - acked_before;
        if acked >= ACKS_BETWEEN_KILLS {
            Ok(())
        } else {
            Err(format!("{acked} writes acknowledged"))
        }
    };
    poll::until(PATIENCE, under_load).expect("writes between two kills");
    let leader = poll::until(PATIENCE, || find_leader(&shared.members)).expect("a leader");

    let killed_at = {
        // Under the lock: no acknowledgement counts for this kill that was sent before it.
        let mut progress = shared.progress.lock().expect("the progress");
        cluster.members[leader].kill();
        progress.killed_at = Instant::now();
        progress.resumed_at = None;
        progress.killed_at
    };
    let resumed = || {
        shared
            .progress
            .lock()
            .expect("the progress")
            .resumed_at
            .ok_or("no write acknowledged")
    };
    let resumed_at = poll::until(PATIENCE, resumed).expect("writes after the kill");
    cluster.members[leader].start_ready();
    resumed_at - killed_at
}

/// The index of the member that leads, by its own word and in the highest term of all that answer.
fn find_leader(members: &[SocketAddr]) -> Result<usize, String> {
    let mut best = None;
    let mut highest = 0;
    for (index, member) in members.iter().enumerate() {
        let Ok(status) = ask(*member, REQUEST_LIMIT, async |client| client.status().await).acked() else {
            continue;
        };
        let own_id = status.header.as_ref().map_or(0, |header| header.member_id);
        highest = highest.max(status.raft_term);
        if status.leader == own_id && best.is_none_or(|(_, term)| term < status.raft_term) {
            best = Some((index, status.raft_term));
        }
    }
    match best {
        Some((index, term)) if term == highest => Ok(index),
        other => Err(format!("highest term {highest}, leader and term {other:?}")),
    }
}

fn run_writers(shared: &Arc<Shared>) -> Vec<History> {
    block_on(async {
        let writers: Vec<_> = (0..WRITERS)
            .map(|number| tokio::task::spawn_local(write_until_stopped(number, shared.clone())))
            .collect();
        let mut histories = Vec::new();
        for writer in writers {
            histories.push(writer.await.expect("a writer"));
        }
        histories
    })
}

async fn write_until_stopped(number: usize, shared: Arc<Shared>) -> History {
    let mut history = History::default();
    let limit = REQUEST_LIMIT + REQUEST_LIMIT_STEP * u32::try_from(number).expect("few writers");
    let client = Client::new(&shared.members, limit);
    // The counter's modification revision, or `None` when it has to be asked for.
    let mut counter_revision = Some(0);
    while !shared.stop.load(Ordering::Relaxed) {
        let sent_at = Instant::now();
        let sequence = history.puts.len();
        let put = client
            .put(
                unique_key(number, sequence).as_bytes(),
                value_of(sequence).as_bytes(),
            )
            .await;
        let fate = match put {
            Outcome::Acked(_) => Fate::Acked,
            Outcome::Failed(_) => Fate::NotApplied,
            Outcome::Unknown(_) => Fate::Unknown,
        };
        history.puts.push(fate);
        let mut answered = fate == Fate::Acked;
        if answered {
            shared.note_acked(sent_at);
            answered = increment(&client, number, &mut counter_revision, &mut history).await;
        }
        if !answered {
            // Leave the processors to the members.
            tokio::time::sleep(poll::POLL_INTERVAL).await;
        }
    }
    history
}

/// Adds one to the writer's counter. `false` when no answer came.
async fn increment(
    client: &Client,
    number: usize,
    counter_revision: &mut Option<i64>,
    history: &mut History,
) -> bool {
    let key = counter_key(number);
    let (revision, value) = match client.get(key.as_bytes()).await {
        Outcome::Acked(Some(counter)) => (counter.mod_revision, decimal(&counter)),
        Outcome::Acked(None) => (0, 0),
        Outcome::Failed(_) | Outcome::Unknown(_) => return false,
    };
    let expected = counter_revision.take();
    assert_eq!(
        expected.unwrap_or(revision),
        revision,
        "writer {number} reads another counter than it wrote"
    );
    match client
        .put_if(key.as_bytes(), revision, (value + 1).to_string().as_bytes())
        .await
    {
        Outcome::Acked(response) => {
            if response.succeeded {
                history.increments_acked += 1;
                *counter_revision = response.header.map(|header| header.revision);
            } else {
                // An earlier increment that had no answer came in between; nobody else writes this key.
                assert_eq!(
                    expected, None,
                    "writer {number} was refused at revision {revision}"
                );
            }
            true
        }
        Outcome::Failed(_) => false,
        Outcome::Unknown(_) => {
            history.increments_unknown += 1;
            false
        }
    }
}

/// Compares what the cluster holds with what the writers know.
fn check(cluster: &Cluster, histories: &[History]) {
    let held = read_everything(cluster.members[0].client);
    let mut counts = [0_usize; 3];
    for (number, history) in histories.iter().enumerate() {
        for (sequence, fate) in history.puts.iter().enumerate() {
            counts[*fate as usize] += 1;
            let key = unique_key(number, sequence);
            match held.get(key.as_bytes()) {
                Some(found) => {
                    assert_ne!(
                        *fate,
                        Fate::NotApplied,
                        "{key} is there but was refused or not sent"
                    );
                    assert_eq!(found.version, 1, "{key} was applied {} times", found.version);
                    assert_eq!(found.value, value_of(sequence).as_bytes(), "the value of {key}");
                }
                None => assert_ne!(*fate, Fate::Acked, "{key} was acknowledged and is lost"),
            }
        }
        let counter = held.get(counter_key(number).as_bytes());
        let value = counter.map_or(0, decimal);
        let least = history.increments_acked;
        let most = least + history.increments_unknown;
        assert!(
            (least..=most).contains(&value),
            "counter {number} is {value}, expected {least} to {most}"
        );
        assert_eq!(
            counter.map_or(0, |counter| counter.version),
            value,
            "the version of counter {number}"
        );
    }
    println!(
        "{} puts acknowledged, {} without effect, {} unknown",
        counts[0], counts[1], counts[2]
    );
    let expected = |key: &[u8]| key.starts_with(b"unique/") || key.starts_with(b"counter/");
    assert!(held.keys().all(|key| expected(key)), "keys that nobody wrote");

    let same_hash = || {
        let answers = cluster.members.iter().map(|member| {
            let answer = ask(member.client, PATIENCE, async |client| client.hash_kv(0).await).acked()?;
            Ok((answer.header.map(|header| header.revision), answer.hash))
        });
        let answers: Vec<(Option<i64>, u32)> = answers.collect::<Result<_, String>>()?;
        if answers.iter().all(|answer| *answer == answers[0]) {
            Ok(())
        } else {
            Err(format!("{answers:?}"))
        }
    };
    poll::until(PATIENCE, same_hash).expect("the same revision and hash on every member");
}

/// Every key of the store at one revision, in pages.
fn read_everything(member: SocketAddr) -> BTreeMap<Vec<u8>, KeyValue> {
    let mut held = BTreeMap::new();
    block_on(async {
        let client = Client::new(&[member], PATIENCE);
        let mut from = vec![0];
        let mut revision = 0;
        loop {
            let request = RangeRequest {
                key: from.clone().into(),
                range_end: vec![0].into(),
                limit: PAGE,
                revision,
                ..Default::default()
            };
            let page = client.range(request).await.acked().expect("read a page");
            if revision == 0 {
                revision = page.header.expect("a header").revision;
            }
            for pair in page.kvs {
                from = pair.key.to_vec();
                held.insert(pair.key.to_vec(), pair);
            }
            from.push(0);
            if !page.more {
                return;
            }
        }
    });
    held
}

fn unique_key(writer: usize, sequence: usize) -> String {
    format!("unique/{writer}/{sequence:08}")
}

fn counter_key(writer: usize) -> String {
    format!("counter/{writer}")
}

fn value_of(sequence: usize) -> String {
    format!("value of {sequence} {}", "x".repeat(sequence % 200))
}

fn decimal(pair: &KeyValue) -> i64 {
    std::str::from_utf8(&pair.value)
        .ok()
        .and_then(|text| text.parse().ok())
        .expect("a number")
}
