//! Who carries out the writes of the log, and when: the log writer, on its own thread; or, on a fast disk, the consensus
//! actor itself, which waits for it. They keep their order: what comes while one of the actor's own is under way, or while
//! the state of a snapshot is put in place, waits here.
//!
//! What is to be written is the core's to say.

use super::core::LogWrite;
use super::writer::LogWork;
use crate::env;
use crate::inbox::Inbox;
use crate::mutants::{self, Mutant};
use crate::storage::log::{LogDatabase, LogError};
use std::sync::Arc;
use std::time::Duration;

/// A sync that takes longer blocks too much besides: the next writes go to the log writer,
const IN_PLACE_SYNC_MAX: Duration = Duration::from_millis(5);
/// for so long.
const IN_PLACE_PAUSE: Duration = Duration::from_secs(1);

/// See the head of the file.
#[derive(Debug)]
pub(super) struct LogWrites {
    log: LogDatabase,
    writer: Arc<Inbox<Vec<LogWork>>>,
    deferred: Vec<LogWork>,
    /// The state of a snapshot is being put in place.
    is_restoring: bool,
    /// A write is under way here, not at the log writer.
    is_in_place: bool,
    /// The newest write that was begun or handed over.
    newest: u64,
    /// Writes go to the log writer until then: a sync in place took long.
    in_place_from: Option<env::Instant>,
}

impl LogWrites {
    pub fn new(log: LogDatabase, writer: Arc<Inbox<Vec<LogWork>>>) -> Self {
        Self {
            log,
            writer,
            deferred: Vec::new(),
            is_restoring: false,
            is_in_place: false,
            newest: 0,
            in_place_from: None,
        }
    }

    /// Has this written as soon as it is its turn.
    pub fn add(&mut self, mut work: Vec<LogWork>) {
        if work.is_empty() {
            return;
        }
        if self.is_restoring || self.is_in_place {
            self.deferred.append(&mut work);
        } else {
            let numbers = work.iter().map(LogWork::number);
            self.newest = numbers.fold(self.newest, u64::max);
            self.writer.add(|queue| queue.append(&mut work));
        }
    }

    /// What comes from now on waits.
    pub fn begin_restore(&mut self) {
        self.is_restoring = true;
    }

    /// The state is in place: first this, then what has waited for it.
    pub fn finish_restore(&mut self, reset: LogWork) {
        self.is_restoring = false;
        self.deferred.insert(0, reset);
        self.add_deferred();
    }

    fn add_deferred(&mut self) {
        let deferred = std::mem::take(&mut self.deferred);
        self.add(deferred);
    }

    /// Whether nothing is before a write in place, and the disk has been fast enough of late. `persisted` is the newest
    /// write that is durable.
    pub fn may_be_in_place(&self, persisted: u64) -> bool {
        !self.is_restoring
            && persisted >= self.newest
            && self.in_place_from.is_none_or(|from| env::now() >= from)
    }

    /// Begins to write in place; [`Self::end_in_place`] must follow.
    pub fn begin_in_place(&mut self, writes: Vec<LogWrite>) -> Option<InPlace> {
        let number = writes.last()?.number;
        self.newest = number;
        self.is_in_place = true;
        let log = self.log.clone();
        Some(InPlace { number, log, writes })
    }

    /// It is written, since `begin`.
    pub fn end_in_place(&mut self, begin: env::Instant) {
        let end = env::now();
        self.in_place_from = (end - begin > IN_PLACE_SYNC_MAX).then_some(end + IN_PLACE_PAUSE);
        self.is_in_place = false;
        if !self.is_restoring {
            self.add_deferred();
        }
    }
}

/// A write in place.
#[derive(Debug)]
pub(super) struct InPlace {
    /// That of the last write.
    pub number: u64,
    log: LogDatabase,
    writes: Vec<LogWrite>,
}

impl InPlace {
    /// Writes and syncs, and says when it began.
    pub async fn run(self) -> Result<env::Instant, LogError> {
        let begin = env::now();
        for write in self.writes {
            self.log
                .append(&write.entries, write.replaces_suffix, write.hard_state.as_ref())?;
        }
        let log = self.log;
        if mutants::active(Mutant::AcknowledgeBeforeSync) {
            env::spawn_local(async move { drop(env::disk_sync(|| log.sync()).await) });
            return Ok(begin);
        }
        env::disk_sync(|| log.sync()).await?;
        Ok(begin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{LogIndex, Term};
    use crate::proto::peer::HardState;
    use crate::storage::log::Cut;

    fn write(number: u64) -> LogWrite {
        LogWrite {
            number,
            entries: Vec::new(),
            replaces_suffix: false,
            hard_state: None,
        }
    }

    #[test]
    fn writes_keep_their_order_around_one_in_place_and_a_snapshot() {
        let scratch = tempfile::tempdir().expect("a directory");
        let (log, _) = LogDatabase::open(scratch.path(), None).expect("a log");
        let writer = Arc::new(Inbox::<Vec<LogWork>>::default());
        let mut writes = LogWrites::new(log, Arc::clone(&writer));
        let handed_over = || writer.take().iter().map(LogWork::number).collect::<Vec<_>>();
        writes.add(vec![LogWork::Write(write(1))]);
        assert_eq!(handed_over(), [1]);
        assert!(!writes.may_be_in_place(0), "the writer is at work");
        assert!(writes.may_be_in_place(1));
        let in_place = writes
            .begin_in_place(vec![write(2), write(3)])
            .expect("something");
        assert_eq!(in_place.number, 3);
        writes.add(vec![LogWork::Write(write(4))]);
        writes.begin_restore();
        writes.end_in_place(env::now());
        assert!(!writes.may_be_in_place(3), "a snapshot is put in place");
        writes.add(vec![LogWork::Write(write(6))]);
        assert_eq!(handed_over(), [0; 0]);
        writes.finish_restore(LogWork::Reset {
            number: 5,
            cut: Cut {
                index: LogIndex(7),
                term: Term(1),
            },
            hard_state: HardState::default(),
        });
        assert_eq!(handed_over(), [5, 4, 6]);
        assert!(writes.begin_in_place(Vec::new()).is_none(), "nothing to write");
        assert!(writes.may_be_in_place(6));
        drop(writes.begin_in_place(vec![write(7)]));
        writes.add(vec![LogWork::Write(write(8))]);
        assert_eq!(handed_over(), [0; 0]);
        let begin = env::now().checked_sub(2 * IN_PLACE_SYNC_MAX);
        writes.end_in_place(begin.expect("the clock is older"));
        assert_eq!(handed_over(), [8]);
        assert!(!writes.may_be_in_place(8), "the disk is slow");
    }
}
