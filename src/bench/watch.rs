//! The watching half of `bench watch`: streams that count their events. They parse only the heads of messages, so that the client
//! does not become the bottleneck.

use super::options::WatchOptions;
use super::run::{Error, open_wires};
use super::wire::{Wire, WireError};
use crate::env;
use crate::proto::etcdserverpb as pb;
use bytes::{Buf, Bytes, BytesMut};
use prost::Message;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::Notify;

/// The prefix of a gRPC message: a flag and its length.
const FRAME_HEAD_BYTES: usize = 5;
const WATCH_PATH: &str = "/etcdserverpb.Watch/Watch";
/// How long the last events may take after the last reply.
const SETTLE_MAX: Duration = Duration::from_secs(30);
/// Interval between checks for the last events.
const SETTLE_PAUSE: Duration = Duration::from_millis(5);

/// The counts of all streams.
#[derive(Debug, Default)]
struct Counts {
    created: Cell<u64>,
    events: Cell<u64>,
    responses: Cell<u64>,
    /// When the last event arrived.
    last: Cell<Option<env::Instant>>,
    failure: RefCell<Option<WireError>>,
    changed: Notify,
}

/// Watchers of all keys.
#[derive(Debug)]
pub struct Watchers {
    number: u64,
    single_keys: bool,
    created_in: Duration,
    counts: Rc<Counts>,
    /// Kept open: the watchers exist as long as these do.
    _requests: Vec<h2::SendStream<Bytes>>,
    _wires: Vec<Wire>,
}

/// The events of a time span.
#[derive(Clone, Copy, Debug)]
pub struct Delivered {
    pub watchers: u64,
    /// From the first request to the last reply.
    pub created_in: Duration,
    pub events: u64,
    pub responses: u64,
    /// Expected events that did not arrive.
    pub missing: u64,
    pub elapsed: Duration,
}

impl Delivered {
    /// Events per second.
    pub fn rate(&self) -> f64 {
        self.events as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }
}

/// The start of a measurement.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    events: u64,
    responses: u64,
    since: env::Instant,
}

impl Watchers {
    /// Opens the streams, and returns once every watcher is created.
    pub async fn start(options: &WatchOptions) -> Result<Self, Error> {
        let timeout = options.common.timeout;
        let wires = open_wires(&options.common, options.watch_connections).await?;
        let began = env::now();
        let counts = Rc::new(Counts::default());
        let mut requests = Vec::new();
        let streams = options.streams.unwrap_or(options.watchers).min(options.watchers);
        for stream in 0..streams {
            let wire = &wires[stream as usize % wires.len()];
            let own = (stream..options.watchers).step_by(streams as usize);
            let creations: Vec<u8> = own.flat_map(|watcher| creation(options, watcher)).collect();
            let (request, answers) = wire
                .open_stream(WATCH_PATH, creations.into())
                .await
                .map_err(Error::Connect)?;
            requests.push(request);
            let counts = Rc::clone(&counts);
            env::spawn_local(async move {
                if let Err(failure) = follow(answers, &counts).await {
                    counts.failure.replace(Some(failure));
                    counts.changed.notify_one();
                }
            });
        }
        let number = u64::from(options.watchers);
        while counts.created.get() < number {
            if env::timeout(timeout, counts.changed.notified()).await.is_err() {
                return Err(Error::Connect(WireError(
                    "the watchers are not created in time".into(),
                )));
            }
            if let Some(failure) = counts.failure.take() {
                return Err(Error::Connect(failure));
            }
        }
        Ok(Self {
            number,
            single_keys: options.single_keys,
            created_in: env::now() - began,
            counts,
            _requests: requests,
            _wires: wires,
        })
    }

    /// The start of a measurement, once the events of all `puts` have arrived.
    pub async fn settled(&self, puts: u64) -> Mark {
        self.wait(puts).await;
        Mark {
            events: self.counts.events.get(),
            responses: self.counts.responses.get(),
            since: env::now(),
        }
    }

    /// The events since `mark`, once the events of all `puts` have arrived, which count from the start.
    pub async fn delivered(&self, mark: Mark, puts: u64) -> Delivered {
        let expected = self.wait(puts).await;
        let last = self.counts.last.get().unwrap_or(mark.since);
        Delivered {
            watchers: self.number,
            created_in: self.created_in,
            events: self.counts.events.get() - mark.events,
            responses: self.counts.responses.get() - mark.responses,
            missing: expected.saturating_sub(self.counts.events.get()),
            elapsed: last.saturating_duration_since(mark.since),
        }
    }

