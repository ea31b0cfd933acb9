//! KV.Range of one key, linearizable or serializable.

use super::{failed, key_and_value, key_bytes};
use crate::history::{Answer, Input, Key, Outcome};
use crate::random::RandomStream;
use callboard::client::Client;
use callboard::proto::etcdserverpb::RangeRequest;

pub fn sample(random: &mut RandomStream, key: Key) -> Input {
    Input::Get {
        key,
        serializable: random.chance(25),
    }
}

pub async fn send(client: &Client, key: Key, serializable: bool) -> Outcome {
    let request = RangeRequest {
        key: key_bytes(key),
        serializable,
        ..RangeRequest::default()
    };
    match client.range(request).await {
        Ok(response) => Outcome::Answered(Answer::Got {
            value: response.kvs.first().map(|record| key_and_value(record).1),
            revision: response.header.unwrap_or_default().revision,
        }),
        Err(error) => failed(&error),
    }
}
