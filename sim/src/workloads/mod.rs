//! What clients do: one file per call of the API. Each draws the outcome that it wants first and builds a request that
//! should bring it, sends it through the real client, and says what came back in the history's words.

mod backup;
mod compact;
pub mod corrupt_alarm;
mod delete_range;
pub mod election;
mod get;
pub mod lease;
pub mod lock;
pub mod move_leader;
mod past_range;
mod put;
pub mod quota;
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

/// One in so many looks at the past is a look at a backup's.
const BACKUP_EVERY: u64 = 32;

/// What a client remembers of the answers it got: enough to make a swap that is likely to succeed.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    pub values: BTreeMap<Key, Option<Value>>,
    pub revision: i64,
    /// What it has compacted itself.
    pub compacted: i64,
}

impl Memory {
    /// Takes in an answer to operation `id`.
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

/// Keys of a read-modify-write at most.
const TXN_KEYS_MAX: u64 = 4;

/// Keys of workloads that look after their own, with what they begin: no part of the clients' history.
pub const APART: [&str; 6] = [
    quota::FORBIDDEN_KEY,
    requests::KEY_PREFIX,
    lease::KEY_PREFIX,
    lock::KEY_PREFIX,
    lock::GUARDED_KEY,
    election::KEY_PREFIX,
];

/// Those of them that are bound to leases.
pub const LEASED: [&str; 3] = [lease::KEY_PREFIX, lock::KEY_PREFIX, election::KEY_PREFIX];

/// A lease that only one machine asks for, once.
fn lease_id(machine: usize, life: i64) -> i64 {
    ((machine as i64 + 1) << 40) + life
}

/// A machine that does nothing else than this.
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

/// Draws the next thing to do.
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

/// Has a client do something, and takes note of its call and of how it ended, in the history and for the caller.
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

/// An error in the history's words. Reads change nothing, however they fail.
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

/// What a key holds, read back. Anything that was not written by a client stands out as 0, which no operation has as its
/// number.
pub fn key_and_value(record: &KeyValue) -> (Key, Value) {
    (key_number(&record.key), number(&record.value).unwrap_or(0))
}

/// The same of a key alone.
pub fn key_number(key: &[u8]) -> Key {
    let digits = key.strip_prefix(b"k").and_then(number);
    digits.map_or(Key::MAX, |key| key as Key)
}

fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}
