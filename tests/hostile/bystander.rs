//! A client that means no harm: puts and gets, one after the other, and how long each took.

use crate::support::kv_client::{Client, block_on};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A request that takes longer has failed.
const LIMIT: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(5);

/// At work on a thread of its own.
pub struct Bystander {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Latencies>,
}

/// How long its requests took, the shortest first.
#[derive(Debug, Default)]
pub struct Latencies {
    puts: Vec<Duration>,
    gets: Vec<Duration>,
}

impl Bystander {
    pub fn start(member: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || block_on(work(member, &stopped)));
        Self { stop, thread }
    }

    pub fn stop(self) -> Latencies {
        self.stop.store(true, Ordering::Relaxed);
        let mut latencies = self
            .thread
            .join()
            .expect("every request of the bystander succeeds");
        latencies.puts.sort();
        latencies.gets.sort();
        latencies
    }
}

async fn work(member: SocketAddr, stopped: &AtomicBool) -> Latencies {
    let client = Client::new(&[member], LIMIT);
    let mut latencies = Latencies::default();
    // Others may look on at other members.
    let key = format!("bystander {member}").into_bytes();
    let mut number = 0u64;
    while !stopped.load(Ordering::Relaxed) {
        number += 1;
        let value = number.to_string();
        let begin = Instant::now();
        let put = client.put(&key, value.as_bytes()).await.acked();
        put.unwrap_or_else(|error| panic!("put {number}: {error}"));
        latencies.puts.push(begin.elapsed());
        let begin = Instant::now();
        let got = client.get(&key).await.acked();
        let got = got.unwrap_or_else(|error| panic!("get {number}: {error}"));
        latencies.gets.push(begin.elapsed());
        assert_eq!(got.expect("it was put").value, value, "a stale read");
        tokio::time::sleep(PAUSE).await;
    }
    latencies
}

impl Latencies {
    pub fn put_p99(&self) -> Duration {
        p99(&self.puts)
    }

    pub fn get_p99(&self) -> Duration {
        p99(&self.gets)
    }
}

/// Of few requests it is the longest.
fn p99(sorted: &[Duration]) -> Duration {
    let last = sorted
        .len()
        .checked_sub(1)
        .expect("the bystander has done something");
    sorted[last - last / 100]
}
