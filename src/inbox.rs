//! An inbox for an actor on another thread: producers add to it under a short lock, the actor takes all of it at once. A put
//! is cheap because there is one wake-up per batch, however many producers there are.

use actix::{Message, Recipient};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// Tells an actor that its inbox holds something.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Wake;

/// An actor's inbox. Producers bound it: they see the content when they add.
#[derive(Debug)]
pub struct Inbox<T> {
    inner: Mutex<InboxState<T>>,
    owner: OnceLock<Recipient<Wake>>,
}

#[derive(Debug, Default)]
struct InboxState<T> {
    content: T,
    /// The owner has been told and has not yet taken the content.
    woken: bool,
    /// Something was added quietly since the owner last took the content.
    wake_due: bool,
}

impl<T: Default> Default for Inbox<T> {
    fn default() -> Self {
        Self {
            inner: Mutex::default(),
            owner: OnceLock::new(),
        }
    }
}

impl<T: Default> Inbox<T> {
    /// Sets the actor that takes the content; may be called once. Content that was added before waits for it.
    pub fn set_owner(&self, owner: Recipient<Wake>) {
        assert!(self.owner.set(owner).is_ok(), "an inbox has one owner");
        self.lock().woken = false;
        self.add(|_| ());
    }

    /// Changes the content and wakes the owner unless that was already done.
    pub fn add<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let mut inner = self.lock();
        let result = change(&mut inner.content);
        let wake = !std::mem::replace(&mut inner.woken, true);
        drop(inner);
        if wake && let Some(owner) = self.owner.get() {
            // At most one message is in the mailbox, so it cannot fill up.
            owner.do_send(Wake);
        }
        result
    }

    /// Changes the content without waking the owner. The caller must call [`Self::wake`] soon, once for any number of changes.
    /// Returns true unless the owner was already woken or a wake-up is already due.
    pub fn add_quietly<R>(&self, change: impl FnOnce(&mut T) -> R) -> (R, bool) {
        let mut inner = self.lock();
        let result = change(&mut inner.content);
        let wake_due = !inner.woken && !std::mem::replace(&mut inner.wake_due, true);
        (result, wake_due)
    }

    /// Changes the content, which the owner sees when it next wakes.
    pub fn note(&self, change: impl FnOnce(&mut T)) {
        change(&mut self.lock().content);
    }

    /// Wakes the owner if something was added quietly and it has not been woken since.
    pub fn wake(&self) {
        let mut inner = self.lock();
        let due = std::mem::take(&mut inner.wake_due) && !inner.woken;
        inner.woken |= due;
        drop(inner);
        if due && let Some(owner) = self.owner.get() {
            owner.do_send(Wake);
        }
    }

    /// Takes all content.
    pub fn take(&self) -> T {
        let mut inner = self.lock();
        inner.woken = false;
        inner.wake_due = false;
        std::mem::take(&mut inner.content)
    }

    fn lock(&self) -> MutexGuard<'_, InboxState<T>> {
        // A producer that panicked half-way has added all or nothing: changes are pushes.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
