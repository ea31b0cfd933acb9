//! Paces handshakes on a thread that has other work: each takes milliseconds, and any client may start one.

use crate::env::{self, Instant};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Shorter pieces are ignored.
const SHORT: Duration = Duration::from_micros(200);

/// Paces the work of many tasks on one thread: one piece at a time, in order of arrival. After each piece, the thread is free for
/// as long as the piece took.
#[derive(Debug)]
pub struct Pace {
    turns: Semaphore,
    free_until: Mutex<Option<Instant>>,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            turns: Semaphore::new(1),
            free_until: Mutex::default(),
        }
    }
}

impl Pace {
    /// Executes work piece by piece.
    pub async fn spread<F: Future>(&self, work: F) -> F::Output {
        let mut work = pin!(work);
        loop {
            if let Poll::Ready(output) = self.piece(work.as_mut()).await {
                return output;
            }
            woken().await;
        }
    }

    async fn piece<F: Future>(&self, mut work: Pin<&mut F>) -> Poll<F::Output> {
        // Never closed.
        let _turn = self.turns.acquire().await;
        let free_until = self
            .free_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(free_until) = free_until {
            env::sleep(free_until.saturating_duration_since(env::now())).await;
        }
        let begun = env::now();
        let outcome = poll_fn(|context| Poll::Ready(work.as_mut().poll(context))).await;
        let ended = env::now();
        if ended - begun > SHORT {
            *self.free_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(ended + (ended - begun));
        }
        outcome
    }
}

/// Waits until this task is woken, by whatever its work waits for.
async fn woken() {
    let mut is_woken = false;
    poll_fn(|_| {
        if std::mem::replace(&mut is_woken, true) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // the tests own the executor
mod tests {
    use super::*;
    use std::sync::Arc;

    /// Blocks this thread in two pieces.
    async fn handshake() {
        for _ in 0..2 {
            std::thread::sleep(Duration::from_millis(10));
            env::yield_now().await;
        }
    }

    #[tokio::test]
    async fn the_thread_is_free_between_two_pieces() {
        let pace = Arc::new(Pace::default());
        let several: Vec<_> = (0..20)
            .map(|_| {
                let pace = Arc::clone(&pace);
                tokio::spawn(async move { pace.spread(handshake()).await })
            })
            .collect();
        let mut longest = Duration::ZERO;
        while !several.iter().all(tokio::task::JoinHandle::is_finished) {
            let begun = env::now();
            env::sleep(Duration::from_millis(1)).await;
            longest = longest.max(env::now() - begun);
        }
        // All pieces together take 400 ms.
        assert!(longest < Duration::from_millis(100), "held up for {longest:?}");
    }

    #[tokio::test]
    async fn work_that_waits_keeps_nobody_from_working() {
        let pace = Pace::default();
        let waits = pace.spread(std::future::pending::<()>());
        let works = pace.spread(handshake());
        tokio::select! {
            () = waits => unreachable!("it waits for ever"),
            () = works => {}
        }
    }
}
