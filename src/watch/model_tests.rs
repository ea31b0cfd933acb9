//! Property: whatever happens, every watcher sees exactly the changes that it asked for, from its start revision on, in order,
//! once, whole revisions at a time; or is told that they are compacted.

use super::event::Event;
use super::model_steps::{CreateStep, STREAMS, StartAt, Step, Told, step};
use super::*;
use crate::proto::etcdserverpb::WatchResponse;
use crate::proto::mvccpb::event::EventType;
use crate::state::changes::{AppliedChange, AppliedChanges};
use crate::storage::state::keys::Place;
use crate::storage::state::record::{NewRecord, Record};
use proptest::prelude::*;
use prost::Message as _;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// One change as the store knows it.
#[derive(Clone, Debug, PartialEq)]
struct Known {
    revision: i64,
    key: Vec<u8>,
    put: bool,
    previous: Option<i64>,
}

/// What a watcher should see, and what it has seen.
#[derive(Debug)]
struct Follower {
    keys: WatchedKeys,
    wants: Wants,
    from: i64,
    start_revision: i64,
    fragment: bool,
    /// The place in the history after the last change seen.
    at: usize,
    in_fragment: bool,
}

#[derive(Default)]
struct Client {
    id: u64,
    outbox: Arc<Outbox>,
    followers: BTreeMap<i64, Follower>,
    /// Requested and not yet answered.
    creating: Vec<(CreateStep, i64)>,
}

struct Model {
    hub: Hub,
    revision: i64,
    told: i64,
    compacted: i64,
    history: Vec<(Known, AppliedChange)>,
    newest: BTreeMap<Vec<u8>, Record>,
    clients: Vec<Client>,
    wanted_read: Option<Read>,
    started_read: Option<ReadOutcome>,
    next_stream: u64,
}

impl Model {
    fn new() -> Self {
        let options = HubOptions {
            outbox_bytes: 600,
            watchers_max: 1000,
            streams_max: 1000,
            fragment_bytes: 200,
            progress_interval_ms: 10,
        };
        let mut model = Self {
            hub: Hub::new(options, 1),
            revision: 1,
            told: 1,
            compacted: -1,
            history: vec![],
            newest: BTreeMap::new(),
            clients: vec![],
            wanted_read: None,
            started_read: None,
            next_stream: 0,
        };
        for _ in 0..STREAMS {
            let client = model.open();
            model.clients.push(client);
        }
        model
    }

