//! What the state costs: puts in batches, gets, lists and counts over 100,000 keys with values of 256 bytes.
//!
//! `cargo bench --bench mvcc` runs criterion's statistics; `cargo bench --bench mvcc -- cost` prints CPU time of all
//! threads, flushes and compactions included, and the peak memory: the figures that the design is judged by.

#![allow(clippy::disallowed_methods, clippy::unchecked_time_subtraction)] // benches live in the real world

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use callboard::ids::{LogIndex, Term};
use callboard::proto::etcdserverpb::{CompactionRequest, PutRequest, RangeRequest, ResponseHeader};
use callboard::proto::log::command::Request;
use callboard::proto::log::{Command, CommandBatch};
use callboard::state::Payload;
use callboard::state::machine::{CommittedEntry, InitialState, Machine, MachineOptions};
use callboard::state::mvcc::range::Progress;
use callboard::state::{View, Views};
use callboard::storage::state::{StateDatabase, StateOptions};
use criterion::{Criterion, criterion_group};
use prost::Message;

const KEYS: u64 = 100_000;
const BATCH: u64 = 50;
const VALUE_BYTES: usize = 256;

/// A number from the environment, to try settings without a build.
fn knob(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

fn options() -> StateOptions {
    let production = StateOptions::production();
    StateOptions {
        memtable_bytes: knob("MEMTABLE_KIB", production.memtable_bytes / 1024) * 1024,
        block_cache_bytes: knob("BLOCK_CACHE_KIB", production.block_cache_bytes / 1024) * 1024,
        first_level_tables: knob("FIRST_LEVEL_TABLES", production.first_level_tables.into()) as u8,
        ..production
    }
}

struct Member {
    machine: Machine,
    views: Views,
    index: u64,
    seed: u64,
    _directory: tempfile::TempDir,
}

impl Member {
    fn new() -> Self {
        let directory = tempfile::tempdir_in(".").unwrap();
        let state = StateDatabase::open(&directory.path().join("state"), &options()).unwrap();
        let header_cache_bytes = knob("HEADER_CACHE_KIB", 16 * 1024) * 1024;
        let (mut machine, views) = Machine::open(state, 0, MachineOptions { header_cache_bytes }).unwrap();
        machine
            .initialize(InitialState {
                applied_index: LogIndex(1),
                ..Default::default()
            })
            .unwrap();
        Self {
            machine,
            views,
            index: 1,
            seed: 1,
            _directory: directory,
        }
    }

    fn random(&mut self) -> u64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        self.seed
    }

    fn entry(&mut self, requests: Vec<Request>) -> CommittedEntry {
        self.index += 1;
        let commands = requests
            .into_iter()
            .map(|request| Command {
                origin: 7,
                id: 0,
                caller: None,
                request: Some(request),
            })
            .collect();
        let data = CommandBatch { commands }.encode_to_vec();
        CommittedEntry {
            index: LogIndex(self.index),
            term: Term(1),
            payload: Payload::Commands(data.into()),
        }
    }

    fn put_batch(&mut self, keys: impl Iterator<Item = u64>) -> CommittedEntry {
        let requests = keys
            .map(|number| {
                let mut value = vec![b'v'; VALUE_BYTES];
                for chunk in value.chunks_mut(8) {
                    chunk.copy_from_slice(&self.random().to_le_bytes());
                }
                Request::Put(PutRequest {
                    key: key(number),
                    value: value.into(),
                    ..Default::default()
                })
            })
            .collect();
        self.entry(requests)
    }

    fn random_batch(&mut self) -> CommittedEntry {
        let keys: Vec<u64> = (0..BATCH).map(|_| self.random() % KEYS).collect();
        self.put_batch(keys.into_iter())
    }

    fn fill(&mut self) {
        for first in (0..KEYS).step_by(BATCH as usize) {
            // In an order far from the keys' own.
            let entry = self.put_batch((first..first + BATCH).map(|number| number * 7919 % KEYS));
            self.machine.apply(&[entry]).unwrap();
        }
    }

    fn view(&self) -> Arc<View> {
        self.views.load()
    }
}

fn key(number: u64) -> Bytes {
    Bytes::from(format!("/registry/pods/default/{number:010}"))
}

fn whole() -> RangeRequest {
    RangeRequest {
        key: Bytes::from_static(b"/"),
        range_end: Bytes::from_static(b"0"),
        ..Default::default()
    }
}

fn scan(view: &View, request: &RangeRequest) -> (usize, i64) {
    let mut scan = view.range(request).unwrap();
    while scan.advance(1000).unwrap() == Progress::More {}
    let reply = scan.into_reply();
    let count = reply.count;
    (reply.into_encoded(&ResponseHeader::default()).1, count)
}

/// CPU time of all threads of the process.
fn cpu() -> Duration {
    let mut usage = unsafe { std::mem::zeroed::<libc::rusage>() };
    // Safe: the structure is valid for writing.
    assert_eq!(unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) }, 0);
    let time = |time: libc::timeval| Duration::new(time.tv_sec as u64, time.tv_usec as u32 * 1000);
    time(usage.ru_utime) + time(usage.ru_stime)
}

