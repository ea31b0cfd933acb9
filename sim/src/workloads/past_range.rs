//! KV.Range of all keys as of a past revision, from any member.

use super::{Memory, failed, key_and_value};
use crate::history::{Answer, Input, Outcome};
use crate::random::RandomStream;
use callboard::client::Client;
use callboard::proto::etcdserverpb::RangeRequest;

/// A revision that the client knows, sometimes one that it has compacted; a lagging member may still refuse the former and return
/// the latter.
pub fn sample(random: &mut RandomStream, memory: &Memory) -> Input {
    let oldest = if random.chance(10) {
        1
    } else {
        memory.compacted.max(1)
    };
    Input::PastRange {
        revision: random.between(oldest as u64, memory.revision.max(oldest) as u64) as i64,
    }
}

pub async fn send(client: &Client, revision: i64) -> Outcome {
    let request = RangeRequest {
        key: "k".into(),
        range_end: "l".into(),
        revision,
        serializable: true,
        ..RangeRequest::default()
    };
    match client.range(request).await {
        Ok(response) => {
            let mut values: Vec<_> = response.kvs.iter().map(key_and_value).collect();
            // In the order of numbers, not of names.
            values.sort_unstable();
            Outcome::Answered(Answer::Range {
                values,
                revision: response.header.unwrap_or_default().revision,
            })
        }
        Err(error) => failed(&error),
    }
}
