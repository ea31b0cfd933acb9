//! The way to the lessor, from any thread: what the log has done, and questions.

use crate::apply::leases::{LeaseChange, LeaseSink};
use crate::env;
use crate::inbox::Inbox;
use crate::limits::LEASE_QUESTIONS_MAX;
use crate::mvcc::View;
pub use crate::proto::peer::{LeaseAnswer as Answer, LeaseQuestion as Question};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::oneshot;

/// Why there is no answer.
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

/// What the log has done.
#[derive(Debug)]
pub(super) enum News {
    Changes(Vec<LeaseChange>),
    Replaced(Arc<View>),
}

/// A question and who waits for the answer.
#[derive(Debug)]
pub(super) struct Asked {
    pub question: Question,
    /// Another member has passed it on: it is answered here or not at all, and never held back.
    pub forwarded: bool,
    pub deadline: env::Instant,
    answer: oneshot::Sender<Result<Answer, AskError>>,
}

impl Asked {
    pub fn finish(self, outcome: Result<Answer, AskError>) {
        // Whoever asked may have gone.
        let _ = self.answer.send(outcome);
    }
}

/// What waits for the lessor. News come before questions: who has been told of a lease can ask for it.
#[derive(Debug, Default)]
pub(super) struct LessorWork {
    pub news: Vec<News>,
    pub asked: Vec<Asked>,
    pub lists: Vec<oneshot::Sender<Vec<i64>>>,
}

/// What is left of a positive id behind 32 bits of seconds.
const ID_NUMBER_BITS: u32 = 31;
const ID_NUMBER_MAX: u64 = (1 << ID_NUMBER_BITS) - 1;

/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct LeaseHandle {
    pub(super) inbox: Arc<Inbox<LessorWork>>,
    asking: Arc<AtomicUsize>,
    request_timeout: Duration,
    next_number: Arc<AtomicU64>,
}

impl LeaseHandle {
    pub fn new(request_timeout: Duration) -> Self {
        Self {
            inbox: Arc::default(),
            asking: Arc::default(),
            request_timeout,
            next_number: Arc::new(env::random_u64().into()),
        }
    }

    /// An id for a lease whose client asks for none; positive. It begins with the second in which it is drawn, on every
    /// member: leases that are granted together, and so mostly end together, lie together wherever leases are sorted by id,
    /// and the engine leaves those alone that live on. Behind the second come numbers in a row from a random start, so that
    /// two members hardly ever draw the same id.
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

    /// Asks the leader, whoever that is.
    pub async fn ask(&self, question: Question) -> Result<Answer, AskError> {
        let mut answers = self.ask_all(vec![question], false).await?;
        answers.pop().ok_or(AskError::Stopped)
    }

    /// Asks this member on behalf of another.
    pub async fn ask_here(&self, questions: Vec<Question>) -> Result<Vec<Answer>, AskError> {
        self.ask_all(questions, true).await
    }

    async fn ask_all(&self, questions: Vec<Question>, forwarded: bool) -> Result<Vec<Answer>, AskError> {
        let count = questions.len();
        let _asking = Asking::begin(&self.asking, count).ok_or(AskError::TooManyRequests)?;
        let deadline = env::now() + self.request_timeout;
        let mut receivers = Vec::with_capacity(count);
        self.inbox.add(|work| {
            for question in questions {
                let (answer, receiver) = oneshot::channel();
                receivers.push(receiver);
                work.asked.push(Asked {
                    question,
                    forwarded,
                    deadline,
                    answer,
                });
            }
        });
        let mut answers = Vec::with_capacity(count);
        for receiver in receivers {
            answers.push(receiver.await.unwrap_or(Err(AskError::Stopped))?);
        }
        Ok(answers)
    }

    /// The leases that this member knows: on a leader those first that end first.
    pub async fn list(&self) -> Result<Vec<i64>, AskError> {
        let (answer, receiver) = oneshot::channel();
        self.inbox.add(|work| work.lists.push(answer));
        receiver.await.map_err(|_| AskError::Stopped)
    }
}

impl LeaseSink for LeaseHandle {
    fn publish(&self, changes: Vec<LeaseChange>) {
        self.inbox.add(|work| work.news.push(News::Changes(changes)));
    }

    fn replaced(&self, view: Arc<View>) {
        self.inbox.add(|work| {
            // What came before it is part of it, or was undone by it.
            work.news.clear();
            work.news.push(News::Replaced(view));
        });
    }
}

/// Counts who asks, as long as they wait.
struct Asking {
    counter: Arc<AtomicUsize>,
    count: usize,
}

impl Asking {
    fn begin(counter: &Arc<AtomicUsize>, count: usize) -> Option<Self> {
        let asking = Self {
            counter: Arc::clone(counter),
            count,
        };
        let before = counter.fetch_add(count, Ordering::Relaxed);
        (before + count <= LEASE_QUESTIONS_MAX).then_some(asking)
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.counter.fetch_sub(self.count, Ordering::Relaxed);
    }
}
