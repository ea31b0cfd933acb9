//! The hub: the watchers of each stream, and how far each has been served. No clock, no I/O, no tasks.
//!
//! A watcher is *synced* when everything up to the hub's revision is in its stream's outbox: new changes go to it as they are
//! published (`publish.rs`). It is *unsynced* when it starts in the past or fell behind: it gets changes from memory or from the
//! disk (`catch_up.rs`). It is *parked* while it is behind and its stream's outbox is full. A watcher that is behind stays behind
//! until it is served; nothing is ever skipped. Mirrors etcd's server/storage/mvcc/watchable_store.go (there: synced, unsynced,
//! victims).

pub use super::stream::{Create, OpenedStream, Permission, StreamId};

use super::catch_up::CatchUp;
use super::interests::Interests;
use super::outbox::{Ending, Message};
use crate::etcd_errors::EtcdError;
use crate::limits::{WATCH_STREAMS_MAX, WATCHERS_MAX, sizes};
use crate::mutants::{self, Mutant};
use crate::proto::etcdserverpb::{ResponseHeader, WatchResponse};
use crate::state::changes::Wanted;
use slab::Slab;
use std::collections::{BTreeMap, BTreeSet};

/// The watch id in etcd's response when a watcher could not be created.
pub const NO_WATCH_ID: i64 = -1;

/// Limits; tests run them tiny.
#[derive(Clone, Copy, Debug)]
pub struct HubOptions {
    pub outbox_bytes: usize,
    pub watchers_max: usize,
    pub streams_max: usize,
    /// Larger responses are split for watchers that accept fragments.
    pub fragment_bytes: usize,
    /// Interval between progress notifications.
    pub progress_interval_ms: u64,
}

impl Default for HubOptions {
    fn default() -> Self {
        Self {
            outbox_bytes: sizes().watch_outbox_bytes,
            watchers_max: WATCHERS_MAX,
            streams_max: WATCH_STREAMS_MAX,
            fragment_bytes: usize::MAX,
            progress_interval_ms: 600_000,
        }
    }
}

/// See the head of the file.
#[derive(Debug)]
pub struct Hub {
    pub(super) options: HubOptions,
    /// Everything up to here has been published to the synced watchers.
    pub(super) revision: i64,
    pub(super) streams: Slab<Stream>,
    numbers: BTreeMap<StreamId, u32>,
    pub(super) watchers: Slab<Watcher>,
    pub(super) interests: Interests,
    pub(super) catch_up: CatchUp,
    /// When the next progress notification of each stream is due.
    progress_due: BTreeSet<(u64, u32)>,
    stopped: bool,
}

#[derive(Debug)]
pub(super) struct Stream {
    opened: OpenedStream,
    watchers: BTreeMap<i64, u32>,
    next_watch_id: i64,
    /// Messages staged by the current step.
    staged: Vec<Message>,
    staged_bytes: usize,
    /// The size of the outbox at the last look: an upper bound.
    queued_bytes: usize,
    /// The outbox is full; the stream reports when there is room.
    pub(super) blocked: bool,
    pub(super) parked: Vec<u32>,
}

#[derive(Debug)]
pub(super) struct Watcher {
    pub(super) id: i64,
    pub(super) start_revision: i64,
    /// Everything before this revision that matches the watcher is in the outbox. For a synced watcher, the hub's revision counts
    /// if it is higher.
    pub(super) next_revision: i64,
    pub(super) stream: u32,
    pub(super) interest: u32,
    place_in_interest: u32,
    pub(super) state: State,
    pub(super) fragment: bool,
    progress_notify: bool,
    /// Nothing was sent since the last progress notification was due.
    pub(super) quiet: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Synced,
    Unsynced,
    Parked,
}

impl Hub {
    pub fn new(options: HubOptions, revision: i64) -> Self {
        Self {
            options,
            revision,
            streams: Slab::new(),
            numbers: BTreeMap::new(),
            watchers: Slab::new(),
            interests: Interests::default(),
            catch_up: CatchUp::default(),
            progress_due: BTreeSet::new(),
            stopped: false,
        }
    }