/// CPU time of this thread alone.
fn thread_cpu() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // Safe: the structure is valid for writing.
    assert_eq!(
        unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) },
        0
    );
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

fn each(what: &str, times: u64, spent: Duration) {
    println!(
        "{what:40} {:8.3} us   peak {:4} MiB",
        spent.as_secs_f64() * 1e6 / times as f64,
        peak_mib()
    );
}

fn cost() {
    let puts = knob("PUTS", 400_000);
    let mut member = Member::new();
    let before = cpu();
    member.fill();
    each("put of a new key", KEYS, cpu().saturating_sub(before));
    let mut building = Duration::ZERO;
    let before = cpu();
    for _ in 0..puts / BATCH {
        let start = thread_cpu();
        let entry = member.random_batch();
        building += thread_cpu().saturating_sub(start);
        member.machine.apply(&[entry]).unwrap();
    }
    member.machine.state().sync().unwrap();
    std::thread::sleep(Duration::from_millis(500));
    each(
        "put over a random key, in batches of 50",
        puts,
        cpu().saturating_sub(before + building),
    );
    if knob("ONLY_PUTS", 0) == 0 {
        cost_of_reads(&mut member);
        cost_of_compaction(&mut member);
    }
}

fn cost_of_reads(member: &mut Member) {
    let view = member.view();
    for round in ["first", "again"] {
        let before = cpu();
        for _ in 0..100_000 {
            let key = key(member.random() % KEYS);
            black_box(view.get(&key).unwrap().unwrap());
        }
        each(
            &format!("get of a random key, {round}"),
            100_000,
            cpu().saturating_sub(before),
        );
    }
    let before = cpu();
    for number in 0..100_000u64 {
        black_box(view.get(&key(number % 1000)).unwrap().unwrap());
    }
    each("get of one of 1000 keys", 100_000, cpu().saturating_sub(before));
    let reads = |what: &str, request: &RangeRequest| {
        for _ in 0..2 {
            let before = cpu();
            let (bytes, count) = scan(&view, request);
            each(
                &format!("{what}, per key ({bytes} bytes)"),
                count as u64,
                cpu().saturating_sub(before),
            );
        }
    };
    reads("list", &whole());
    reads(
        "list of keys",
        &RangeRequest {
            keys_only: true,
            ..whole()
        },
    );
    reads(
        "count",
        &RangeRequest {
            count_only: true,
            ..whole()
        },
    );
    reads(
        "list of 500 and count",
        &RangeRequest {
            limit: 500,
            ..whole()
        },
    );
    reads(
        "list in the past",
        &RangeRequest {
            revision: view.revision() - 10_000,
            ..whole()
        },
    );
    let before = cpu();
    black_box(view.hash_kv(0).unwrap());
    each(
        "hash, per change",
        (view.revision() - 1) as u64,
        cpu().saturating_sub(before),
    );
}

fn cost_of_compaction(member: &mut Member) {
    let revision = member.view().revision();
    let request = CompactionRequest {
        revision,
        physical: true,
    };
    let entry = member.entry(vec![Request::Compaction(request)]);
    member.machine.apply(&[entry]).unwrap();
    let bytes_before = member.machine.state().disk_bytes();
    let before = cpu();
    member.machine.state().reclaim().unwrap();
    each(
        "compaction, per revision",
        revision as u64,
        cpu().saturating_sub(before),
    );
    let mib = |bytes| bytes / 1024 / 1024;
    println!(
        "disk {} MiB, {} after compaction",
        mib(bytes_before),
        mib(member.machine.state().disk_bytes())
    );
    let view = member.view();
    let before = cpu();
    black_box(view.hash_kv(0).unwrap());
    each(
        "hash after compaction, per key",
        KEYS,
        cpu().saturating_sub(before),
    );
}

fn statistics(criterion: &mut Criterion) {
    let mut member = Member::new();
    member.fill();
    criterion.bench_function("apply a batch of 50 puts", |bencher| {
        bencher.iter_with_setup(
            || (),
            |()| {
                let entry = member.random_batch();
                member.machine.apply(&[entry]).unwrap()
            },
        );
    });
    let view = member.view();
    let mut number = 0;
    criterion.bench_function("get", |bencher| {
        bencher.iter(|| {
            number = (number + 7919) % KEYS;
            view.get(&key(number)).unwrap()
        });
    });
    criterion.bench_function("list 1000 keys", |bencher| {
        bencher.iter(|| {
            scan(
                &view,
                &RangeRequest {
                    range_end: key(1000),
                    ..whole()
                },
            )
        });
    });
    criterion.bench_function("count 100,000 keys", |bencher| {
        bencher.iter(|| {
            scan(
                &view,
                &RangeRequest {
                    count_only: true,
                    ..whole()
                },
            )
        });
    });
}

criterion_group!(benches, statistics);

fn main() {
    if std::env::args().any(|argument| argument == "cost") {
        cost();
    } else {
        benches();
        Criterion::default().configure_from_args().final_summary();
    }
}
