//! Digests and hashes of this member's state, for any thread: digests at once, hashes from the checker's thread.

use super::actor::CheckWork;
use crate::ids::LogIndex;
use crate::inbox::Inbox;
use crate::limits::HASHES_WAITING_MAX;
use crate::mutants::{self, Mutant};
use crate::peer::answers::StateAnswerer;
use crate::proto::peer::state_question::Question;
use crate::proto::peer::{HashQuestion, StateAnswer};
use crate::state::Views;
use crate::state::digests::Digests;
use crate::state::mvcc::MvccError;
use std::sync::Arc;
use tokio::sync::oneshot;

/// A hash that this member has computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownHash {
    pub hash: u32,
    /// The compact revision that the hash assumes.
    pub compact_revision: i64,
    pub revision: i64,
}

/// Why there is no hash.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HashError {
    #[error(transparent)]
    Mvcc(#[from] MvccError),
    #[error("too many hashes are being computed; ask again later")]
    TooMany,
    #[error("server stopped")]
    Stopped,
}

/// A question for the checker's thread.
#[derive(Debug)]
pub struct HashTask {
    pub question: HashQuestion,
    pub answer: oneshot::Sender<Result<KnownHash, MvccError>>,
}

/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct HashHandle {
    pub views: Views,
    pub digests: Digests,
    pub inbox: Arc<Inbox<CheckWork>>,
}

impl HashHandle {
    pub async fn hash(&self, question: HashQuestion) -> Result<KnownHash, HashError> {
        let (answer, hashed) = oneshot::channel();
        let taken = self.inbox.add(|work| {
            let room = work.hashes.len() < HASHES_WAITING_MAX;
            if room {
                work.hashes.push(HashTask { question, answer });
            }
            room
        });
        if !taken {
            return Err(HashError::TooMany);
        }
        Ok(hashed.await.map_err(|_| HashError::Stopped)??)
    }
}

#[tonic::async_trait]
impl StateAnswerer for HashHandle {
    async fn answer_state(&self, question: Option<Question>) -> StateAnswer {
        let mut answer = StateAnswer::default();
        match question {
            Some(Question::DigestAt(index)) => {
                let index = if mutants::active(Mutant::DigestsComparedApart) {
                    self.digests.newest()
                } else {
                    LogIndex(index)
                };
                answer.digest = self.digests.after(index);
            }
            Some(Question::Hash(question)) => {
                if let Ok(known) = self.hash(question).await {
                    answer.hash = Some(known.hash);
                    answer.compact_revision = known.compact_revision;
                }
            }
            None => {}
        }
        let view = self.views.load();
        answer.applied_index = view.applied_index().0;
        answer.revision = view.revision();
        if answer.hash.is_none() {
            answer.compact_revision = view.compact_revision();
        }
        answer
    }
}
