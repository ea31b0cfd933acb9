//! Changes in the form that watchers get: encoded once, however many watchers there are.
//!
//! An encoded event is an element of field 11 of etcd's `WatchResponse`, tag and length included. A response is its head followed
//! by such elements, so responses to many watchers share them.

use super::interests::{Match, Wants};
use crate::limits::sizes;
use crate::mutants::{self, Mutant};
use crate::proto::mvccpb::KeyValue;
use crate::state::changes::AppliedChange;
use crate::state::mvcc::changes::ChangeKind;
use crate::storage::state::record::Record;
use bytes::{Buf, Bytes};
use prost::Message;
use prost::encoding::{WireType, decode_varint, encode_varint, encoded_len_varint};

/// Field 11 of `WatchResponse`.
const TAG_EVENT: u8 = 11 << 3 | WireType::LengthDelimited as u8;
/// Fields 1 to 3 of `mvccpb.Event`.
const TAG_TYPE: u8 = 1 << 3 | WireType::Varint as u8;
const TAG_RECORD: u8 = 2 << 3 | WireType::LengthDelimited as u8;
const TAG_PREVIOUS: u8 = 3 << 3 | WireType::LengthDelimited as u8;
/// `mvccpb.Event.DELETE`.
const TYPE_DELETE: u8 = 1;

/// One change of one key.
#[derive(Clone, Debug)]
pub struct Event {
    pub revision: i64,
    pub kind: ChangeKind,
    pub key: Bytes,
    /// The record that the change has written; nothing for a delete.
    pub record: Content,
    /// The record before the change, if it is known.
    pub previous: Content,
}

/// A record, in either of its forms.
#[derive(Clone, Debug, Default)]
pub enum Content {
    #[default]
    Nothing,
    Record(Record),
    KeyValue(KeyValue),
}

impl From<Option<Record>> for Content {
    fn from(record: Option<Record>) -> Self {
        record.map_or(Self::Nothing, Self::Record)
    }
}

impl From<AppliedChange> for Event {
    fn from(change: AppliedChange) -> Self {
        Self {
            revision: change.revision,
            kind: match change.record {
                Some(_) => ChangeKind::Put,
                None => ChangeKind::Delete,
            },
            key: change.key,
            record: change.record.into(),
            previous: change.previous.into(),
        }
    }
}

impl Content {
    fn bytes(&self, key: &[u8]) -> usize {
        match self {
            Self::Nothing => 0,
            Self::Record(record) => record.key_value_bytes(key),
            Self::KeyValue(kv) => kv.encoded_len(),
        }
    }

    fn encode(&self, tag: u8, key: &[u8], out: &mut Vec<u8>) {
        if matches!(self, Self::Nothing) {
            return;
        }
        out.push(tag);
        encode_varint(self.bytes(key) as u64, out);
        match self {
            Self::Nothing => {}
            Self::Record(record) => record.encode_key_value(key, out),
            Self::KeyValue(kv) => kv.encode(out).expect("a vector grows"),
        }
    }

    /// The bytes of the field with tag and length.
    fn field_bytes(&self, key: &[u8]) -> usize {
        match self.bytes(key) {
            0 => 0,
            bytes => 1 + encoded_len_varint(bytes as u64) + bytes,
        }
    }
}

impl Event {
    /// Approximate size in memory and on the wire.
    pub fn bytes(&self) -> usize {
        self.key.len() + self.record.bytes(&self.key) + self.previous.bytes(&self.key)
    }

    fn encode(&self, with_previous: bool, out: &mut Vec<u8>) {
        let deleted = (self.kind == ChangeKind::Delete).then(|| {
            Content::KeyValue(KeyValue {
                key: self.key.clone(),
                mod_revision: self.revision,
                ..KeyValue::default()
            })
        });
        let record = deleted.as_ref().unwrap_or(&self.record);
        let previous = if with_previous {
            &self.previous
        } else {
            &Content::Nothing
        };
        let type_bytes = 2 * usize::from(deleted.is_some());
        let bytes = type_bytes + record.field_bytes(&self.key) + previous.field_bytes(&self.key);
        out.push(TAG_EVENT);
        encode_varint(bytes as u64, out);
        if deleted.is_some() {
            out.extend_from_slice(&[TAG_TYPE, TYPE_DELETE]);
        }
        record.encode(TAG_RECORD, &self.key, out);
        previous.encode(TAG_PREVIOUS, &self.key, out);
    }
}

/// Encoded events of whole revisions: the content of one response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    pub first_revision: i64,
    pub last_revision: i64,
    pub events: Bytes,
    /// The number of events.
    pub count: usize,
}

/// Encodes the events that match one interest, from `from_revision` on. Revisions that are available together share a response up
/// to a bound, as they do for etcd's unsynced watchers. One revision is never split.
pub fn encode(events: &[Event], matches: &[Match], wants: Wants, from_revision: i64) -> Vec<Encoded> {
    let mut encoded = vec![];
    let mut buffer = vec![];
    let mut count = 0;
    let mut span: Option<(i64, i64)> = None;
    for (_, place) in matches {
        let event = &events[*place as usize];
        if event.revision < from_revision {
            continue;
        }
        if let Some((first_revision, last_revision)) = span {
            let ends = last_revision != event.revision && buffer.len() >= sizes().watch_response_bytes;
            if ends || mutants::active(Mutant::WatchSplitsRevision) {
                encoded.push(Encoded {
                    first_revision,
                    last_revision,
                    events: std::mem::take(&mut buffer).into(),
                    count: std::mem::take(&mut count),
                });
                span = None;
            }
        }
        span = Some((span.map_or(event.revision, |(first, _)| first), event.revision));
        event.encode(wants.previous, &mut buffer);
        count += 1;
    }
    if let Some((first_revision, last_revision)) = span {
        encoded.push(Encoded {
            first_revision,
            last_revision,
            events: buffer.into(),
            count,
        });
    }
    encoded
}

