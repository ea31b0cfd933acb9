//! Step by step: the messages that streams get.

use super::event::{Content, Event};
use super::*;
use crate::proto::etcdserverpb::WatchResponse;
use crate::proto::mvccpb::KeyValue;
use crate::state::changes::{AppliedChange, AppliedChanges};
use crate::state::mvcc::changes::ChangeKind;
use crate::storage::state::keys::Place;
use crate::storage::state::record::{NewRecord, Record};
use prost::Message as _;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

const ALL: Wants = Wants {
    puts: true,
    deletes: true,
    previous: false,
};

struct Stage {
    hub: Hub,
    streams: Vec<(StreamId, Arc<Outbox>)>,
}

/// A message to a stream, in short.
#[derive(Debug, PartialEq)]
enum Told {
    Created(i64),
    Refused(String),
    Canceled(i64, i64),
    Progress(i64, i64),
    /// Watch id, revision in the header, revisions of the events.
    Events(i64, i64, Vec<i64>),
    Ended(Ending),
}

impl Stage {
    fn new(options: HubOptions) -> Self {
        Self {
            hub: Hub::new(options, 10),
            streams: vec![],
        }
    }

    fn open(&mut self, require_leader: bool, permission: Option<Permission>) -> usize {
        let stream = (StreamId(self.streams.len() as u64), Arc::new(Outbox::default()));
        let opened = OpenedStream {
            outbox: Arc::clone(&stream.1),
            require_leader,
            permission,
            progress_due_ms: 100,
        };
        self.hub.open(stream.0, opened);
        self.streams.push(stream);
        self.streams.len() - 1
    }

    fn id(&self, stream: usize) -> StreamId {
        self.streams[stream].0
    }

    fn create(&mut self, stream: usize, create: Create) {
        self.hub.create(self.id(stream), create);
    }

