//! Detects disk calls where none are allowed: a thread that runs raft must not wait for a disk, or its member would not answer
//! heartbeats meanwhile.

use callboard::env::threads;
use std::backtrace::Backtrace;
use std::cell::RefCell;

/// The thread of the consensus actor, its links and its port.
const RAFT_THREAD: &str = "raft";

thread_local! {
    static FOUND: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Whether calls count: cheaper than finding out which file a call is about.
pub(super) fn is_forbidden() -> bool {
    threads::current() == RAFT_THREAD
}

/// Records a call on a watched file.
pub(super) fn note(call: &str) {
    if is_forbidden() {
        FOUND.with_borrow_mut(|found| {
            found.get_or_insert_with(|| format!("{call}, {}", Backtrace::force_capture()));
        });
    }
}

/// The first such call since the last check.
pub fn forbidden_wait() -> Option<String> {
    FOUND.take()
}
