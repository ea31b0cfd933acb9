//! A thread for tasks that other threads hand to it: work that may block it for a while, where they must not wait.
//!
//! How many tasks there are at a time is bounded by whoever hands them over.

use super::ThreadHandle;
use std::future::Future;
use std::pin::Pin;
use tokio::sync::mpsc;

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Hands tasks to their thread, which ends once all clones of this are gone. Cheap to clone.
#[derive(Clone, Debug)]
pub struct TaskThread(mpsc::UnboundedSender<Task>);

impl TaskThread {
    /// Starts the thread.
    pub fn start(name: &'static str) -> (Self, ThreadHandle) {
        let (sender, mut tasks) = mpsc::unbounded_channel::<Task>();
        let run = move || async move {
            while let Some(task) = tasks.recv().await {
                super::spawn(task);
            }
        };
        (Self(sender), super::thread(name, 1, run))
    }

    /// Runs a task there, beside those that run there already.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        // The thread outlives this handle.
        let _ = self.0.send(Box::pin(task));
    }
}
