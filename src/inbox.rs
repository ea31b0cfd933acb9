//! What waits for an actor on another thread: producers add to it under a short lock, the actor takes all of it at
//! once. One wake-up per batch, however many producers there were, is what keeps a put cheap.

use actix::{Message, Recipient};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// Says that the inbox holds something.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Wake;

/// An actor's inbox. Its bounds are its producers' concern: they see the content when they add.
#[derive(Debug)]
pub struct Inbox<T> {
    inner: Mutex<InboxState<T>>,
    owner: OnceLock<Recipient<Wake>>,
}

#[derive(Debug, Default)]
struct InboxState<T> {
    content: T,
    /// The owner has been told and has not looked yet.
    woken: bool,
    /// Something was added quietly since the owner looked.
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
    /// Names the actor that takes from here, once; what came before it is there waits for it.
    pub fn set_owner(&self, owner: Recipient<Wake>) {
        assert!(self.owner.set(owner).is_ok(), "an inbox has one owner");
        self.lock().woken = false;
        self.add(|_| ());
    }

    /// Changes the content and wakes the owner unless that was done already.
    pub fn add<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let mut inner = self.lock();
        let result = change(&mut inner.content);
        let wake = !std::mem::replace(&mut inner.woken, true);
        drop(inner);
        if wake && let Some(owner) = self.owner.get() {
            // One message at most is on its way, so the mailbox cannot fill up.
            owner.do_send(Wake);
        }
        result
    }

    /// Changes the content without waking the owner: the caller sees to it that [`Self::wake`] is called soon, and may
    /// do so once for many changes. True if nobody has woken the owner yet.
    pub fn add_quietly<R>(&self, change: impl FnOnce(&mut T) -> R) -> (R, bool) {
        let mut inner = self.lock();
        let result = change(&mut inner.content);
        let wake_due = !inner.woken && !std::mem::replace(&mut inner.wake_due, true);
        (result, wake_due)
    }

    /// Changes the content for whenever the owner looks next.
    pub fn note(&self, change: impl FnOnce(&mut T)) {
        change(&mut self.lock().content);
    }

    /// Wakes the owner if something was added quietly and nobody has woken it since.
    pub fn wake(&self) {
        let mut inner = self.lock();
        let due = std::mem::take(&mut inner.wake_due) && !inner.woken;
        inner.woken |= due;
        drop(inner);
        if due && let Some(owner) = self.owner.get() {
            owner.do_send(Wake);
        }
    }

    /// Takes everything.
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