    pub fn watcher_count(&self) -> usize {
        self.watchers.len()
    }

    pub fn stream_count(&self) -> usize {
        self.streams.len()
    }

    /// The number of watchers that are behind.
    pub fn behind_count(&self) -> usize {
        self.catch_up.behind_count()
    }

    /// What the applier must collect.
    pub fn wanted(&self) -> Wanted {
        Wanted {
            changes: !self.watchers.is_empty(),
            previous: self.interests.previous_wanted(),
        }
    }

    /// Advances to the store's revision after a time without watchers.
    pub fn set_revision(&mut self, revision: i64) {
        assert!(
            self.watchers.is_empty(),
            "watchers would miss what came in between"
        );
        self.revision = self.revision.max(revision);
    }

    pub fn open(&mut self, id: StreamId, opened: OpenedStream) {
        if self.streams.len() >= self.options.streams_max {
            return opened.outbox.end(Ending::TooMany);
        }
        let progress_due_ms = opened.progress_due_ms;
        if self.stopped {
            opened.outbox.end(Ending::Stopped);
        }
        let number = self.streams.insert(Stream {
            opened,
            watchers: BTreeMap::new(),
            next_watch_id: 0,
            staged: vec![],
            staged_bytes: 0,
            queued_bytes: 0,
            blocked: false,
            parked: vec![],
        }) as u32;
        self.numbers.insert(id, number);
        self.progress_due.insert((progress_due_ms, number));
    }

    /// Closes the stream of a client that has disconnected.
    pub fn close(&mut self, id: StreamId) {
        let Some(number) = self.numbers.remove(&id) else {
            return;
        };
        let watchers = std::mem::take(&mut self.streams[number as usize].watchers);
        for watcher in watchers.into_values() {
            self.remove(watcher);
        }
        let stream = self.streams.remove(number as usize);
        self.progress_due.remove(&(stream.opened.progress_due_ms, number));
    }

    /// Creates a watcher, or sends the reason why not.
    pub fn create(&mut self, id: StreamId, create: Create) {
        let Some(number) = self.number(id) else { return };
        let start_revision = create.start_revision;
        let mut response = WatchResponse {
            created: true,
            ..self.response(NO_WATCH_ID)
        };
        match self.admit(number, create) {
            Ok(watcher) => {
                response.watch_id = self.watchers[watcher as usize].id;
                self.send(number, Message::Control(Box::new(response)));
                if start_revision != 0 && start_revision <= self.revision {
                    self.fall_behind(watcher, start_revision);
                }
            }
            Err(reason) => {
                response.canceled = true;
                response.cancel_reason = reason;
                self.send(number, Message::Control(Box::new(response)));
            }
        }
    }

    fn admit(&mut self, number: u32, create: Create) -> Result<u32, String> {
        if create.start_revision < 0 {
            return Err(EtcdError::Compacted.text().to_owned());
        }
        let stream = &mut self.streams[number as usize];
        let permitted = |keys| stream.opened.permission.as_ref().map_or(Ok(()), |ask| ask(keys));
        let keys = create.keys.ok_or(EtcdError::WatchRangeEmpty.text())?;
        permitted(&keys)?;
        if self.watchers.len() >= self.options.watchers_max {
            return Err(EtcdError::TooManyRequests.text().to_owned());
        }
        let id = if create.watch_id != 0 {
            create.watch_id
        } else {
            while stream.watchers.contains_key(&stream.next_watch_id) {
                stream.next_watch_id += 1;
            }
            stream.next_watch_id += 1;
            stream.next_watch_id - 1
        };
        if stream.watchers.contains_key(&id) {
            return Err(EtcdError::WatchIdDuplicate.text().to_owned());
        }
        let entry = self.watchers.vacant_entry();
        let watcher = entry.key() as u32;
        let (interest, place_in_interest) = self.interests.add(keys, create.wants, watcher);
        entry.insert(Watcher {
            id,
            start_revision: create.start_revision,
            next_revision: create.start_revision.max(self.revision + 1),
            stream: number,
            interest,
            place_in_interest,
            state: State::Synced,
            fragment: create.fragment,
            progress_notify: create.progress_notify,
            quiet: true,
        });
        stream.watchers.insert(id, watcher);
        Ok(watcher)
    }

