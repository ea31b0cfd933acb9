//! The checksums of everything that is sent on a peer link, handshakes and answers included. A byte that the network, a
//! middlebox or memory has changed never reaches raft, and never makes a member be refused.

use crate::proto::peer::{
    self, Batch, Envelope, Hello, LinkReply, Recollection, SnapshotChunk, SnapshotRecord, SnapshotRecords,
    SnapshotReply,
};
use bytes::Bytes;
use prost::Message;

/// A message was damaged on its way.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnvelopeError {
    #[error("the checksum of a batch of {0} bytes is wrong")]
    Checksum(usize),
    #[error("a batch does not decode: {0}")]
    Decode(#[from] prost::DecodeError),
}

/// The checksum of an envelope. It covers the encoded bytes, so that newer members can add fields.
fn sum_of(envelope: &Envelope) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&envelope.hello), &envelope.batch)
}

fn sum_of_chunk(chunk: &SnapshotChunk) -> u32 {
    let parts = [
        &chunk.hello[..],
        &chunk.announcement,
        &chunk.records,
        &chunk.number.to_le_bytes(),
        &[u8::from(chunk.last)],
    ];
    parts.into_iter().fold(0, crc32c::crc32c_append)
}

fn sum_of_reply(reply: &SnapshotReply) -> u32 {
    let position = reply.resume_after.clone().unwrap_or_default();
    let parts = [
        &position.keyspace.to_le_bytes()[..],
        &position.key,
        &[u8::from(reply.complete)],
    ];
    parts.into_iter().fold(0, crc32c::crc32c_append)
}

fn seal(hello: Vec<u8>, batch: Vec<u8>) -> Envelope {
    let mut envelope = Envelope {
        hello: hello.into(),
        batch: batch.into(),
        ..Envelope::default()
    };
    envelope.crc = sum_of(&envelope);
    envelope
}

pub fn wrap(batch: &Batch) -> Envelope {
    wrap_call(None, batch)
}

pub fn wrap_hello(hello: &Hello) -> Envelope {
    seal(hello.encode_to_vec(), Vec::new())
}

/// Wraps the message of a call, together with the handshake, or the message of an answer.
pub fn wrap_call(hello: Option<&Hello>, message: &impl Message) -> Envelope {
    let hello = hello.map(Message::encode_to_vec).unwrap_or_default();
    seal(hello, message.encode_to_vec())
}

/// Checks and unwraps the message of a call or of an answer.
pub fn unwrap_call<M: Message + Default>(envelope: Envelope) -> Result<M, EnvelopeError> {
    check(&envelope)?;
    Ok(M::decode(envelope.batch)?)
}

fn check(envelope: &Envelope) -> Result<(), EnvelopeError> {
    compare(sum_of(envelope), envelope.crc, envelope.batch.len())
}

/// Checks and unwraps the handshake in the first envelope.
pub fn unwrap_hello(envelope: &Envelope) -> Result<Hello, EnvelopeError> {
    check(envelope)?;
    Ok(Hello::decode(envelope.hello.clone())?)
}

/// Checks and unwraps a batch. Payloads are not copied: the batch points into the envelope.
pub fn unwrap(envelope: Envelope) -> Result<Batch, EnvelopeError> {
    unwrap_call(envelope)
}

/// Makes the first chunk of a snapshot.
pub fn announce(hello: &Hello, announcement: &peer::Message) -> SnapshotChunk {
    seal_chunk(SnapshotChunk {
        hello: Bytes::from(hello.encode_to_vec()),
        announcement: Bytes::from(announcement.encode_to_vec()),
        ..SnapshotChunk::default()
    })
}

/// Checks and unwraps the first chunk of a snapshot.
pub fn unwrap_announcement(chunk: &SnapshotChunk) -> Result<(Hello, peer::Message), EnvelopeError> {
    check_chunk(chunk)?;
    let announcement = peer::Message::decode(chunk.announcement.clone())?;
    Ok((Hello::decode(chunk.hello.clone())?, announcement))
}

/// Seals a chunk of any kind.
pub fn seal_chunk(mut chunk: SnapshotChunk) -> SnapshotChunk {
    chunk.crc = sum_of_chunk(&chunk);
    chunk
}

/// Bytes of a record's key and value.
pub fn record_bytes(record: &SnapshotRecord) -> usize {
    record.key.len() + record.value.len()
}

/// Makes chunk `number`, with these records.
pub fn wrap_records(number: u64, records: Vec<SnapshotRecord>, last: bool) -> SnapshotChunk {
    seal_chunk(SnapshotChunk {
        records: Bytes::from(SnapshotRecords { records }.encode_to_vec()),
        number,
        last,
        ..SnapshotChunk::default()
    })
}

/// Checks a chunk of any kind.
pub fn check_chunk(chunk: &SnapshotChunk) -> Result<(), EnvelopeError> {
    compare(sum_of_chunk(chunk), chunk.crc, chunk.records.len())
}

pub fn unwrap_records(chunk: &SnapshotChunk) -> Result<Vec<SnapshotRecord>, EnvelopeError> {
    check_chunk(chunk)?;
    Ok(SnapshotRecords::decode(chunk.records.clone())?.records)
}

