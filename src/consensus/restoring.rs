//! Orders the steps that put a received snapshot in use, and the writes to the log around them. The applier replaces the
//! state, after its pending work. Then the log starts again after the snapshot. Then come the writes that followed.
//!
//! The core decides what is written. The caller hands the work over in the order in which it comes from here.

use super::core::{LogWrite, Restore};
use super::writer::LogWork;
use crate::storage::log::Cut;

/// A snapshot between its arrival and its use. `S` is its state.
#[derive(Debug)]
pub(super) struct Restoring<S> {
    /// The state of the snapshot that raft is being told of.
    arrived: Option<S>,
    /// The snapshot whose state is being put in place.
    restore: Option<Restore>,
    /// Log work that waits until the state is in place.
    deferred: Vec<LogWork>,
}

/// Work that follows from the core's outputs.
#[derive(Debug)]
pub(super) struct Ordered<S> {
    /// For the log's disk, now.
    pub log: Vec<LogWork>,
    /// For the applier: the state of the snapshot that raft accepted.
    pub put_in_place: Option<(S, Cut)>,
}

/// Raft accepted a snapshot whose state is not here.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("raft took a snapshot that never arrived")]
pub(super) struct NeverArrived;

impl<S> Default for Restoring<S> {
    fn default() -> Self {
        Self {
            arrived: None,
            restore: None,
            deferred: Vec::new(),
        }
    }
}

impl<S> Restoring<S> {
    /// Whether a state is being put in place.
    pub fn is_under_way(&self) -> bool {
        self.restore.is_some()
    }

    /// A state has arrived. Next the caller tells raft, and then takes its outputs.
    pub fn arrive(&mut self, state: S) {
        self.arrived = Some(state);
    }

    /// Takes the state if raft has not accepted its snapshot.
    pub fn take_refused(&mut self) -> Option<S> {
        self.arrived.take()
    }

    /// Orders the core's writes around the snapshot that raft accepted, if any.
    pub fn order(
        &mut self,
        writes: Vec<LogWrite>,
        restore: Option<Restore>,
    ) -> Result<Ordered<S>, NeverArrived> {
        let number = restore.as_ref().map_or(u64::MAX, |restore| restore.number);
        let (before, behind): (Vec<_>, Vec<_>) = writes.into_iter().partition(|write| write.number < number);
        let work = |writes: Vec<LogWrite>| writes.into_iter().map(LogWork::Write).collect();
        let mut log = self.defer(work(before));
        let mut put_in_place = None;
        if let Some(restore) = restore {
            put_in_place = Some((self.arrived.take().ok_or(NeverArrived)?, restore.cut));
            self.restore = Some(restore);
        }
        log.extend(self.defer(work(behind)));
        Ok(Ordered { log, put_in_place })
    }

    /// The state is in use. Returns where the log starts, and the work that the log's disk can do now.
    pub fn finish(&mut self) -> Option<(Cut, Vec<LogWork>)> {
        let restore = self.restore.take()?;
        let reset = LogWork::Reset {
            number: restore.number,
            cut: restore.cut,
            hard_state: restore.hard_state,
        };
        let work = std::iter::once(reset).chain(std::mem::take(&mut self.deferred));
        Some((restore.cut, work.collect()))
    }

    /// Returns the work that need not wait.
    fn defer(&mut self, mut work: Vec<LogWork>) -> Vec<LogWork> {
        if self.is_under_way() {
            self.deferred.append(&mut work);
        }
        work
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{LogIndex, Term};
    use crate::proto::peer::HardState;

    fn writes(numbers: &[u64]) -> Vec<LogWrite> {
        let write = |number: &u64| LogWrite {
            number: *number,
            entries: Vec::new(),
            replaces_suffix: false,
            hard_state: None,
        };
        numbers.iter().map(write).collect()
    }

    fn restore(number: u64) -> Restore {
        Restore {
            number,
            cut: Cut {
                index: LogIndex(7),
                term: Term(1),
            },
            hard_state: HardState::default(),
        }
    }

    fn numbers(work: &[LogWork]) -> Vec<u64> {
        work.iter().map(LogWork::number).collect()
    }

    #[test]
    fn writes_keep_their_order_around_a_snapshot() {
        let mut restoring = Restoring::default();
        let first = restoring.order(writes(&[1]), None).expect("no snapshot");
        assert_eq!((numbers(&first.log), first.put_in_place), (vec![1], None));
        restoring.arrive("state");
        let taken = restoring
            .order(writes(&[2, 4]), Some(restore(3)))
            .expect("it has arrived");
        assert_eq!(numbers(&taken.log), [2], "what comes behind it waits");
        assert_eq!(
            taken.put_in_place.map(|(state, cut)| (state, cut.index)),
            Some(("state", LogIndex(7)))
        );
        assert!(restoring.is_under_way());
        assert_eq!(restoring.take_refused(), None, "raft has taken it");
        let later = restoring.order(writes(&[5]), None).expect("no snapshot");
        assert!(later.log.is_empty());
        let (cut, work) = restoring.finish().expect("it was under way");
        assert_eq!((cut.index, numbers(&work)), (LogIndex(7), vec![3, 4, 5]));
        assert!(restoring.finish().is_none());
        let last = restoring.order(writes(&[6]), None).expect("no snapshot");
        assert_eq!(numbers(&last.log), [6]);
    }

    #[test]
    fn what_raft_does_not_take_is_given_back_and_what_never_arrived_is_a_fault() {
        let mut restoring = Restoring::default();
        restoring.arrive("state");
        restoring.order(writes(&[1]), None).expect("no snapshot");
        assert_eq!(restoring.take_refused(), Some("state"));
        assert_eq!(
            restoring
                .order(writes(&[]), Some(restore(2)))
                .expect_err("no state"),
            NeverArrived
        );
    }
}
