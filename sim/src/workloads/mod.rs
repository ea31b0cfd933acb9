//! The clients' work: one file per API call. Each first draws the outcome that it wants and builds a request that should produce
//! it, sends it through the real client, and converts the reply for the history.

mod backup;
mod compact;
pub mod corrupt_alarm;
mod delete_range;
pub mod downgrade;
pub mod election;
mod get;
pub mod guest;
pub mod lease;
pub mod lock;
pub mod move_leader;
mod past_range;
mod put;
pub mod quota;
pub mod renewal;
pub mod replacement;
pub mod requests;
mod txn;
pub mod watch;

use crate::history::{Answer, Input, Key, Outcome, Value, key_name};
use crate::mix::{Call, Mix};
use crate::random::RandomStream;
use crate::world::World;
use bytes::Bytes;
use callboard::client::{Client, Error};
use callboard::proto::mvccpb::KeyValue;
use madsim::runtime::Handle;
use madsim::task::NodeId;
use std::collections::BTreeMap;

/// One in this many past ranges is taken from a backup.
const BACKUP_EVERY: u64 = 32;

/// What a client remembers of its replies: enough for a swap that is likely to succeed.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    pub values: BTreeMap<Key, Option<Value>>,
    pub revision: i64,
    /// The highest revision that it has compacted to itself.
    pub compacted: i64,
}

impl Memory {
    /// Learns from a reply to operation `id`.
    pub fn learn(&mut self, id: u64, input: &Input, answer: &Answer) {
        self.revision = self.revision.max(answer.revision());
        match (input, answer) {
            (Input::Swap { expected }, Answer::Swapped { swapped: true, .. }) => {
                self.values
                    .extend(expected.iter().map(|(key, _)| (*key, Some(id))));
            }
            (_, Answer::Swapped { found, .. }) => self.values.extend(found.iter().copied()),
            (Input::Get { key, .. }, Answer::Got { value, .. }) => {
                self.values.insert(*key, *value);
            }
            (Input::Put { key }, _) => {
                self.values.insert(*key, Some(id));
            }
            (Input::DeleteRange { key }, _) => {
                self.values.insert(*key, None);
            }
            (Input::Compact { revision }, _) => self.compacted = self.compacted.max(*revision),
            _ => {}
        }
    }
}

/// The most keys of a read-modify-write.
const TXN_KEYS_MAX: u64 = 4;

/// The prefixes of keys of workloads that check their own; they are not in the clients' history.
pub const APART: [&str; 6] = [
    quota::FORBIDDEN_KEY,
    requests::KEY_PREFIX,
    lease::KEY_PREFIX,
    lock::KEY_PREFIX,
    lock::GUARDED_KEY,
    election::KEY_PREFIX,
];

/// Those with keys that are attached to leases.
pub const LEASED: [&str; 3] = [lease::KEY_PREFIX, lock::KEY_PREFIX, election::KEY_PREFIX];

/// A lease id that only one machine uses, once.
fn lease_id(machine: usize, life: i64) -> i64 {
    ((machine as i64 + 1) << 40) + life
}

/// Starts a machine that only does this work.
fn machine<F: Future<Output = ()> + 'static>(
    world: &World,
    name: &str,
    address: [u8; 4],
    work: impl Fn() -> F + Send + Sync + 'static,
) -> NodeId {
    let node = Handle::current()
        .create_node()
        .name(name)
        .ip(address.into())
        .init(work)
        .build();
    world.name(node.id(), name);
    node.id()
}

/// Draws the next request.
pub fn sample(random: &mut RandomStream, mix: &Mix, keys: u32, memory: &Memory) -> Input {
    let key = random.below(u64::from(keys)) as Key;
    match mix.pick(random) {
        Call::Put => put::sample(key),
        Call::Get => get::sample(random, key),
        Call::CompareAndSwap => txn::sample(random, keys, 1, memory),
        Call::ReadModifyWrite => txn::sample(random, keys, TXN_KEYS_MAX, memory),
        Call::DeleteRange => delete_range::sample(key),
        Call::PastRange => past_range::sample(random, memory),
        Call::Compact => compact::sample(random, memory),
    }
}

/// Executes a client's request, and records its call and its outcome in the history and for the caller.
pub async fn carry_out(world: &World, who: usize, client: &Client, input: &Input) -> (u64, Outcome) {
    let id = world.call(who, input.clone());
    let outcome = send(client, id, input).await;
    world.returned(id, outcome.clone());
    (id, outcome)
}

/// Sends it, under its number in the history.
async fn send(client: &Client, id: u64, input: &Input) -> Outcome {
    match input {
        Input::Get { key, serializable } => get::send(client, *key, *serializable).await,
        Input::PastRange { revision } if id.is_multiple_of(BACKUP_EVERY) => {
            backup::send(client, *revision).await
        }
        Input::PastRange { revision } => past_range::send(client, *revision).await,
        Input::Put { key } => put::send(client, id, *key).await,
        Input::DeleteRange { key } => delete_range::send(client, *key).await,
        Input::Swap { expected } => txn::send(client, id, expected).await,
        Input::Compact { revision } => compact::send(client, id, *revision).await,
    }
}

/// Converts an error for the history. Reads change nothing, however they fail.
fn failed(error: &Error) -> Outcome {
    if error.is_unknown_outcome() {
        Outcome::Unknown(error.to_string())
    } else {
        Outcome::Refused(error.to_string())
    }
}

fn key_bytes(key: Key) -> Bytes {
    key_name(key).into()
}

fn value_bytes(value: Value) -> Bytes {
    value.to_string().into()
}

/// A key and its value, parsed. A value that was not written by a client becomes 0, which is no operation's number.
pub fn key_and_value(record: &KeyValue) -> (Key, Value) {
    (key_number(&record.key), number(&record.value).unwrap_or(0))
}

/// The same for a key alone.
pub fn key_number(key: &[u8]) -> Key {
    let digits = key.strip_prefix(b"k").and_then(number);
    digits.map_or(Key::MAX, |key| key as Key)
}

fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}
