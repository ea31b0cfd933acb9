//! The simulated implementation: madsim's tasks and time, clocks and a network of our own, and random numbers from the seed.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // this is the seam

pub mod clock;
mod names;
pub mod network;
mod stream;
pub mod threads;

use std::future::Future;
use std::time::Duration;

pub use clock::{now, sleep_until, unix_time};
pub use names::{lookup_service, names_of, resolve};
pub use std::time::Instant;
pub use stream::{Listener, Stream, connect};

/// The longest sync of a simulated disk, in microseconds, unless the simulator sets another limit.
const DISK_SYNC_US_MAX: u64 = 2_000;

thread_local! {
    static DISK_SYNC_LIMIT_US: std::cell::Cell<u64> = const { std::cell::Cell::new(DISK_SYNC_US_MAX) };
}

/// Sets the longest sync of disks, for the simulation on this thread.
pub fn set_disk_sync_us_max(limit_us: u64) {
    DISK_SYNC_LIMIT_US.set(limit_us.max(1));
}

/// Runs the program's main future on a runtime of its own, with a fixed seed. Simulations bring their own runtime.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut runtime = madsim::runtime::Runtime::new();
    runtime.set_allow_system_thread(true);
    runtime.block_on(future)
}

/// A thread of a member: in the simulator, tasks on its node.
#[derive(Debug)]
pub struct ThreadHandle(());

impl ThreadHandle {
    /// Returns immediately: the simulator ends a node's tasks itself.
    pub fn join(self) -> bool {
        true
    }
}

/// Runs a future as a task of the node.
pub fn thread<F, M>(name: &'static str, _workers: usize, make: M) -> ThreadHandle
where
    F: Future<Output = ()> + 'static,
    M: FnOnce() -> F + Send + 'static,
{
    madsim::task::Builder::new().spawn_local(threads::on(name, make()));
    ThreadHandle(())
}

/// The same: all threads of a node are tasks.
pub fn thread_without_sockets<F, M>(name: &'static str, make: M) -> ThreadHandle
where
    F: Future<Output = ()> + 'static,
    M: FnOnce() -> F + Send + 'static,
{
    thread(name, 1, make)
}

/// Simulated threads have no priorities.
pub fn yield_to_all() {}

/// See above.
pub fn with_patient_threads<T>(work: impl FnOnce() -> T) -> T {
    work()
}

/// Simulated members have one processor each.
pub fn processors() -> usize {
    1
}

/// Runs blocking work after other tasks had their turn.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let elsewhere = async {
        super::yield_now().await;
        work()
    };
    Some(threads::on("blocking", elsewhere).await)
}

/// Spawns a task.
pub fn spawn(future: impl Future<Output = ()> + Send + 'static) {
    madsim::task::spawn(threads::on(threads::current(), future));
}

/// Spawns a task on this node.
pub fn spawn_local(future: impl Future<Output = ()> + 'static) {
    madsim::task::Builder::new().spawn_local(threads::on(threads::current(), future));
}

/// Waits, by this machine's clock.
pub fn sleep(duration: Duration) -> impl Future<Output = ()> + Send + Sync + 'static {
    sleep_until(now() + duration)
}

/// A random number from the seed.
pub fn random_u64() -> u64 {
    madsim::rand::random()
}

/// Runs a call that makes writes durable, and lets simulated time pass. If it passes before the call, a crash meanwhile loses the
/// writes; if after, a crash finds them durable but not reported.
pub async fn disk_sync<T>(sync: impl FnOnce() -> T) -> T {
    let duration = Duration::from_micros(super::random_below(DISK_SYNC_LIMIT_US.get()));
    if super::random_below(2) == 0 {
        sleep(duration).await;
        return sync();
    }
    let outcome = sync();
    sleep(duration).await;
    outcome
}

/// Runs a call that reads from the disk, and lets simulated time pass before it returns.
pub async fn disk_read<T>(read: impl FnOnce() -> T) -> T {
    let outcome = read();
    sleep(Duration::from_micros(super::random_below(
        DISK_SYNC_LIMIT_US.get(),
    )))
    .await;
    outcome
}

/// Ready when the simulation asks the member's process to stop.
pub async fn shutdown_signal() -> i32 {
    // An error means that no such request can come any more.
    if madsim::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
    15
}

/// No signal reaches a simulated process.
pub fn ignore_unhandled_signals() {}

/// See above.
pub fn signal_name(_signal: i32) -> &'static str {
    "unknown"
}

/// A simulated process does not end by signals.
pub fn end_by_signal(_signal: i32) {}
