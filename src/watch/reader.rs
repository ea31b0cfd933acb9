//! Reads for watchers that are behind, on a separate thread, so that neither requests nor writes wait for its disk.

use super::catch_up::{Read, ReadOutcome};
use super::event::{Content, Event};
use super::handle::WatchHandle;
use crate::env;
use crate::inbox::{Inbox, Wake};
use crate::mutants::{self, Mutant};
use crate::state::mvcc::MvccError;
use crate::state::mvcc::changes::{ChangeKind, KeyChange};
use crate::state::mvcc::past::{Pushed, pushed_record};
use crate::state::mvcc::records::Source;
use crate::state::{View, Views};
use crate::stop::StopSignal;
use crate::storage::state::record::Record;
use crate::storage::state::replaced::Previous;
use actix::{Actor, AsyncContext, Context, Handler, WrapFuture};
use std::sync::Arc;

/// The actor. It gets one read at a time.
#[derive(Debug)]
pub struct WatchReader {
    pub views: Views,
    pub inbox: Arc<Inbox<Option<Read>>>,
    pub hub: WatchHandle,
    pub stop: StopSignal,
}

impl Actor for WatchReader {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        self.inbox.set_owner(context.address().recipient());
    }
}

impl Handler<Wake> for WatchReader {
    type Result = ();

    fn handle(&mut self, _: Wake, context: &mut Context<Self>) {
        let Some(read) = self.inbox.take() else { return };
        let (views, hub, stop) = (self.views.clone(), self.hub.clone(), self.stop.clone());
        let run = async move {
            let outcome = env::disk_read(|| carry_out(&views.load(), read)).await;
            // Records that are compacted meanwhile may vanish during the read, so its result does not count.
            let compact_revision = views.load().compact_revision();
            if read.from_revision < compact_revision {
                return hub.read_done(ReadOutcome::Compacted(compact_revision));
            }
            match outcome {
                Ok(outcome) => hub.read_done(outcome),
                Err(error) => stop.fail(&error),
            }
        };
        context.wait(run.into_actor(self));
    }
}

/// Reads changes from `view`.
pub fn carry_out(view: &View, read: Read) -> Result<ReadOutcome, MvccError> {
    let changes = match view.changes(read.from_revision, read.changes_max) {
        Ok(changes) => changes,
        Err(MvccError::Compacted) => return Ok(ReadOutcome::Compacted(view.compact_revision())),
        Err(error) => return Err(error),
    };
    let through = match changes.last() {
        Some(last) if changes.len() >= read.changes_max => last.place.main,
        _ => view.revision(),
    };
    let previous = if read.previous {
        previous_records(view, &changes)?
    } else {
        vec![None; changes.len()]
    };
    let events = changes.into_iter().zip(previous);
    Ok(ReadOutcome::Changes {
        read,
        through,
        events: events.map(|(change, previous)| event(change, previous)).collect(),
    })
}

/// The records that the changes have replaced, as far as they are not compacted.
fn previous_records(view: &View, changes: &[KeyChange]) -> Result<Vec<Option<Record>>, MvccError> {
    let Some(first) = changes.first() else {
        return Ok(vec![]);
    };
    let mut past = view.past();
    let mut replacements = past.replacements(first.place)?;
    let mut previous = Vec::with_capacity(changes.len());
    for KeyChange { place, kv, .. } in changes {
        let mut replaced = None;
        if place.main > view.compact_revision() {
            replaced = replacements.next().transpose()?;
            while replaced.as_ref().is_some_and(|replaced| replaced.place < *place) {
                replaced = replacements.next().transpose()?;
            }
        }
        let found = replaced.filter(|replaced| replaced.place == *place);
        previous.push(match found.map(|replaced| replaced.previous) {
            None | Some(Previous::Nothing) => None,
            Some(Previous::Whole(_)) if mutants::active(Mutant::WatchPreviousForgotten) => None,
            Some(Previous::Whole(record)) => Some(record),
            Some(Previous::InHistory(written)) => {
                let pushed = Pushed {
                    place: written,
                    moved_to: None,
                };
                Some(pushed_record(&mut *past, &kv.key, pushed)?)
            }
        });
    }
    Ok(previous)
}

fn event(change: KeyChange, previous: Option<Record>) -> Event {
    let KeyChange { place, kind, kv } = change;
    let key = kv.key.clone();
    Event {
        revision: place.main,
        kind,
        record: match kind {
            ChangeKind::Put => Content::KeyValue(kv),
            ChangeKind::Delete => Content::Nothing,
        },
        previous: previous.into(),
        key,
    }
}
