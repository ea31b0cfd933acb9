//! The interface of the lessor, for any thread: changes of leases from the log, and questions.

use crate::bound::{Admitted, Bound};
use crate::env;
use crate::inbox::Inbox;
use crate::limits::{LEASE_NEWS_MAX, LEASE_QUESTIONS_MAX};
use crate::peer::answers::LeaseAnswerer;
pub use crate::proto::peer::{LeaseAnswer as Answer, LeaseQuestion as Question};
use crate::state::View;
use crate::state::changes::{Observer, Publication};
use crate::state::leases::LeaseChange;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::oneshot;
use tonic::Status;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    #[error("no leader")]
    NoLeader,
    #[error("this member does not lead")]
    NotLeading,
    #[error("request timed out")]
    Timeout,
    #[error("too many requests")]
    TooManyRequests,
    #[error("server stopped")]
    Stopped,
}

/// Changes of leases from the log.
#[derive(Debug)]
pub(super) enum News {
    Changes(Vec<LeaseChange>),
    Replaced(Arc<View>),
    /// More changes than are kept. The newest view contains them.
    Lost,
}

/// A question, and the caller that waits for the answer.
#[derive(Debug)]
pub(super) struct Asked {
    pub question: Question,
    /// Forwarded by another member. It is answered here or not at all, and never held back.
    pub forwarded: bool,
    pub deadline: env::Instant,
    answer: oneshot::Sender<Result<Answer, AskError>>,
    /// Counts the question until it is answered, even if its caller has stopped waiting.
    _admitted: Admitted,
}

impl Asked {
    pub fn new(
        question: Question,
        forwarded: bool,
        deadline: env::Instant,
        admitted: Admitted,
    ) -> (Self, oneshot::Receiver<Result<Answer, AskError>>) {
        let (answer, receiver) = oneshot::channel();
        let asked = Self {
            question,
            forwarded,
            deadline,
            answer,
            _admitted: admitted,
        };
        (asked, receiver)
    }

    pub fn finish(self, outcome: Result<Answer, AskError>) {
        // The caller may have stopped waiting.
        let _ = self.answer.send(outcome);
    }
}

/// Work for the lessor. Changes come before questions: a client can ask about a lease that it was just told of.
#[derive(Debug, Default)]
pub(super) struct LessorWork {
    pub news: Vec<News>,
    /// The number of changes in `news`.
    news_changes: usize,
    pub asked: Vec<Asked>,
    pub lists: Vec<(oneshot::Sender<Arc<[i64]>>, Admitted)>,
}

impl LessorWork {
    /// Keeps at most [`LEASE_NEWS_MAX`] changes. Beyond that it only notes that there were some.
    fn add_changes(&mut self, changes: Vec<LeaseChange>) {
        self.news_changes += changes.len();
        if self.news_changes <= LEASE_NEWS_MAX {
            self.news.push(News::Changes(changes));
        } else {
            self.news.clear();
            self.news.push(News::Lost);
            self.news_changes = 0;
        }
    }
}

/// The bits of a positive ID that follow 32 bits of seconds.
const ID_NUMBER_BITS: u32 = 31;
const ID_NUMBER_MAX: u64 = (1 << ID_NUMBER_BITS) - 1;

/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct LeaseHandle {
    pub(super) inbox: Arc<Inbox<LessorWork>>,
    /// Counts the questions that wait, here or with the lessor.
    asking: Bound,
    request_timeout: Duration,
    next_number: Arc<AtomicU64>,
}

impl LeaseHandle {
    pub fn new(request_timeout: Duration) -> Self {
        Self {
            inbox: Arc::default(),
            asking: Bound::new(LEASE_QUESTIONS_MAX),
            request_timeout,
            next_number: Arc::new(env::random_u64().into()),
        }
    }

    /// A positive ID for a lease whose client states none. On every member it begins with the current second. Leases that are
    /// granted together mostly expire together; this way they are close together wherever leases are sorted by ID, and the
    /// engine need not rewrite the live ones. After the second come consecutive numbers from a random start, so that two
    /// members hardly ever draw the same ID.
    pub fn next_id(&self) -> i64 {
        loop {
            let second = env::unix_time().as_secs() & u64::from(u32::MAX);
            let number = self.next_number.fetch_add(1, Ordering::Relaxed) & ID_NUMBER_MAX;
            let id = second << ID_NUMBER_BITS | number;
            if id != 0 {
                return id as i64;
            }
        }
    }