    /// Cancels a watcher on its client's request. An unknown watcher is ignored, as in etcd.
    pub fn cancel(&mut self, id: StreamId, watch_id: i64) {
        let Some(number) = self.number(id) else { return };
        if self.drop_watcher(number, watch_id) {
            let response = WatchResponse {
                canceled: true,
                ..self.response(watch_id)
            };
            self.send(number, Message::Control(Box::new(response)));
        }
    }

    /// Sends a stream a progress notification, if all its watchers have reached the hub's revision.
    pub fn report_progress(&mut self, id: StreamId) {
        let Some(number) = self.number(id) else { return };
        let watchers = &self.streams[number as usize].watchers;
        let synced = |watcher: &u32| self.is_up_to_date(&self.watchers[*watcher as usize]);
        if !watchers.is_empty() && watchers.values().all(synced) {
            let response = self.response(NO_WATCH_ID);
            self.send(number, Message::Control(Box::new(response)));
        }
    }

    /// There is room in a stream's outbox again.
    pub fn drained(&mut self, id: StreamId) {
        let Some(number) = self.number(id) else { return };
        let stream = &mut self.streams[number as usize];
        stream.blocked = false;
        stream.queued_bytes = stream.opened.outbox.bytes();
        if mutants::active(Mutant::ParkedForever) {
            return;
        }
        for watcher in std::mem::take(&mut stream.parked) {
            let found = &mut self.watchers[watcher as usize];
            found.state = State::Unsynced;
            self.catch_up.unpark(found.next_revision, watcher);
        }
    }

    /// Cancels watchers that are no longer permitted, after permissions have changed.
    pub fn recheck(&mut self) {
        let mut refused = vec![];
        for (number, stream) in &self.streams {
            let Some(ask) = &stream.opened.permission else {
                continue;
            };
            for (watch_id, watcher) in &stream.watchers {
                let interest = self.watchers[*watcher as usize].interest;
                if let Err(reason) = ask(&self.interests.get(interest).keys) {
                    refused.push((number as u32, *watch_id, reason));
                }
            }
        }
        for (number, watch_id, cancel_reason) in refused {
            self.drop_watcher(number, watch_id);
            let response = WatchResponse {
                canceled: true,
                cancel_reason,
                ..self.response(watch_id)
            };
            self.send(number, Message::Control(Box::new(response)));
        }
    }

    /// Ends the streams that require a leader, after some time without one.
    pub fn leader_lost(&mut self) {
        for (_, stream) in &self.streams {
            if stream.opened.require_leader {
                stream.opened.outbox.end(Ending::NoLeader);
            }
        }
    }

    /// Ends all streams when the member stops, after the messages in their outboxes are sent.
    pub fn stop(&mut self) {
        self.stopped = true;
        self.flush();
        for (_, stream) in &self.streams {
            stream.opened.outbox.end(Ending::Stopped);
        }
    }

    pub fn any_requires_leader(&self) -> bool {
        self.streams
            .iter()
            .any(|(_, stream)| stream.opened.require_leader)
    }

    /// When [`Self::tick`] is due next.
    pub fn next_tick_ms(&self) -> Option<u64> {
        self.progress_due.first().map(|(due_ms, _)| *due_ms)
    }

    /// Sends a progress notification to the watchers that asked for it, unless they were sent something since the last one.
    pub fn tick(&mut self, now_ms: u64) {
        while let Some((due_ms, number)) = self.progress_due.first().copied()
            && due_ms <= now_ms
        {
            self.progress_due.pop_first();
            let next_due_ms = now_ms + self.options.progress_interval_ms.max(1);
            self.progress_due.insert((next_due_ms, number));
            let stream = &mut self.streams[number as usize];
            stream.opened.progress_due_ms = next_due_ms;
            let watchers: Vec<u32> = stream.watchers.values().copied().collect();
            for watcher in watchers {
                let found = &self.watchers[watcher as usize];
                if !found.progress_notify {
                    continue;
                }
                if found.quiet && self.is_up_to_date(found) {
                    let response = self.response(found.id);
                    self.send(number, Message::Control(Box::new(response)));
                }
                self.watchers[watcher as usize].quiet = true;
            }
        }
    }

