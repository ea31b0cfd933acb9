//! Sends new changes to the synced watchers.

use super::event::{self, Encoded, Event};
use super::hub::{Hub, State, Stream, Watcher};
use super::interests::of_interest;
use super::outbox::Message;
use crate::state::changes::AppliedChanges;
use slab::Slab;

/// All changes of the revisions after `after`, up to and including `revision`.
#[derive(Clone, Debug)]
pub struct Batch {
    pub after: i64,
    pub revision: i64,
    pub events: Vec<Event>,
    /// Whether the events hold the records before the changes.
    pub previous: bool,
}

impl Hub {
    /// Takes the changes of a view that was published.
    pub fn publish(&mut self, applied: AppliedChanges) {
        let AppliedChanges {
            after,
            revision,
            changes,
            previous,
        } = applied;
        if revision <= self.revision {
            return;
        }
        match changes {
            Some(changes) if after <= self.revision => {
                let new = changes
                    .into_iter()
                    .filter(|change| change.revision > self.revision);
                let events = new.map(Event::from).collect();
                self.deliver(Batch {
                    after: self.revision,
                    revision,
                    events,
                    previous,
                });
            }
            _ => self.lose_track(revision),
        }
    }

    fn deliver(&mut self, batch: Batch) {
        let matches = self.interests.matches(&batch.events);
        // Watchers whose stream is full, and those that need records which the events lack.
        let mut behind = vec![];
        let mut start = 0;
        while let Some((number, _)) = matches.get(start).copied() {
            let matched = of_interest(&matches[start..], number);
            start += matched.len();
            let interest = self.interests.get(number);
            let shared = event::encode(&batch.events, matched, interest.wants, batch.after);
            for watcher in &interest.watchers {
                let found = &mut self.watchers[*watcher as usize];
                if found.state != State::Synced {
                    continue;
                }
                let own;
                let encoded = if found.next_revision <= shared[0].first_revision {
                    &shared
                } else {
                    own = event::encode(&batch.events, matched, interest.wants, found.next_revision);
                    &own
                };
                if encoded.is_empty() {
                    continue;
                }
                let stream = &mut self.streams[found.stream as usize];
                let unknown = interest.wants.previous && !batch.previous;
                let full = stream.is_full(self.options.outbox_bytes);
                if unknown || full {
                    behind.push((*watcher, found.next_revision.max(batch.after + 1), full));
                } else if send(stream, found, encoded, None, self.options.fragment_bytes) {
                    self.catch_up.touched(found.stream);
                }
            }
        }
        for (watcher, next_revision, full) in behind {
            self.fall_behind(watcher, next_revision);
            if full {
                self.park(watcher);
            }
        }
        self.revision = batch.revision;
        self.catch_up.remember(batch);
    }

    /// Handles changes that the hub has not seen: every synced watcher has to read them.
    fn lose_track(&mut self, revision: i64) {
        let synced = |watchers: &Slab<Watcher>| -> Vec<(u32, i64)> {
            watchers
                .iter()
                .filter(|(_, watcher)| watcher.state == State::Synced)
                .map(|(number, watcher)| (number as u32, watcher.next_revision))
                .collect()
        };
        let missed_from = self.revision + 1;
        self.revision = revision;
        self.catch_up.forget();
        for (watcher, next_revision) in synced(&self.watchers) {
            let next_revision = next_revision.max(missed_from);
            if next_revision <= revision {
                self.fall_behind(watcher, next_revision);
            }
        }
    }
}

/// Stages responses for a watcher. Their header holds the revision of their last event unless `revision` is given. True if the
/// stream has to be flushed.
pub(super) fn send(
    stream: &mut Stream,
    watcher: &mut Watcher,
    encoded: &[Encoded],
    revision: Option<i64>,
    fragment_bytes: usize,
) -> bool {
    let mut first = false;
    for Encoded {
        last_revision,
        events,
        count,
        ..
    } in encoded
    {
        let revision = revision.unwrap_or(*last_revision);
        let pieces = if watcher.fragment && events.len() >= fragment_bytes {
            event::fragments(events, fragment_bytes)
        } else {
            vec![(events.clone(), *count)]
        };
        let last = pieces.len() - 1;
        for (place, (events, count)) in pieces.into_iter().enumerate() {
            first |= stream.stage(Message::Events {
                watch_id: watcher.id,
                revision,
                fragment: place < last,
                count,
                events,
            });
        }
    }
    watcher.quiet = false;
    first
}
