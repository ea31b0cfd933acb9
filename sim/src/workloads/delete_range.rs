//! KV.DeleteRange of one key.

use super::{failed, key_bytes};
use crate::history::{Answer, Input, Key, Outcome};
use callboard::client::Client;
use callboard::proto::etcdserverpb::DeleteRangeRequest;

pub fn sample(key: Key) -> Input {
    Input::DeleteRange { key }
}

pub async fn send(client: &Client, key: Key) -> Outcome {
    let request = DeleteRangeRequest {
        key: key_bytes(key),
        ..DeleteRangeRequest::default()
    };
    match client.delete_range(request).await {
        Ok(response) => Outcome::Answered(Answer::Deleted {
            existed: response.deleted > 0,
            revision: response.header.unwrap_or_default().revision,
        }),
        Err(error) => failed(&error),
    }
}