    fn publish(&mut self, keys: &[&'static str]) {
        let (after, revision) = (self.hub.revision, self.hub.revision + 1);
        let changes = keys
            .iter()
            .enumerate()
            .map(|(sub, key)| change(revision, sub as u32, key));
        self.hub.publish(AppliedChanges {
            after,
            revision,
            changes: Some(changes.collect()),
            previous: true,
        });
    }

    /// Everything in the outbox of a stream.
    fn told(&mut self, stream: usize) -> Vec<Told> {
        self.hub.flush();
        let mut told = vec![];
        let mut context = Context::from_waker(Waker::noop());
        while let Poll::Ready(taken) = self.streams[stream].1.poll_take(&mut context, usize::MAX) {
            let messages = match taken {
                Taken::Messages { messages, drained } => {
                    if drained {
                        self.hub.drained(self.id(stream));
                        self.hub.flush();
                    }
                    messages
                }
                Taken::Ended(ending) => {
                    told.push(Told::Ended(ending));
                    break;
                }
            };
            told.extend(messages.into_iter().map(short));
        }
        told
    }
}

fn change(revision: i64, sub: u32, key: &'static str) -> AppliedChange {
    let new = NewRecord {
        key: key.as_bytes(),
        place: Place { main: revision, sub },
        create_revision: revision,
        version: 1,
        value: b"value",
        lease: 0,
    };
    let (key, record) = Record::new(&new);
    AppliedChange {
        revision,
        key,
        record: Some(record),
        previous: None,
    }
}

fn short(message: Message) -> Told {
    match message {
        Message::Events {
            watch_id,
            revision,
            events,
            ..
        } => {
            let response = WatchResponse::decode(events).expect("well-formed");
            let revisions = response
                .events
                .into_iter()
                .map(|event| event.kv.expect("a record").mod_revision);
            Told::Events(watch_id, revision, revisions.collect())
        }
        Message::Control(response) => {
            let revision = response.header.expect("a header").revision;
            match *response {
                WatchResponse {
                    created: true,
                    canceled: true,
                    cancel_reason,
                    watch_id,
                    ..
                } => {
                    assert_eq!(watch_id, -1);
                    Told::Refused(cancel_reason)
                }
                WatchResponse {
                    created: true,
                    watch_id,
                    ..
                } => Told::Created(watch_id),
                WatchResponse {
                    canceled: true,
                    watch_id,
                    compact_revision,
                    ..
                } => Told::Canceled(watch_id, compact_revision),
                WatchResponse { watch_id, .. } => Told::Progress(watch_id, revision),
            }
        }
    }
}

fn prefix(watch_id: i64, start_revision: i64) -> Create {
    Create {
        watch_id,
        keys: WatchedKeys::new(b"a", b"b"),
        start_revision,
        wants: ALL,
        progress_notify: false,
        fragment: false,
    }
}

fn read(from_revision: i64, through: i64, revisions: &[i64]) -> ReadOutcome {
    let events = revisions.iter().map(|revision| Event {
        revision: *revision,
        kind: ChangeKind::Put,
        key: "a".into(),
        record: Content::KeyValue(KeyValue {
            key: "a".into(),
            mod_revision: *revision,
            ..KeyValue::default()
        }),
        previous: Content::Nothing,
    });
    ReadOutcome::Changes {
        read: Read {
            from_revision,
            changes_max: 1000,
            previous: false,
        },
        through,
        events: events.collect(),
    }
}

#[test]
fn ids_are_given_and_taken() {
    let mut stage = Stage::new(HubOptions::default());
    let stream = stage.open(false, None);
    let duplicate = "mvcc: duplicate watch ID provided on the WatchStream";
    let cases = [
        (prefix(0, 0), Told::Created(0)),
        (prefix(1, 0), Told::Created(1)),
        (prefix(0, 0), Told::Created(2)),
        (prefix(-7, 0), Told::Created(-7)),
        (prefix(2, 0), Told::Refused(duplicate.into())),
        (
            Create {
                keys: WatchedKeys::new(b"b", b"a"),
                ..prefix(0, 0)
            },
            Told::Refused("mvcc: watcher range is empty".into()),
        ),
        (
            prefix(0, -1),
            Told::Refused("etcdserver: mvcc: required revision has been compacted".into()),
        ),
        (prefix(0, 0), Told::Created(3)),
    ];
    for (create, answer) in cases {
        stage.create(stream, create);
        assert_eq!(stage.told(stream), [answer]);
    }
    for (watch_id, answer) in [(1, Some(Told::Canceled(1, 0))), (1, None), (99, None)] {
        stage.hub.cancel(stage.id(stream), watch_id);
        assert_eq!(stage.told(stream), answer.into_iter().collect::<Vec<_>>());
    }
    let other = stage.open(false, None);
    stage.create(other, prefix(0, 0));
    assert_eq!(stage.told(other), [Told::Created(0)]);
    stage.hub.close(stage.id(stream));
    assert_eq!(stage.hub.watcher_count(), 1);
}

#[test]
fn as_many_watchers_as_there_may_be() {
    let mut stage = Stage::new(HubOptions {
        watchers_max: 1,
        ..HubOptions::default()
    });
    let stream = stage.open(false, None);
    stage.create(stream, prefix(0, 0));
    stage.create(stream, prefix(0, 0));
    let refused = Told::Refused("etcdserver: too many requests".into());
    assert_eq!(stage.told(stream), [Told::Created(0), refused]);
}

#[test]
fn as_many_streams_as_there_may_be() {
    let mut stage = Stage::new(HubOptions {
        streams_max: 1,
        ..HubOptions::default()
    });
    let (first, second) = (stage.open(false, None), stage.open(false, None));
    stage.create(second, prefix(0, 0));
    stage.create(first, prefix(0, 0));
    assert_eq!(stage.told(first), [Told::Created(0)]);
    assert_eq!(
        stage.hub.watcher_count(),
        1,
        "one that is refused has no watchers"
    );
    stage.hub.close(stage.id(second));
    stage.hub.close(stage.id(first));
    let third = stage.open(false, None);
    stage.create(third, prefix(0, 0));
    assert_eq!(stage.told(third), [Told::Created(0)]);
}

#[test]
fn revisions_are_whole_and_filtered() {
    let mut stage = Stage::new(HubOptions::default());
    let stream = stage.open(false, None);
    stage.create(stream, prefix(0, 0));
    stage.create(
        stream,
        Create {
            wants: Wants { puts: false, ..ALL },
            ..prefix(0, 0)
        },
    );
    stage.create(stream, prefix(0, 13));
    stage.told(stream);
    stage.publish(&["a", "aa", "b"]);
    stage.publish(&["c"]);
    stage.publish(&["a"]);
    let expected = [
        Told::Events(0, 11, vec![11, 11]),
        Told::Events(0, 13, vec![13]),
        Told::Events(2, 13, vec![13]),
    ];
    assert_eq!(stage.told(stream), expected);
}

#[test]
fn progress_is_reported_when_all_is_sent() {
    let mut stage = Stage::new(HubOptions {
        progress_interval_ms: 100,
        ..HubOptions::default()
    });
    let stream = stage.open(false, None);
    stage.hub.report_progress(stage.id(stream));
    assert_eq!(stage.told(stream), [], "nobody watches");
    let notified = Create {
        progress_notify: true,
        ..prefix(0, 0)
    };
    stage.create(stream, notified);
    stage.told(stream);
    stage.hub.report_progress(stage.id(stream));
    assert_eq!(stage.told(stream), [Told::Progress(-1, 10)]);
    // A watcher that starts in the future is not up to date before that revision, nor is one that starts in the past before it
    // was served.
    for (create, then) in [(prefix(5, 12), 12), (prefix(6, 3), 0)] {
        stage.create(stream, create.clone());
        stage.hub.report_progress(stage.id(stream));
        assert_eq!(stage.told(stream), [Told::Created(create.watch_id)]);
        if then == 0 {
            assert_eq!(stage.hub.next_read().map(|read| read.from_revision), Some(3));
            stage.hub.read_done(read(3, 12, &[]));
        }
        while stage.hub.revision < then {
            stage.publish(&["z"]);
        }
        stage.hub.report_progress(stage.id(stream));
        assert_eq!(stage.told(stream), [Told::Progress(-1, 12)]);
    }
    // By the clock: once per interval, unless an event was sent in between.
    assert_eq!(stage.hub.next_tick_ms(), Some(100));
    for (now_ms, told) in [
        (99, vec![]),
        (100, vec![Told::Progress(0, 12)]),
        (150, vec![]),
        (200, vec![Told::Progress(0, 12)]),
    ] {
        stage.hub.tick(now_ms);
        assert_eq!(stage.told(stream), told, "{now_ms}");
    }
    stage.publish(&["a"]);
    stage.told(stream);
    stage.hub.tick(300);
    assert_eq!(stage.told(stream), []);
    stage.hub.tick(400);
    assert_eq!(stage.told(stream), [Told::Progress(0, 13)]);
}

#[test]
fn compacted_watchers_end() {
    let mut stage = Stage::new(HubOptions::default());
    let stream = stage.open(false, None);
    for start_revision in [3, 5, 6] {
        stage.create(stream, prefix(start_revision, start_revision));
    }
    stage.told(stream);
    assert!(stage.hub.next_read().is_some());
    stage.hub.read_done(ReadOutcome::Compacted(6));
    assert_eq!(stage.told(stream), [Told::Canceled(3, 6), Told::Canceled(5, 6)]);
    assert_eq!(stage.hub.next_read().map(|read| read.from_revision), Some(6));
    stage.hub.read_done(read(6, 10, &[6, 9]));
    assert_eq!(stage.told(stream), [Told::Events(6, 10, vec![6, 9])]);
    assert!(stage.hub.next_read().is_none());
}

#[test]
fn a_slow_stream_holds_nobody_back_and_misses_nothing() {
    let mut stage = Stage::new(HubOptions {
        outbox_bytes: 500,
        ..HubOptions::default()
    });
    let (slow, fast) = (stage.open(false, None), stage.open(false, None));
    for stream in [slow, fast] {
        stage.create(stream, prefix(0, 0));
    }
    let mut seen = vec![];
    for _ in 0..100 {
        stage.publish(&["a"]);
        assert!(
            stage.hub.next_read().is_none(),
            "it is in memory, or there is no room"
        );
        seen.extend(stage.told(fast));
    }
    assert_eq!(seen.len(), 101);
    assert!(stage.streams[slow].1.bytes() < 700);
    let mut revisions = vec![];
    for _ in 0..100 {
        for told in stage.told(slow) {
            if let Told::Events(_, _, more) = told {
                revisions.extend(more);
            }
        }
        assert!(stage.hub.next_read().is_none(), "all is still in memory");
    }
    assert_eq!(revisions, (11..=110).collect::<Vec<_>>());
}

#[test]
fn permissions_are_asked_for_again() {
    let allowed = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let asked = Arc::clone(&allowed);
    let permission: Permission = Arc::new(move |keys: &WatchedKeys| {
        let allowed = asked.load(std::sync::atomic::Ordering::Relaxed) && !keys.contains(b"secret");
        allowed.then_some(()).ok_or_else(|| "no".to_owned())
    });
    let mut stage = Stage::new(HubOptions::default());
    let (asking, free) = (stage.open(false, Some(permission)), stage.open(false, None));
    let secret = Create {
        keys: WatchedKeys::new(b"secret", b""),
        ..prefix(0, 0)
    };
    for stream in [asking, free] {
        stage.create(stream, prefix(0, 0));
        stage.create(stream, secret.clone());
    }
    assert_eq!(stage.told(asking), [Told::Created(0), Told::Refused("no".into())]);
    stage.hub.recheck();
    assert_eq!(stage.told(asking), []);
    allowed.store(false, std::sync::atomic::Ordering::Relaxed);
    stage.hub.recheck();
    assert_eq!(stage.told(asking), [Told::Canceled(0, 0)]);
    assert_eq!(stage.told(free), [Told::Created(0), Told::Created(1)]);
    assert_eq!(stage.hub.watcher_count(), 2);
}

#[test]
fn only_who_asked_is_told_that_there_is_no_leader() {
    let mut stage = Stage::new(HubOptions::default());
    let (asking, other) = (stage.open(true, None), stage.open(false, None));
    assert!(stage.hub.any_requires_leader());
    stage.hub.leader_lost();
    assert_eq!(stage.told(asking), [Told::Ended(Ending::NoLeader)]);
    assert_eq!(stage.told(other), []);
    stage.hub.close(stage.id(asking));
    assert!(!stage.hub.any_requires_leader());
}

#[test]
fn an_idle_watcher_is_small() {
    // In addition: key and range in two allocations, a place in the stream's and the interests' tables.
    let fixed = size_of::<super::hub::Watcher>() + size_of::<super::interests::Interest>();
    assert!(fixed <= 96, "{fixed} bytes");
}