    /// Asks the leader.
    pub async fn ask(&self, question: Question) -> Result<Answer, AskError> {
        let mut answers = self.ask_all(vec![question], false).await?;
        answers.pop().ok_or(AskError::Stopped)
    }

    /// Asks this member on behalf of another one.
    pub async fn ask_here(&self, questions: Vec<Question>) -> Result<Vec<Answer>, AskError> {
        self.ask_all(questions, true).await
    }

    async fn ask_all(&self, questions: Vec<Question>, forwarded: bool) -> Result<Vec<Answer>, AskError> {
        let count = questions.len();
        let admitted = self.asking.admit_all(count).ok_or(AskError::TooManyRequests)?;
        let deadline = env::now() + self.request_timeout;
        let mut receivers = Vec::with_capacity(count);
        self.inbox.add(|work| {
            for (question, admitted) in questions.into_iter().zip(admitted) {
                let (asked, receiver) = Asked::new(question, forwarded, deadline, admitted);
                receivers.push(receiver);
                work.asked.push(asked);
            }
        });
        let mut answers = Vec::with_capacity(count);
        for receiver in receivers {
            answers.push(receiver.await.unwrap_or(Err(AskError::Stopped))?);
        }
        Ok(answers)
    }

    /// The leases that this member knows; on a leader in the order of expiry.
    pub async fn list(&self) -> Result<Arc<[i64]>, AskError> {
        let admitted = self.asking.admit().ok_or(AskError::TooManyRequests)?;
        let (answer, receiver) = oneshot::channel();
        self.inbox.add(|work| work.lists.push((answer, admitted)));
        receiver.await.map_err(|_| AskError::Stopped)
    }
}

impl Observer for LeaseHandle {
    fn published(&self, publication: &mut Publication) {
        let changes = std::mem::take(&mut publication.leases);
        if !publication.is_replaced {
            if !changes.is_empty() {
                self.inbox.add(|work| work.add_changes(changes));
            }
            return;
        }
        let view = Arc::clone(&publication.view);
        self.inbox.add(|work| {
            // The snapshot contains or undoes all earlier changes.
            work.news.clear();
            work.news_changes = 0;
            work.news.push(News::Replaced(view));
        });
    }
}

#[tonic::async_trait]
impl LeaseAnswerer for LeaseHandle {
    async fn answer_leases(&self, questions: Vec<Question>) -> Result<Vec<Answer>, Status> {
        self.ask_here(questions).await.map_err(|error| match error {
            AskError::NotLeading => Status::failed_precondition(error.to_string()),
            _ => Status::unavailable(error.to_string()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{Future, poll_fn};
    use std::pin::pin;
    use std::task::Poll;

    #[test]
    fn questions_count_until_the_lessor_is_done_with_them() {
        let leases = LeaseHandle::new(Duration::from_secs(1));
        let question = Question {
            id: 1,
            renew: true,
            keys: false,
        };
        env::block_on(async {
            let ask = |count| leases.ask_here(vec![question; count]);
            {
                let mut gone = pin!(ask(LEASE_QUESTIONS_MAX));
                let polled = poll_fn(|context| Poll::Ready(gone.as_mut().poll(context))).await;
                assert!(polled.is_pending());
            }
            assert_eq!(
                ask(1).await,
                Err(AskError::TooManyRequests),
                "the lessor still has them"
            );
            assert!(leases.list().await.is_err());
            drop(leases.inbox.take());
            assert_eq!(leases.asking.admitted(), 0);
        });
    }

    #[test]
    fn of_too_many_changes_only_the_fact_is_kept() {
        let mut work = LessorWork::default();
        let revoked = |count| vec![LeaseChange::Revoked { id: 1 }; count];
        work.add_changes(revoked(LEASE_NEWS_MAX));
        assert!(matches!(work.news[..], [News::Changes(_)]));
        work.add_changes(revoked(1));
        assert!(matches!(work.news[..], [News::Lost]));
        work.add_changes(revoked(2));
        assert!(matches!(work.news[..], [News::Lost, News::Changes(_)]));
    }
}
