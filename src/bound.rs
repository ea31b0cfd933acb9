//! A bound on what waits, from its admission until it is answered or discarded, whichever queues it passes on the way.
//! Everything that is counted carries a permit.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Cheap to clone. Clones share one count.
#[derive(Clone, Debug)]
pub struct Bound(Arc<Count>);

#[derive(Debug)]
struct Count {
    admitted: AtomicUsize,
    max: usize,
}

/// A permit, which is released when it is dropped.
#[derive(Debug)]
pub struct Admitted(Arc<Count>);

impl Bound {
    pub fn new(max: usize) -> Self {
        let admitted = AtomicUsize::new(0);
        Self(Arc::new(Count { admitted, max }))
    }

    /// A permit, unless all are taken.
    pub fn admit(&self) -> Option<Admitted> {
        self.take(1).then(|| Admitted(Arc::clone(&self.0)))
    }

    /// This many permits, or none at all.
    pub fn admit_all(&self, count: usize) -> Option<Vec<Admitted>> {
        self.take(count)
            .then(|| (0..count).map(|_| Admitted(Arc::clone(&self.0))).collect())
    }

    pub fn admitted(&self) -> usize {
        self.0.admitted.load(Ordering::Relaxed)
    }

    fn take(&self, count: usize) -> bool {
        let before = self.0.admitted.fetch_add(count, Ordering::Relaxed);
        let fits = before.saturating_add(count) <= self.0.max;
        if !fits {
            self.0.admitted.fetch_sub(count, Ordering::Relaxed);
        }
        fits
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.0.admitted.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_taken_whole_and_come_back() {
        let bound = Bound::new(3);
        let two = bound.admit_all(2).expect("room");
        assert!(bound.admit_all(2).is_none());
        assert_eq!(bound.admitted(), 2, "who was refused takes nothing");
        let third = bound.clone().admit().expect("one more");
        assert!(bound.admit().is_none());
        drop(two);
        assert_eq!(bound.admitted(), 1);
        drop(third);
        assert!(bound.admit_all(3).is_some());
        assert!(bound.admit_all(usize::MAX).is_none());
    }
}
