//! The boundary between Callboard and the outside world: clocks, timers, randomness, tasks, threads, sockets and files.
//!
//! All other code reaches them only through this folder (clippy.toml enforces it), so that the same actors run on real sockets
//! (`real`) and, built with `--cfg madsim`, inside the deterministic simulator (`sim`). Both modules offer the same functions;
//! `tests::parity` runs one actor, one server and one client against the module that is built.

mod actor;
mod files;
mod http;
mod log_outputs;
mod names;
mod process;
mod service_manager;
mod tasks;

#[cfg(not(madsim))]
mod real;
#[cfg(not(madsim))]
use real as world;

#[cfg(madsim)]
mod sim;
#[cfg(madsim)]
use sim as world;

#[cfg(madsim)]
pub use sim::{clock, network, set_disk_sync_us_max, threads};

#[cfg(test)]
mod tests;

pub use actor::{run_actor, run_actor_in_background, start};
pub use files::{
    DirectoryLock, DiskFile, DiskSpace, EnginesHeld, FileError, SyncedFile, WAITS_FOR_ENGINES, allocate_file,
    are_engines_held, create_directory, disk_space, exists, file_length, hold_engines, is_directory,
    list_directory, lock_directory, read_file, remove_directory, remove_file, rename, sync_directory,
    wait_for_disk, write_file,
};
pub use http::{Executor, Timer};
pub use log_outputs::{AppendFile, Journal, local_time_ahead_seconds};
pub use names::ServiceRecord;
pub use process::{
    ProcessUsage, arguments, open_files_max, process_usage, raise_open_files_max, restart_process,
};
pub use service_manager::{ServiceState, tell_service_manager, watchdog_interval};
pub use tasks::TaskThread;
pub use world::{
    Instant, Listener, Stream, ThreadHandle, block_on, blocking, connect, disk_read, disk_sync,
    end_by_signal, ignore_unhandled_signals, lookup_service, names_of, now, processors, random_u64, resolve,
    shutdown_signal, signal_name, sleep, sleep_until, spawn, spawn_local, thread, thread_without_sockets,
    unix_time, with_patient_threads, yield_to_all,
};

use std::future::Future;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

/// A deadline passed before the future was ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("deadline has elapsed")]
pub struct Elapsed;

/// Waits for `future`, at most for `limit`.
pub async fn timeout<F: Future>(limit: Duration, future: F) -> Result<F::Output, Elapsed> {
    let mut future = pin!(future);
    let mut timer = pin!(sleep(limit));
    std::future::poll_fn(|context| {
        if let Poll::Ready(output) = future.as_mut().poll(context) {
            return Poll::Ready(Ok(output));
        }
        timer.as_mut().poll(context).map(|()| Err(Elapsed))
    })
    .await
}

/// The first of three futures to be ready.
#[derive(Debug)]
pub enum First<A, B, C> {
    One(A),
    Two(B),
    Three(C),
}

/// Waits for the first of three futures; if several are ready, the first argument wins.
pub async fn first<A, B, C>(
    one: impl Future<Output = A>,
    two: impl Future<Output = B>,
    three: impl Future<Output = C>,
) -> First<A, B, C> {
    tokio::select! {
        biased;
        output = one => First::One(output),
        output = two => First::Two(output),
        output = three => First::Three(output),
    }
}

/// Lets other tasks of this thread run.
pub async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(|context| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// A random number below `bound`, which must not be 0. The bias is below 2^-32 for bounds that fit 32 bits.
pub fn random_below(bound: u64) -> u64 {
    random_u64() % bound
}
