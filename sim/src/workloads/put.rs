//! KV.Put.

use super::{failed, key_bytes, value_bytes};
use crate::history::{Answer, Input, Key, Outcome};
use callboard::client::Client;
use callboard::proto::etcdserverpb::PutRequest;

pub fn sample(key: Key) -> Input {
    Input::Put { key }
}

pub async fn send(client: &Client, id: u64, key: Key) -> Outcome {
    let request = PutRequest {
        key: key_bytes(key),
        value: value_bytes(id),
        ..PutRequest::default()
    };
    match client.put(request).await {
        Ok(response) => Outcome::Answered(Answer::Written {
            revision: response.header.unwrap_or_default().revision,
        }),
        Err(error) => failed(&error),
    }
}