    fn open(&mut self) -> Client {
        let client = Client {
            id: self.next_stream,
            ..Client::default()
        };
        self.next_stream += 1;
        let opened = OpenedStream {
            outbox: Arc::clone(&client.outbox),
            require_leader: false,
            permission: None,
            progress_due_ms: 10,
        };
        self.hub.open(StreamId(client.id), opened);
        client
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Publish(revisions, told) => self.publish(revisions, told),
            Step::Create(stream, create) => self.create(stream, create),
            Step::Cancel(stream, which) => {
                let client = &mut self.clients[stream];
                let ids: Vec<i64> = client.followers.keys().copied().collect();
                if !ids.is_empty() {
                    self.hub.cancel(StreamId(client.id), *which.get(&ids));
                }
            }
            Step::Take(stream, bytes) => self.take(stream, bytes),
            Step::Close(stream) => {
                self.hub.close(StreamId(self.clients[stream].id));
                self.clients[stream] = self.open();
            }
            Step::StartRead => self.start_read(),
            Step::FinishRead => {
                if let Some(outcome) = self.started_read.take() {
                    self.hub.read_done(outcome);
                }
            }
            Step::Compact(to) => {
                let span = self.revision - self.compacted.max(1) + 1;
                self.compacted = self.compacted.max(1) + to.index(span as usize) as i64;
            }
            Step::Progress(stream) => self.hub.report_progress(StreamId(self.clients[stream].id)),
        }
        if let Some(read) = self.hub.next_read() {
            assert!(
                self.wanted_read.is_none() && self.started_read.is_none(),
                "one read at a time"
            );
            self.wanted_read = Some(read);
        }
        self.hub.flush();
    }

    fn publish(&mut self, revisions: Vec<Vec<(u8, bool)>>, told: Told) {
        let after = self.revision;
        let mut changes = vec![];
        for keys in revisions {
            let revision = self.revision + 1;
            for (sub, (key, put)) in keys.into_iter().enumerate() {
                let key = vec![key];
                let previous = self.newest.remove(&key);
                if !put && previous.is_none() {
                    continue;
                }
                self.revision = revision;
                let change = self.change(revision, sub as u32, &key, put, previous);
                let known = Known {
                    revision,
                    key,
                    put,
                    previous: change.previous.as_ref().map(|record| record.header.mod_revision),
                };
                let mut shown = change.clone();
                shown.previous = shown.previous.filter(|_| told == Told::Previous);
                changes.push(shown);
                self.history.push((known, change));
            }
        }
        if self.revision == after {
            return;
        }
        if self.hub.watcher_count() > 0 {
            let revision = self.revision;
            // Changes that were not handed over before leave a gap between batches.
            self.hub.publish(AppliedChanges {
                after,
                revision,
                changes: (told != Told::Revision).then_some(changes),
                previous: told == Told::Previous,
            });
            self.told = self.revision;
        }
    }

    fn change(
        &mut self,
        main: i64,
        sub: u32,
        key: &[u8],
        put: bool,
        previous: Option<Record>,
    ) -> AppliedChange {
        let (create_revision, version) = previous.as_ref().map_or((main, 1), |previous| {
            (previous.header.create_revision, previous.header.version + 1)
        });
        let new = NewRecord {
            key,
            place: Place { main, sub },
            create_revision,
            version,
            value: &[7; 40],
            lease: 0,
        };
        let (shared_key, record) = Record::new(&new);
        if put {
            self.newest.insert(key.to_vec(), record.clone());
        }
        AppliedChange {
            revision: main,
            key: shared_key,
            record: put.then_some(record),
            previous,
        }
    }

    fn create(&mut self, stream: usize, create: CreateStep) {
        if self.hub.watcher_count() == 0 {
            self.hub.set_revision(self.revision);
            self.told = self.revision;
        }
        let start_revision = match &create.start {
            StartAt::Now => 0,
            StartAt::Past(index) => 1 + index.index(self.revision as usize) as i64,
            StartAt::Future(ahead) => self.revision + ahead,
        };
        let client = &mut self.clients[stream];
        self.hub.create(
            StreamId(client.id),
            Create {
                watch_id: 0,
                keys: WatchedKeys::new(&create.key, &create.end),
                start_revision,
                wants: create.wants,
                progress_notify: false,
                fragment: create.fragment,
            },
        );
        client.creating.push((create, start_revision));
    }

    /// Takes what the disk holds now; the hub gets the result later.
    fn start_read(&mut self) {
        let Some(read) = self.wanted_read.take() else {
            return;
        };
        self.started_read = Some(if read.from_revision < self.compacted {
            ReadOutcome::Compacted(self.compacted)
        } else {
            let mut events: Vec<Event> = vec![];
            let mut through = self.revision;
            let changes_max = read.changes_max.min(3);
            for (known, change) in &self.history {
                if known.revision < read.from_revision {
                    continue;
                }
                if let Some(last) = events.last()
                    && events.len() >= changes_max
                    && last.revision != known.revision
                {
                    through = last.revision;
                    break;
                }
                let mut change = change.clone();
                if !read.previous || known.revision <= self.compacted {
                    change.previous = None;
                }
                events.push(change.into());
            }
            ReadOutcome::Changes {
                read,
                through,
                events,
            }
        });
    }

    fn take(&mut self, stream: usize, bytes: usize) {
        let client = &mut self.clients[stream];
        let mut context = Context::from_waker(Waker::noop());
        let Poll::Ready(taken) = client.outbox.poll_take(&mut context, bytes) else {
            return;
        };
        let Taken::Messages { messages, drained } = taken else {
            panic!("{taken:?}");
        };
        for message in messages {
            client.receive(message, &self.history, self.compacted);
        }
        if drained {
            self.hub.drained(StreamId(client.id));
        }
    }

    /// Lets all streams read and take until nothing moves, then checks that every watcher has seen all of its changes.
    fn settle(&mut self) {
        for _ in 0..20_000 {
            let mut moved = self.wanted_read.is_some() || self.started_read.is_some();
            self.step(Step::StartRead);
            self.step(Step::FinishRead);
            for stream in 0..STREAMS {
                moved |= self.clients[stream].outbox.bytes() > 0;
                self.step(Step::Take(stream, 10_000));
            }
            if !moved {
                break;
            }
        }
        for client in &self.clients {
            assert!(client.creating.is_empty());
            for (id, follower) in &client.followers {
                let missed = follower.next(&self.history);
                assert_eq!(missed, None, "{} {id} {follower:?}", client.id);
                assert!(!follower.in_fragment);
            }
        }
        for stream in 0..STREAMS {
            let client = &self.clients[stream];
            let mut followers = client.followers.values();
            let expected = !client.followers.is_empty()
                && followers.all(|follower| follower.start_revision <= self.told);
            self.hub.report_progress(StreamId(client.id));
            self.hub.flush();
            assert_eq!(client.outbox.bytes() > 0, expected, "progress");
        }
    }
}

