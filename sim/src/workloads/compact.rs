//! KV.Compact: compacts the revisions before one, logically or with the space reclaimed.

use super::{Memory, failed};
use crate::history::{Answer, Input, Outcome};
use crate::random::RandomStream;
use callboard::client::Client;
use callboard::proto::etcdserverpb::CompactionRequest;

/// A revision that can be compacted, one that already is, or one that does not exist yet.
pub fn sample(random: &mut RandomStream, memory: &Memory) -> Input {
    let newest = memory.revision.max(1) as u64;
    let revision = match random.below(10) {
        0 => newest + 1000,
        1 => random.between(1, newest),
        _ => random.between((newest / 2).max(1), newest),
    };
    Input::Compact {
        revision: revision as i64,
    }
}

pub async fn send(client: &Client, id: u64, revision: i64) -> Outcome {
    let request = CompactionRequest {
        revision,
        physical: id.is_multiple_of(4),
    };
    match client.compact(request).await {
        Ok(response) => Outcome::Answered(Answer::Compacted {
            revision: response.header.unwrap_or_default().revision,
        }),
        Err(error) => failed(&error),
    }
}