    /// Moves the messages staged since the last call to the outboxes. Each outbox is locked once.
    pub fn flush(&mut self) {
        for number in self.catch_up.take_touched() {
            if let Some(stream) = self.streams.get_mut(number as usize) {
                stream.flush();
            }
        }
    }

    fn number(&self, id: StreamId) -> Option<u32> {
        self.numbers.get(&id).copied()
    }

    fn is_up_to_date(&self, watcher: &Watcher) -> bool {
        let sent = watcher.state == State::Synced || mutants::active(Mutant::WatchReportsEarly);
        sent && watcher.start_revision <= self.revision
    }

    fn response(&self, watch_id: i64) -> WatchResponse {
        WatchResponse {
            header: Some(ResponseHeader {
                revision: self.revision,
                ..ResponseHeader::default()
            }),
            watch_id,
            ..WatchResponse::default()
        }
    }

    pub(super) fn send(&mut self, number: u32, message: Message) {
        if self.streams[number as usize].stage(message) {
            self.catch_up.touched(number);
        }
    }

    /// Turns a synced watcher into an unsynced one: everything from `next_revision` on is still to come.
    pub(super) fn fall_behind(&mut self, watcher: u32, next_revision: i64) {
        let found = &mut self.watchers[watcher as usize];
        assert_eq!(found.state, State::Synced);
        found.next_revision = next_revision;
        found.state = State::Unsynced;
        self.catch_up.add(next_revision, watcher);
    }

    pub(super) fn cancel_compacted(&mut self, watcher: u32, compact_revision: i64) {
        let Watcher { id, stream, .. } = self.watchers[watcher as usize];
        self.drop_watcher(stream, id);
        let response = WatchResponse {
            // etcd leaves the revision out.
            header: Some(ResponseHeader::default()),
            watch_id: id,
            canceled: true,
            compact_revision,
            ..WatchResponse::default()
        };
        self.send(stream, Message::Control(Box::new(response)));
    }

    fn drop_watcher(&mut self, number: u32, watch_id: i64) -> bool {
        let Some(watcher) = self.streams[number as usize].watchers.remove(&watch_id) else {
            return false;
        };
        self.remove(watcher);
        true
    }

    /// Removes a watcher from everything but its stream's list.
    fn remove(&mut self, watcher: u32) {
        let removed = self.watchers.remove(watcher as usize);
        if let Some(moved) = self.interests.remove(removed.interest, removed.place_in_interest) {
            self.watchers[moved as usize].place_in_interest = removed.place_in_interest;
        }
        match removed.state {
            State::Synced => {}
            State::Unsynced => self.catch_up.remove(removed.next_revision, watcher),
            State::Parked => {
                let parked = &mut self.streams[removed.stream as usize].parked;
                parked.retain(|other| *other != watcher);
                self.catch_up.remove_parked();
            }
        }
    }
}

impl Stream {
    /// True if it is the first message since the last flush.
    pub(super) fn stage(&mut self, message: Message) -> bool {
        self.staged_bytes += message.bytes();
        self.staged.push(message);
        self.staged.len() == 1
    }

    fn flush(&mut self) {
        if !self.staged.is_empty() {
            self.queued_bytes = self.opened.outbox.push(&mut self.staged);
            self.staged_bytes = 0;
        }
    }

    /// Whether events must wait. Looks into the outbox only if it was full at the last look.
    pub(super) fn is_full(&mut self, outbox_bytes: usize) -> bool {
        if !self.blocked && self.queued_bytes + self.staged_bytes >= outbox_bytes {
            self.flush();
            self.queued_bytes = self.opened.outbox.bytes();
            self.blocked =
                self.queued_bytes >= outbox_bytes && self.opened.outbox.call_when_drained(outbox_bytes / 2);
        }
        self.blocked
    }
}
