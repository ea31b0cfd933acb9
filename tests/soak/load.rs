//! Writers, each with keys of its own, that know what the cluster has acknowledged.
//!
//! A key holds a number that goes up with every put. A put whose outcome is unknown may take effect later than the next one would,
//! so its key is not written any more, and may hold either number.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use callboard::proto::etcdserverpb::RangeRequest;

use crate::support::kv_client::{Client, Outcome, block_on};
use crate::support::poll;

const WRITERS: usize = 6;
/// Keys that a writer writes in turn.
const KEYS: usize = 200;
const VALUE_BYTES: usize = 256;
const REQUEST_LIMIT: Duration = Duration::from_secs(1);
/// A look is repeated until a member answers.
const LOOK_LIMIT: Duration = Duration::from_secs(20);
const PAGE: i64 = 1_000;
/// The interval between puts of a writer: the machine is the operator's too.
const PAUSE: Duration = Duration::from_millis(10);

/// What is known of a key.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    acknowledged: u64,
    attempted: u64,
}

type Keys = Arc<Mutex<BTreeMap<String, Known>>>;

pub struct Load {
    members: Vec<SocketAddr>,
    keys: Keys,
    shared: Arc<Shared>,
    writers: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    acknowledged: AtomicU64,
    refused: AtomicU64,
    unknown: AtomicU64,
    looks: AtomicU64,
}

/// How the puts ended.
pub struct Counts {
    pub acknowledged: u64,
    refused: u64,
    unknown: u64,
    looks: u64,
}

impl fmt::Display for Counts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} puts acknowledged, {} without effect, {} unknown; {} looks at all keys",
            self.acknowledged, self.refused, self.unknown, self.looks
        )
    }
}

impl Load {
    pub fn start(members: Vec<SocketAddr>) -> Self {
        let (keys, shared) = (Keys::default(), Arc::<Shared>::default());
        let writers = (0..WRITERS).map(|writer| {
            let (members, keys, shared) = (members.clone(), Arc::clone(&keys), Arc::clone(&shared));
            std::thread::spawn(move || block_on(write(writer, &members, &keys, &shared)))
        });
        Self {
            writers: writers.collect(),
            members,
            keys,
            shared,
        }
    }

    /// Reads all keys; none holds less than what was acknowledged before.
    pub fn check(&self) {
        self.shared.looks.fetch_add(1, Ordering::Relaxed);
        let before = self.keys.lock().expect("no writer panics").clone();
        let found = poll::until(LOOK_LIMIT, || block_on(read_all(&self.members)))
            .unwrap_or_else(|complaint| panic!("the keys cannot be read: {complaint}"));
        let after = self.keys.lock().expect("no writer panics").clone();
        for (key, known) in &before {
            let value = found.get(key).copied().unwrap_or(0);
            let attempted = after[key].attempted;
            assert!(
                (known.acknowledged..=attempted).contains(&value),
                "{key} holds {value}; {} was acknowledged, {attempted} was the last attempt",
                known.acknowledged
            );
        }
    }

    /// Ends the writers, and looks once more.
    pub fn finish(mut self) -> Counts {
        self.shared.stop.store(true, Ordering::Relaxed);
        for writer in std::mem::take(&mut self.writers) {
            writer.join().expect("no writer panics");
        }
        self.check();
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            acknowledged: count(&self.shared.acknowledged),
            refused: count(&self.shared.refused),
            unknown: count(&self.shared.unknown),
            looks: count(&self.shared.looks),
        }
    }
}

async fn write(writer: usize, members: &[SocketAddr], keys: &Keys, shared: &Shared) {
    let client = Client::new(members, REQUEST_LIMIT);
    // How often each place has got another key.
    let mut generations = [0_u64; KEYS];
    let mut turn = 0;
    while !shared.stop.load(Ordering::Relaxed) {
        let place = turn % KEYS;
        turn += 1;
        let key = format!("soak/{writer}/{place:03}/{}", generations[place]);
        let number = {
            let mut keys = keys.lock().expect("nobody panics");
            let known = keys.entry(key.clone()).or_default();
            known.attempted += 1;
            known.attempted
        };
        let value = format!("{number:0VALUE_BYTES$}");
        match client.put(key.as_bytes(), value.as_bytes()).await {
            Outcome::Acked(_) => {
                let mut keys = keys.lock().expect("nobody panics");
                keys.entry(key).or_default().acknowledged = number;
                shared.acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            Outcome::Failed(_) => {
                shared.refused.fetch_add(1, Ordering::Relaxed);
            }
            Outcome::Unknown(_) => {
                generations[place] += 1;
                shared.unknown.fetch_add(1, Ordering::Relaxed);
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn read_all(members: &[SocketAddr]) -> Result<BTreeMap<String, u64>, String> {
    let client = Client::new(members, LOOK_LIMIT);
    let mut found = BTreeMap::new();
    let mut from = b"soak/".to_vec();
    loop {
        let request = RangeRequest {
            key: from.clone().into(),
            range_end: b"soak0".to_vec().into(),
            limit: PAGE,
            ..RangeRequest::default()
        };
        let page = client.range(request).await.acked()?;
        for pair in &page.kvs {
            let key = String::from_utf8_lossy(&pair.key).into_owned();
            let value = String::from_utf8_lossy(&pair.value);
            found.insert(key, value.parse().expect("a number"));
            from = [&pair.key[..], &[0]].concat();
        }
        if !page.more {
            return Ok(found);
        }
    }
}
