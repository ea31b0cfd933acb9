//! Many keys: a restart that does not read them all, a long range that does not hold its reply several times, and a
//! defragmentation that nobody notices.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use callboard::proto::etcdserverpb as pb;

use super::support;
use super::support::cluster::{Cluster, Member};
use super::support::kv_client::{Client, ask, block_on, put_request};
use super::support::process;

const KEYS: u32 = 1_000_000;
const KEYS_PER_TXN: u32 = 1_000;
const READY_LIMIT: Duration = Duration::from_secs(2);
const LONG_RANGE_KEYS: u32 = 100_000;
const LIMIT: Duration = Duration::from_mins(1);

/// Writes `count` keys that start with `prefix`.
fn fill(member: &Member, prefix: &str, count: u32, value: &[u8]) {
    block_on(async {
        let client = Client::new(&[member.client], LIMIT);
        for first in (0..count).step_by(KEYS_PER_TXN as usize) {
            let keys = first..first + KEYS_PER_TXN;
            let puts = keys.map(|number| put_request(format!("{prefix}{number:010}").as_bytes(), value));
            client.put_all(puts).await.acked().expect("a transaction of puts");
        }
    });
}

fn everything_from(prefix: &str) -> pb::RangeRequest {
    pb::RangeRequest {
        key: prefix.as_bytes().to_vec().into(),
        range_end: vec![0].into(),
        ..Default::default()
    }
}

/// A line of `/proc/PID/status` that counts KiB, in bytes.
fn memory_bytes(process_id: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process_id}/status")).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number
        .and_then(|number| number.parse::<u64>().ok())
        .expect("a number of KiB")
        * 1024
}

#[test]
fn a_million_keys_are_served_again_within_two_seconds() {
    let flags = ["--max-txn-ops=1000"];
    let mut cluster = Cluster::start_with(&support::callboard_bin(), 1, &flags);
    let member = &mut cluster.members[0];
    fill(member, "k/", KEYS, b"value");
    member.kill();
    let begin = Instant::now();
    member.start_ready();
    let ready_after = begin.elapsed();
    println!("{KEYS} keys: ready after {} ms", ready_after.as_millis());
    assert!(ready_after < READY_LIMIT, "ready only after {ready_after:?}");
    let count = ask(member.client, LIMIT, async |client| {
        let request = pb::RangeRequest {
            count_only: true,
            ..everything_from("k/")
        };
        client.range(request).await
    });
    assert_eq!(count.acked().expect("a count").count, i64::from(KEYS));
}

#[test]
fn a_long_range_takes_at_most_twice_its_reply() {
    let flags = ["--max-txn-ops=1000"];
    let mut cluster = Cluster::start_with(&support::callboard_bin(), 1, &flags);
    let member = &mut cluster.members[0];
    fill(member, "r/", LONG_RANGE_KEYS, &[b'v'; 256]);
    let process_id = member.process().id();
    // From here on the peak is counted anew (proc_pid_clear_refs(5)).
    std::fs::write(format!("/proc/{process_id}/clear_refs"), "5").expect("reset the peak");
    let before = memory_bytes(process_id, "VmRSS");
    let reply = ask(member.client, LIMIT, async |client| {
        client.range(everything_from("r/")).await
    });
    let reply_bytes = prost::Message::encoded_len(&reply.acked().expect("all keys")) as u64;
    let taken = memory_bytes(process_id, "VmHWM").saturating_sub(before);
    println!("a reply of {reply_bytes} bytes took {taken} bytes");
    assert!(reply_bytes > 256 * u64::from(LONG_RANGE_KEYS));
    assert!(
        taken <= 2 * reply_bytes,
        "a reply of {reply_bytes} bytes took {taken}"
    );
}

const ROUNDS: u32 = 40;
/// etcdctl waits for so long.
const DEFRAGMENT_LIMIT: Duration = Duration::from_secs(5);
/// While etcd defragments it answers nobody. On a busy machine, and in a debug build, a put may take a while all the same.
const PUT_LIMIT: Duration = Duration::from_secs(1);
const DEFRAGMENT_BYTES: u64 = 128 * 1024 * 1024;

#[test]
fn a_defragmentation_is_bounded_and_puts_go_on_meanwhile() {
    let mut cluster = Cluster::start_with(&support::callboard_bin(), 1, &["--max-txn-ops=1000"]);
    let member = &mut cluster.members[0];
    for _ in 0..ROUNDS {
        fill(member, "k/", KEYS_PER_TXN, &[7; 300]);
    }
    let process_id = member.process().id();
    let client = member.client;
    let etcdctl = |arguments: &[&str]| {
        let mut command = process::command(&support::etcdctl_bin());
        command.arg("--endpoints").arg(client.to_string()).args(arguments);
        process::run(command, b"", LIMIT).expect("etcdctl ends")
    };
    let compacted = etcdctl(&["compact", &(ROUNDS / 2).to_string()]);
    assert_eq!(compacted.code, 0, "{}", compacted.text());
    let memory_before = memory_bytes(process_id, "VmRSS:");
    let ended = AtomicBool::new(false);
    let (finished, took, longest) = std::thread::scope(|scope| {
        let puts = scope.spawn(|| {
            block_on(async {
                let client = Client::new(&[client], LIMIT);
                let mut longest = Duration::ZERO;
                while !ended.load(Ordering::Relaxed) {
                    let begin = Instant::now();
                    client.put(b"meanwhile", b"").await.acked().expect("a put");
                    longest = longest.max(begin.elapsed());
                }
                longest
            })
        });
        let begin = Instant::now();
        let finished = etcdctl(&["defrag"]);
        let took = begin.elapsed();
        ended.store(true, Ordering::Relaxed);
        (finished, took, puts.join().expect("puts are answered"))
    });
    let memory = memory_bytes(process_id, "VmHWM:").saturating_sub(memory_before);
    println!(
        "defragmented in {took:?}, longest put {longest:?}, {} KiB more",
        memory / 1024
    );
    assert_eq!(finished.code, 0, "{}", finished.text());
    assert!(took < DEFRAGMENT_LIMIT, "it took {took:?}");
    assert!(
        longest > Duration::ZERO && longest < PUT_LIMIT,
        "a put took {longest:?}"
    );
    assert!(memory < DEFRAGMENT_BYTES, "{memory} bytes more");
}