impl Client {
    fn receive(&mut self, message: Message, history: &[(Known, AppliedChange)], compacted: i64) {
        match message {
            Message::Control(response) if response.created => {
                let (create, start_revision) = self.creating.remove(0);
                let keys = WatchedKeys::new(&create.key, &create.end);
                assert_eq!(response.canceled, keys.is_none(), "{response:?}");
                let Some(keys) = keys else {
                    assert_eq!(response.cancel_reason, "mvcc: watcher range is empty");
                    return;
                };
                let revision = response.header.expect("a header").revision;
                let from = if start_revision == 0 {
                    revision + 1
                } else {
                    start_revision
                };
                let follower = Follower {
                    keys,
                    wants: create.wants,
                    from,
                    start_revision,
                    fragment: create.fragment,
                    at: 0,
                    in_fragment: false,
                };
                let before = self.followers.insert(response.watch_id, follower);
                assert!(before.is_none(), "an id is given once");
            }
            Message::Control(response) if response.canceled => {
                let follower = self.followers.remove(&response.watch_id).expect("it was created");
                if response.compact_revision != 0 {
                    assert_eq!(response.header.expect("a header").revision, 0);
                    assert!(response.compact_revision <= compacted);
                    let missed = follower.next_revision(history);
                    assert!(
                        missed < response.compact_revision,
                        "{follower:?} still had {missed}"
                    );
                }
            }
            Message::Control(response) => {
                // All watchers must have seen everything up to here.
                let revision = response.header.expect("a header").revision;
                for follower in self.followers.values() {
                    let next = follower.next(history);
                    assert!(
                        next.is_none_or(|next| next.revision > revision),
                        "{next:?} {revision}"
                    );
                }
            }
            Message::Events {
                watch_id,
                revision,
                fragment,
                count,
                events,
            } => {
                let follower = self.followers.get_mut(&watch_id).expect("it was created");
                let response = WatchResponse::decode(events).expect("well-formed");
                assert!(!response.events.is_empty());
                assert_eq!(response.events.len(), count);
                assert!(!fragment || follower.fragment);
                for event in response.events {
                    let place = follower.next_place(history).expect("an event that has happened");
                    let (expected, change) = &history[place];
                    assert!(expected.revision <= revision);
                    follower.at = place + 1;
                    let kv = event.kv.expect("a record");
                    assert_eq!(
                        (&kv.key[..], kv.mod_revision),
                        (&expected.key[..], expected.revision)
                    );
                    assert_eq!(event.r#type == EventType::Put as i32, expected.put);
                    if let Some(record) = &change.record {
                        assert_eq!(kv, record.key_value(change.key.clone()));
                    }
                    let previous = event.prev_kv.map(|previous| previous.mod_revision);
                    let known = follower.wants.previous.then_some(expected.previous).flatten();
                    let gone = previous.is_none() && expected.revision <= compacted;
                    assert!(previous == known || gone, "{previous:?} {known:?}");
                }
                follower.in_fragment = fragment;
                if !fragment && follower.at < history.len() && follower.at > 0 {
                    let last = &history[follower.at - 1].0;
                    let next = follower.next(history);
                    assert!(
                        next.is_none_or(|next| next.revision != last.revision),
                        "a revision is whole"
                    );
                }
            }
        }
    }
}

impl Follower {
    fn next_place(&self, history: &[(Known, AppliedChange)]) -> Option<usize> {
        let rest = history.iter().enumerate().skip(self.at);
        let mut wanted = rest.filter(|(_, (known, _))| {
            let kind = if known.put {
                self.wants.puts
            } else {
                self.wants.deletes
            };
            kind && known.revision >= self.from && self.keys.contains(&known.key)
        });
        wanted.next().map(|(place, _)| place)
    }

    fn next<'a>(&self, history: &'a [(Known, AppliedChange)]) -> Option<&'a Known> {
        self.next_place(history).map(|place| &history[place].0)
    }

    /// The first revision that the watcher may not have been sent.
    fn next_revision(&self, history: &[(Known, AppliedChange)]) -> i64 {
        let seen = self.at.checked_sub(1).map_or(0, |last| history[last].0.revision);
        self.from.max(seen + 1)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn every_watcher_sees_all_it_asked_for_once(steps in proptest::collection::vec(step(), 1..120)) {
        let mut model = Model::new();
        for step in steps {
            model.step(step);
        }
        model.settle();
    }
}
