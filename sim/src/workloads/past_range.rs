//! KV.Range of all keys as of a revision that has passed, from whatever member is asked.

use super::{Memory, failed, key_and_value};
use crate::history::{Answer, Input, Outcome};
use crate::random::Stream;
use callboard::client::Client;
use callboard::proto::etcdserverpb::RangeRequest;

/// A revision that the client has heard of; a member that is behind may still refuse it.
pub fn sample(random: &mut Stream, memory: &Memory) -> Input {
    Input::PastRange {
        revision: random.between(1, memory.revision.max(1) as u64) as i64,
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
