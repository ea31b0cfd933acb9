//! A thread that runs tasks of other threads: work that may block for a while, where the other threads must not.
//!
//! The callers bound the number of concurrent tasks.

use super::ThreadHandle;
use std::future::Future;
use std::pin::Pin;
use tokio::sync::mpsc;

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Passes tasks to their thread, which ends once all clones of this are dropped. Cheap to clone.
#[derive(Clone, Debug)]
pub struct TaskThread(mpsc::UnboundedSender<Task>);

impl TaskThread {
    pub fn start(name: &'static str) -> (Self, ThreadHandle) {
        let (sender, mut tasks) = mpsc::unbounded_channel::<Task>();
        let run = move || async move {
            while let Some(task) = tasks.recv().await {
                super::spawn(task);
            }
        };
        (Self(sender), super::thread(name, 1, run))
    }

    /// Runs a task on the thread, concurrently with its other tasks.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        // The thread outlives this handle.
        let _ = self.0.send(Box::pin(task));
    }
}
