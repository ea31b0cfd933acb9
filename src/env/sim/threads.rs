//! Tracks which of a member's threads is running. Simulated threads are tasks on one node, so a blocking task delays no other
//! task: the simulator has to know where it would have.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;

thread_local! {
    static CURRENT: Cell<&'static str> = const { Cell::new("") };
}

/// The name of the thread whose task is running; empty outside all of them, and on the engine's own threads.
pub fn current() -> &'static str {
    CURRENT.get()
}

/// Restores the previous name, however a task's turn ends.
struct Turn(&'static str);

impl Drop for Turn {
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}

/// Runs a task as part of this thread.
pub(super) async fn on<F: Future>(name: &'static str, task: F) -> F::Output {
    let mut task = pin!(task);
    poll_fn(move |context| {
        let _turn = Turn(CURRENT.replace(name));
        task.as_mut().poll(context)
    })
    .await
}