/// Splits encoded events into pieces of at most `bytes_max`, or of one event that is larger, and returns the number of events in
/// each (etcd: server/etcdserver/api/v3rpc/watch.go, `sendFragments`).
pub fn fragments(events: &Bytes, bytes_max: usize) -> Vec<(Bytes, usize)> {
    let mut pieces = vec![];
    let mut count = 0;
    let mut rest = events.clone();
    let mut piece_start = 0;
    while rest.has_remaining() {
        let start = events.len() - rest.len();
        rest.advance(1);
        let bytes = decode_varint(&mut rest).expect("we have encoded it");
        rest.advance(bytes as usize);
        let end = events.len() - rest.len();
        if start > piece_start && end - piece_start >= bytes_max {
            pieces.push((events.slice(piece_start..start), std::mem::take(&mut count)));
            piece_start = start;
        }
        count += 1;
    }
    pieces.push((events.slice(piece_start..), count));
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::etcdserverpb::WatchResponse;
    use crate::proto::mvccpb;
    use crate::storage::state::keys::Place;
    use crate::storage::state::record::NewRecord;

    fn record(key: &[u8], value: &[u8], revision: i64) -> Record {
        let new = NewRecord {
            key,
            place: Place {
                main: revision,
                sub: 0,
            },
            create_revision: 2,
            version: 3,
            value,
            lease: 9,
        };
        Record::new(&new).1
    }

    fn events() -> Vec<Event> {
        let key = || Bytes::from_static(b"key");
        vec![
            Event {
                revision: 4,
                kind: ChangeKind::Put,
                key: key(),
                record: Content::Record(record(b"key", b"new", 4)),
                previous: Content::Record(record(b"key", b"old", 3)),
            },
            Event {
                revision: 5,
                kind: ChangeKind::Delete,
                key: key(),
                record: Content::Nothing,
                previous: Content::KeyValue(record(b"key", b"new", 4).key_value(key())),
            },
        ]
    }

    const ALL: Wants = Wants {
        puts: true,
        deletes: true,
        previous: true,
    };

    #[test]
    fn events_decode_as_protobuf() {
        for previous in [true, false] {
            let events = events();
            let wants = Wants { previous, ..ALL };
            let encoded = encode(&events, &[(0, 0), (0, 1)], wants, 0);
            assert_eq!(encoded.len(), 1);
            assert_eq!((encoded[0].first_revision, encoded[0].last_revision), (4, 5));
            assert_eq!(encoded[0].count, 2);
            let decoded = WatchResponse::decode(encoded[0].events.clone())
                .expect("well-formed")
                .events;
            let old = record(b"key", b"old", 3).key_value("key".into());
            let new = record(b"key", b"new", 4).key_value("key".into());
            let deleted = KeyValue {
                key: "key".into(),
                mod_revision: 5,
                ..KeyValue::default()
            };
            let expected = [
                mvccpb::Event {
                    r#type: mvccpb::event::EventType::Put as i32,
                    kv: Some(new.clone()),
                    prev_kv: previous.then_some(old),
                },
                mvccpb::Event {
                    r#type: mvccpb::event::EventType::Delete as i32,
                    kv: Some(deleted),
                    prev_kv: previous.then_some(new),
                },
            ];
            assert_eq!(decoded, expected);
        }
        assert_eq!(encode(&events(), &[(0, 0), (0, 1)], ALL, 5)[0].first_revision, 5);
        assert!(encode(&events(), &[(0, 0), (0, 1)], ALL, 6).is_empty());
    }

    #[test]
    fn only_whole_revisions_share_a_response() {
        let value = vec![0; sizes().watch_response_bytes / 4];
        let event = |revision, key: &'static str| Event {
            revision,
            kind: ChangeKind::Put,
            key: key.into(),
            record: Content::Record(record(key.as_bytes(), &value, revision)),
            previous: Content::Nothing,
        };
        let keys = ["a", "b", "c", "d", "e", "f"];
        let mut events: Vec<Event> = keys.iter().map(|key| event(2, key)).collect();
        events.extend((3..9).map(|revision| event(revision, "a")));
        let matches: Vec<Match> = (0..events.len() as u32).map(|place| (0, place)).collect();
        let spans: Vec<_> = encode(&events, &matches, ALL, 0)
            .iter()
            .map(|encoded| (encoded.first_revision, encoded.last_revision))
            .collect();
        assert_eq!(spans, [(2, 2), (3, 6), (7, 8)]);
    }

    #[test]
    fn fragments_hold_whole_events() {
        let mut buffer = vec![];
        for event in events().iter().cycle().take(20) {
            event.encode(true, &mut buffer);
        }
        let all = Bytes::from(buffer);
        for bytes_max in [1, 60, 100, 200, all.len(), all.len() + 1] {
            let pieces = fragments(&all, bytes_max);
            let joined: Vec<&[u8]> = pieces.iter().map(|(piece, _)| piece.as_ref()).collect();
            assert_eq!(joined.concat(), all);
            let counts = pieces.iter().map(|(piece, count)| {
                let response = WatchResponse::decode(piece.clone()).expect("whole events");
                assert!(response.events.len() == 1 || piece.len() < bytes_max);
                assert_eq!(response.events.len(), *count);
                *count
            });
            assert_eq!(counts.sum::<usize>(), 20);
        }
    }
}