    /// Waits for the events of `puts`, and returns their number.
    async fn wait(&self, puts: u64) -> u64 {
        if self.single_keys {
            return self.counts.events.get();
        }
        let expected = puts * self.number;
        let deadline = env::now() + SETTLE_MAX;
        while self.counts.events.get() < expected && env::now() < deadline {
            env::sleep(SETTLE_PAUSE).await;
        }
        expected
    }
}

/// A framed request to create a watcher.
fn creation(options: &WatchOptions, watcher: u32) -> Vec<u8> {
    let number = u64::from(watcher) % options.common.key_space;
    let width = options.common.key_bytes as usize;
    // All keys are decimal numbers.
    let (key, range_end) = if options.single_keys {
        (format!("{number:0width$}"), "")
    } else {
        ("0".to_owned(), ":")
    };
    let create = pb::WatchCreateRequest {
        key: key.into(),
        range_end: range_end.into(),
        prev_kv: options.prev_kv,
        ..pb::WatchCreateRequest::default()
    };
    let request = pb::WatchRequest {
        request_union: Some(pb::watch_request::RequestUnion::CreateRequest(create)),
    };
    let mut frame = vec![0];
    frame.extend_from_slice(&(request.encoded_len() as u32).to_be_bytes());
    request.encode(&mut frame).expect("a vector grows");
    frame
}

async fn follow(mut answers: h2::RecvStream, counts: &Counts) -> Result<(), WireError> {
    let mut pending = BytesMut::new();
    while let Some(chunk) = answers.data().await {
        let failed = |error: h2::Error| WireError(format!("watch: {error}"));
        let chunk = chunk.map_err(failed)?;
        answers
            .flow_control()
            .release_capacity(chunk.len())
            .map_err(failed)?;
        let malformed = || WireError("watch: an answer that does not parse".into());
        if pending.is_empty() {
            let used = count_messages(&chunk, counts).ok_or_else(malformed)?;
            pending.extend_from_slice(&chunk[used..]);
        } else {
            pending.extend_from_slice(&chunk);
            let used = count_messages(&pending, counts).ok_or_else(malformed)?;
            pending.advance(used);
        }
        counts.last.set(Some(env::now()));
    }
    Err(WireError("watch: the server has ended the stream".into()))
}

/// Counts the whole messages at the start of `data`, and returns their length.
fn count_messages(data: &[u8], counts: &Counts) -> Option<usize> {
    let mut rest = data;
    while rest.len() >= FRAME_HEAD_BYTES {
        let bytes = u32::from_be_bytes(rest[1..FRAME_HEAD_BYTES].try_into().ok()?) as usize;
        let Some(message) = rest[FRAME_HEAD_BYTES..].get(..bytes) else {
            break;
        };
        count_message(message, counts)?;
        rest = &rest[FRAME_HEAD_BYTES + bytes..];
    }
    Some(data.len() - rest.len())
}

fn count_message(mut message: &[u8], counts: &Counts) -> Option<()> {
    let mut events = 0;
    while !message.is_empty() {
        let (field, wire_type) = decode_key(&mut message).ok()?;
        match (field, wire_type) {
            // `events`
            (11, WireType::LengthDelimited) => {
                let bytes = usize::try_from(decode_varint(&mut message).ok()?).ok()?;
                message = message.get(bytes..)?;
                events += 1;
            }
            // `created`
            (3, WireType::Varint) => {
                let created = decode_varint(&mut message).ok()?;
                counts.created.set(counts.created.get() + created);
                counts.changed.notify_one();
            }
            _ => skip_field(wire_type, field, &mut message, DecodeContext::default()).ok()?,
        }
    }
    counts.events.set(counts.events.get() + events);
    counts
        .responses
        .set(counts.responses.get() + u64::from(events > 0));
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::mvccpb;

    #[test]
    fn events_are_counted_across_pieces() {
        let response = pb::WatchResponse {
            header: Some(pb::ResponseHeader::default()),
            created: true,
            events: vec![mvccpb::Event::default(); 2],
            ..pb::WatchResponse::default()
        };
        let mut data = Vec::new();
        for _ in 0..3 {
            data.push(0);
            data.extend_from_slice(&(response.encoded_len() as u32).to_be_bytes());
            response.encode(&mut data).expect("a vector grows");
        }
        for cut in 0..data.len() {
            let counts = Counts::default();
            let used = count_messages(&data[..cut], &counts).expect("well-formed");
            assert!(used <= cut);
            assert_eq!(count_messages(&data[used..], &counts), Some(data.len() - used));
            assert_eq!(
                (counts.events.get(), counts.responses.get(), counts.created.get()),
                (6, 3, 3)
            );
        }
        let malformed = [0, 0, 0, 0, 2, 0x5a, 0x05];
        assert_eq!(count_messages(&malformed, &Counts::default()), None);
    }
}