fn sum_of_link_reply(reply: &LinkReply) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(reply.version.as_bytes()), &reply.recollection)
}

/// Seals the answer to an empty batch of a link.
pub fn seal_link_reply(version: &str) -> LinkReply {
    let mut reply = LinkReply {
        version: version.into(),
        ..LinkReply::default()
    };
    reply.crc = sum_of_link_reply(&reply);
    reply
}

/// Seals the answer to a handshake.
pub fn seal_handshake(version: &str, recollection: &Recollection) -> LinkReply {
    let mut reply = LinkReply {
        version: version.into(),
        recollection: recollection.encode_to_vec().into(),
        ..LinkReply::default()
    };
    reply.crc = sum_of_link_reply(&reply);
    reply
}

/// Checks an answer on a link.
pub fn check_link_reply(reply: &LinkReply) -> Result<(), EnvelopeError> {
    compare(sum_of_link_reply(reply), reply.crc, reply.version.len())
}

pub fn unwrap_handshake(reply: &LinkReply) -> Result<Recollection, EnvelopeError> {
    check_link_reply(reply)?;
    Ok(Recollection::decode(reply.recollection.clone())?)
}

/// Seals an answer to a snapshot.
pub fn seal_snapshot_reply(mut reply: SnapshotReply) -> SnapshotReply {
    reply.crc = sum_of_reply(&reply);
    reply
}

/// Checks an answer to a snapshot. A wrong resume position would leave a hole in the receiver's state.
pub fn check_snapshot_reply(reply: &SnapshotReply) -> Result<(), EnvelopeError> {
    compare(sum_of_reply(reply), reply.crc, reply.encoded_len())
}

fn compare(found: u32, stated: u32, bytes: usize) -> Result<(), EnvelopeError> {
    if found == stated {
        Ok(())
    } else {
        Err(EnvelopeError::Checksum(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn batch() -> Batch {
        let entry = peer::Entry {
            term: 3,
            index: 4,
            data: "payload".into(),
            ..peer::Entry::default()
        };
        let message = peer::Message {
            to: 1,
            from: 2,
            entries: vec![entry],
            ..peer::Message::default()
        };
        Batch {
            messages: vec![message],
            forwarded_commands: vec!["commands".into()],
            forwarded_member_changes: vec!["a change".into()],
        }
    }

    #[test]
    fn a_batch_survives() {
        assert_eq!(unwrap(wrap(&batch())).expect("sound"), batch());
    }

    #[test]
    fn handshakes_and_answers_are_covered() {
        let hello = Hello {
            incarnation: 7,
            ..Hello::default()
        };
        let mut envelope = wrap_hello(&hello);
        assert_eq!(unwrap_hello(&envelope).expect("sound"), hello);
        let other = Hello {
            incarnation: 6,
            ..Hello::default()
        };
        envelope.hello = Bytes::from(other.encode_to_vec());
        assert!(unwrap_hello(&envelope).is_err());
        let message = peer::Message {
            term: 8,
            ..peer::Message::default()
        };
        let mut chunk = announce(&hello, &message);
        assert_eq!(unwrap_announcement(&chunk).expect("sound"), (hello, message));
        chunk.announcement = Bytes::from(peer::Message::default().encode_to_vec());
        assert!(unwrap_announcement(&chunk).is_err());
        let mut last = wrap_records(1, Vec::new(), true);
        last.last = false;
        assert!(check_chunk(&last).is_err());
        let mut other = wrap_records(1, Vec::new(), true);
        other.number = 2;
        assert!(check_chunk(&other).is_err());
        let mut reply = seal_snapshot_reply(SnapshotReply::default());
        check_snapshot_reply(&reply).expect("sound");
        reply.complete = true;
        assert!(check_snapshot_reply(&reply).is_err());
        let mut reply = seal_link_reply("3");
        check_link_reply(&reply).expect("sound");
        reply.version = "4".into();
        assert!(check_link_reply(&reply).is_err());
        let recollection = Recollection {
            term: 5,
            ..Recollection::default()
        };
        let mut reply = seal_handshake("3", &recollection);
        assert_eq!(unwrap_handshake(&reply).expect("sound"), recollection);
        reply.recollection = Bytes::new();
        assert!(unwrap_handshake(&reply).is_err());
    }

    proptest! {
        #[test]
        fn any_flipped_bit_is_found(place in 0_usize..30, bit in 0_u8..8) {
            let mut envelope = wrap(&batch());
            let mut bytes = envelope.batch.to_vec();
            let place = place % bytes.len();
            bytes[place] ^= 1 << bit;
            envelope.batch = bytes.into();
            prop_assert!(matches!(unwrap(envelope), Err(EnvelopeError::Checksum(_))));
        }

        #[test]
        fn arbitrary_bytes_do_no_harm(bytes: Vec<u8>) {
            let envelope = Envelope { hello: Bytes::new(), crc: crc32c::crc32c(&bytes), batch: bytes.into() };
            let _ = unwrap(envelope);
        }
    }
}
